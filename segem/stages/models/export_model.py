"""Writes a model as a bioimage.io package, which others can run without segem."""

from __future__ import annotations

import hashlib
import io
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from segem.config import SynthConfig
from segem.errors import ConfigError, ModelError
from segem.io.files import disk_errors
from segem.io.package import DESCRIPTION, refuse_existing, write_package
from segem.io.workspace import Workspace
from segem.kernels.normalize import IntensityStatistics, histogram, zscore
from segem.kernels.pictures import draw_overlay, stretch_contrast
from segem.kernels.synth import synthesize
from segem.learn.artefact import CARD, WEIGHTS, Artefact, find_model, geometry_of, load_net
from segem.learn.exchange import torch_version, write_torchscript
from segem.learn.predict import predict_section
from segem.stages.models.description import (
    COVER,
    INPUT,
    OUTPUT,
    README,
    RECORD,
    describe_package,
    find_least_px,
    parse_spdx,
    render_readme,
)

_TESTED_PX, _COVER_PX = 256, 256


@dataclass(frozen=True)
class ExportedModel:
    """A written package."""

    path: Path
    name: str
    digest: str
    """Of the model, as `segem models show` has it."""


def export_model(
    name: str,
    out: Path,
    workspace: Workspace,
    *,
    licence: str = "",
    authors: tuple[str, ...] = (),
    force: bool = False,
) -> ExportedModel:
    """Write a model as a package of bioimage.io.

    Parameters
    ----------
    name : str
        Name or folder of the model.
    out : Path
        The zip to make; whole or absent.
    workspace : Workspace
        Where its name is looked for.
    licence : str
        SPDX identifier, where the card has none.
    authors : tuple of str
        Whom users of the model may ask.
    force : bool
        Replace a file that is there.

    Raises
    ------
    ConfigError
        When `out` exists, or the card names another licence.
    ModelError
        When there is no such model, it is damaged, names no licence or cannot be recorded.
    WorkspaceError
        When the disk refuses.
    """
    refuse_existing(out, force)
    model = find_model(name, workspace)
    terms = _terms(model, licence)
    net, geometry = load_net(model), geometry_of(model.card)
    edge = max(find_least_px(geometry), _TESTED_PX)
    image = synthesize(SynthConfig(shape=(geometry.context_sections, edge, edge))).image
    statistics = IntensityStatistics.from_histogram(histogram(image))
    probability = predict_section(net, zscore(image, statistics))
    with disk_errors(Path(tempfile.gettempdir())), tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for file in (WEIGHTS, CARD):
            shutil.copyfile(model.path / file, folder / file)
        write_torchscript(folder / RECORD, net, geometry.context_sections)
        np.save(folder / INPUT, image[None].astype(np.float32), allow_pickle=False)
        np.save(folder / OUTPUT, probability[None, None], allow_pickle=False)
        (folder / COVER).write_bytes(_cover(image[len(image) // 2], probability >= model.card.threshold))
        (folder / README).write_text(render_readme(model, terms), encoding="utf-8")
        sha256 = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}
        said = describe_package(model, terms, authors, sha256, torch_version())
        (folder / DESCRIPTION).write_text(yaml.safe_dump(said, sort_keys=False, width=120), encoding="utf-8")
        write_package(folder, out, force=force)
    return ExportedModel(out, model.card.name, model.digest)


def _terms(model: Artefact, licence: str) -> str:
    if not licence:
        return parse_spdx(model.card.licence)
    terms = parse_spdx(licence)
    with suppress(ModelError):  # a card that names no licence, or none of SPDX, speaks against nothing
        if terms != parse_spdx(model.card.licence):
            raise ConfigError(
                "the card of the model names another licence",
                where=model.path / CARD,
                expected=model.card.licence,
                found=licence,
                fix="leave --licence out; where you may give the weights on other terms, correct the card first",
            )
    return terms


def _cover(section: NDArray[np.uint8], membrane: NDArray[np.bool_]) -> bytes:
    """Return a picture of the synthetic section beside the model's output for it."""
    window = (slice(_COVER_PX), slice(_COVER_PX))
    raw = stretch_contrast(section[window], 0, 255)
    picture = np.concatenate([np.repeat(raw[..., None], 3, axis=-1), draw_overlay(raw, membrane[window])], axis=1)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
