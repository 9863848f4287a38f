"""Trained models on disk: where they lie and what their cards say, read without loading what computes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import segem
from segem.errors import ModelError
from segem.io.workspace import Workspace
from segem.records.card import NO_CALIBRATION, ModelCard
from segem.records.fault import describe_fault

WEIGHTS, CARD = "weights.safetensors", "model.json"
BUNDLED = Path(segem.__file__).parent / "bundled"
"""The models that come with segem, in a source tree as in an installed package."""


def list_models(workspace: Workspace | None = None) -> list[tuple[str, Path]]:
    """Return (name, folder) of every model of the workspace, newest version first, then of every bundled one.

    Raises
    ------
    ModelError
        When a folder of models cannot be read.
    """
    try:
        return _list_models(workspace)
    except OSError as error:
        raise _unreadable(Path(str(error.filename)), error) from None


def _list_models(workspace: Workspace | None) -> list[tuple[str, Path]]:
    found: list[tuple[str, Path]] = []
    if workspace is not None and workspace.models.is_dir():
        for model in sorted(p for p in workspace.models.iterdir() if p.is_dir() and not p.name.startswith(".")):
            # Hidden folders are versions that are still being written.
            versions = (p for p in model.iterdir() if (p / CARD).is_file() and not p.name.startswith("."))
            found += [(model.name, folder) for folder in sorted(versions, reverse=True)]
    if BUNDLED.is_dir():
        found += [(folder.name, folder) for folder in sorted(BUNDLED.iterdir()) if (folder / CARD).is_file()]
    return found


def read_card(path: Path) -> tuple[ModelCard, str]:
    """Return the card of a model, and the sha256 of its weights and of all in the card that changes the output.

    Raises
    ------
    ModelError
        When a file is missing, the card cannot be read or the weights are not those it was written for.
    """
    try:
        if path.is_file():
            raise ModelError(
                "this is a file, and a model is a folder",
                where=path,
                fix="give a name of `segem models list` or a folder; `segem models import` makes one of a package or "
                "of weights",
            )
        for file in (CARD, WEIGHTS):
            if not (path / file).is_file():
                raise ModelError(
                    f"not a model: {file} is missing",
                    where=path,
                    fix="give a folder made by `segem train` or a name of `segem models list`",
                )
        card = ModelCard.model_validate_json((path / CARD).read_text(encoding="utf-8"))
        weights = hashlib.sha256((path / WEIGHTS).read_bytes()).hexdigest()
    except (ValidationError, UnicodeDecodeError) as error:
        raise ModelError(
            "the model card cannot be read",
            where=path / CARD,
            found=describe_fault(error),
            fix="fetch or train the model again",
        ) from None
    except OSError as error:
        raise _unreadable(path, error) from None
    if weights != card.weights_sha256:
        raise ModelError(
            "the weights are damaged, or not those of the card",
            where=path / WEIGHTS,
            expected=f"sha256 {card.weights_sha256}",
            found=weights,
            fix="fetch or train the model again; `segem models import` takes weights from elsewhere",
        )
    # Scores, licence and provenance may be edited without making another model; what is below may not.
    made_of: dict[str, Any] = {
        "weights": weights,
        "architecture": card.architecture,
        "options": card.options,
        "normalisation": card.normalisation,
    }
    # Left out where it changes nothing: a calibration without effect makes no other model.
    if card.calibration.line != NO_CALIBRATION.line:
        made_of["calibration"] = card.calibration.line
    return card, hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()


def _unreadable(path: Path, error: OSError) -> ModelError:
    return ModelError("a model cannot be read", where=path, found=error, fix="check the rights of its files")
