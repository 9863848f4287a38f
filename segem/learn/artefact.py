"""A trained model on disk: ``weights.safetensors`` and ``model.json``, never a pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from segem.errors import ConfigError, ModelError
from segem.io.files import disk_errors, locked, new_directory, write_bytes, write_text
from segem.io.models import CARD as CARD
from segem.io.models import WEIGHTS as WEIGHTS
from segem.io.models import list_models as list_models
from segem.io.models import read_card
from segem.io.versions import describe_standing, find_version_in_use, name_new_version
from segem.io.workspace import Workspace
from segem.learn.calibrated import calibrated
from segem.learn.models.registry import ZOO, build, geometry
from segem.learn.models.spec import Geometry
from segem.learn.tensors import check_finite, write_tensors
from segem.learn.widen import widened
from segem.records.card import ModelCard
from segem.records.run import ModelRecord


def geometry_of(card: ModelCard) -> Geometry:
    """Return stride, halo and context of a model: its architecture's, and the measured halo where that has none."""
    found = geometry(card.architecture, card.options)
    if found.halo_px is None and card.halo is not None:
        return replace(found, halo_px=card.halo.px)
    return found


def cited_once(*citations: str) -> str:
    """Join the citations of cards, each source once.

    Examples
    --------
    >>> cited_once("Bob 2026", "", "Bob 2026; Ada 2026")
    'Bob 2026; Ada 2026'
    """
    return "; ".join(dict.fromkeys(part for text in citations for part in text.split("; ") if part))


@dataclass(frozen=True)
class Artefact:
    """A model found on disk, its weights not yet loaded."""

    path: Path
    card: ModelCard
    digest: str
    """sha256 of the weights and of all in the card that changes the output."""


def save_artefact(
    directory: Path, card: ModelCard, net: nn.Module, beside: Mapping[str, bytes] | None = None
) -> Artefact:
    """Write a model as a new directory, whole or not at all.

    Parameters
    ----------
    directory : Path
        Folder to write; an older artefact there is replaced.
    card : ModelCard
        What it is.
    net : Module
        Its weights.
    beside : mapping of str to bytes, optional
        Names and contents of further files.

    Returns
    -------
    Artefact

    Raises
    ------
    ModelError
        When weights are NaN or infinite; nothing is written then.
    WorkspaceError
        When the disk refuses.
    """
    state = net.state_dict()
    check_finite(state, directory)
    with disk_errors(directory):
        directory.parent.mkdir(parents=True, exist_ok=True)
    with new_directory(directory) as partial:
        write_tensors(partial / WEIGHTS, state)
        for name, content in (beside or {}).items():
            write_bytes(partial / name, content)
        # Of the file as it is on disk, so that a damaged or exchanged one is recognised when it is loaded.
        weights = hashlib.sha256((partial / WEIGHTS).read_bytes()).hexdigest()
        card = card.model_copy(update={"weights_sha256": weights})
        write_text(partial / CARD, json.dumps(card.model_dump(mode="json"), indent=2) + "\n")
    return load_artefact(directory)


def save_version(model: Path, card: ModelCard, net: nn.Module, beside: Mapping[str, bytes] | None = None) -> Artefact:
    """Write a new version into the folder of a model, under a name that no process writing at the same time gets.

    Raises
    ------
    ModelError, WorkspaceError
        As for `save_artefact`.
    """
    with locked(model / ".version.lock", wait=True):
        return save_artefact(name_new_version(model), card, net, beside)


def load_artefact(path: Path) -> Artefact:
    """Read the card of a model and digest its weights.

    Raises
    ------
    ModelError
        When a file is missing, the card cannot be read or it does not belong to the weights.
    """
    card, digest = read_card(path)
    try:
        geometry_of(card)
    except ConfigError as error:
        raise ModelError(
            "the model card does not fit this version",
            where=path / CARD,
            found=error,
            fix="use the version of segem that the card names, or train the model again",
        ) from None
    return Artefact(path, card, digest)


def load_net(artefact: Artefact, architecture: dict[str, Any] | None = None, *, calibrate: bool = True) -> nn.Module:
    """Build the net of an artefact and fill in its weights.

    Parameters
    ----------
    artefact : Artefact
        The model.
    architecture : dict, optional
        Options to build it with, which may differ from its own in ``context_sections``: the net then has the same
        output as before, until it is trained to use the new sections.
    calibrate : bool
        Whether its logits shall be calibrated as the card says; a training starts from those that are not.

    Returns
    -------
    Module
        In evaluation mode.

    Raises
    ------
    ModelError
        When the weights are damaged, belong to another architecture or hold NaN or infinity.
    """
    where = artefact.path / WEIGHTS
    try:
        state = load_file(where)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(
            "the weights cannot be read",
            where=where,
            expected="a safetensors file",
            found=error,
            fix="fetch or train the model again",
        ) from None
    net = build(artefact.card.architecture, artefact.card.options if architecture is None else architecture)
    if architecture is not None:
        state = widened(state, net)
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise ModelError(
            "the weights do not fit the architecture",
            where=where,
            expected=artefact.card.architecture,
            found=first[:160],
            fix="fetch or train the model again",
        ) from None
    # At every load: some runtimes turn NaN into zero, which would pass for a prediction.
    check_finite(state, where)
    return calibrated(net.eval(), artefact.card.calibration) if calibrate else net.eval()


def find_model(name: str, workspace: Workspace | None = None) -> Artefact:
    """Find a model by path, or by name in the workspace or among the bundled ones.

    Of several versions in the workspace it is the promoted one, or else the newest that was not kept aside.

    Raises
    ------
    ModelError
        When there is none, and the message lists what there is; or when every version was kept aside.
    """
    if "/" in name:
        return load_artefact(Path(name))
    at_hand = list_models(workspace)
    found = [folder for known, folder in at_hand if known == name]
    versions = [folder for folder in found if workspace is not None and folder.parent == workspace.models / name]
    chosen = find_version_in_use(versions) or next((folder for folder in found if folder not in versions), None)
    if chosen is not None:
        return load_artefact(chosen)
    if versions:
        raise ModelError(
            "every version of this model was kept aside",
            where=name,
            found=describe_standing(versions[0]),
            fix="give the path of a version's folder to use it all the same, or `segem models promote` another one",
        )
    if Path(name).is_file():
        return load_artefact(Path(name))
    known = ", ".join(sorted({known for known, _ in at_hand})) or "none"
    if name in ZOO:
        raise ModelError(
            "this is an architecture, which has learned nothing yet, and no trained model",
            where=name,
            found=f"trained models: {known}",
            fix=f"choose one of these, or train one: `segem train MANIFEST --model {name} --out NAME`",
        )
    raise ModelError(
        "no such model",
        where=name,
        found=f"known: {known}",
        fix="choose one of `segem models list` or give a folder's path",
    )


def model_record(artefact: Artefact) -> ModelRecord:
    """Return what a run notes of the model in use."""
    return ModelRecord(name=artefact.card.name, digest=artefact.digest)
