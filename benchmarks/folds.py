"""Sections of real tissue that no model has seen: contiguous folds, each predicted by a model of the other folds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from judged import seen, trained
from numpy.typing import NDArray

from segem.config import Manifest, TrainConfig, VolumeEntry, load_manifest
from segem.io.layers import read_section
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.metrics.divisions import choose_limit
from segem.kernels.threshold import quantize_probability
from segem.learn.artefact import Artefact, geometry_of, load_net
from segem.learn.engine import Engine, choose_device
from segem.stages.training.train import train
from segem.stages.volumes.ingest import ingest

MANIFEST = Path(__file__).resolve().parent.parent / "data" / "manifests" / "all.yaml"
CUTS = {"isbi": (0, 6, 12, 18, 24), "stack1": (0, 3, 5, 8, 10), "ac4": (0, 6, 12, 18, 24)}
"""Where the folds of each volume begin and end."""
MODELS = {"fly": ("isbi", "stack1"), "ac4": ("ac4",)}
"""What is trained together."""
FOLDS = range(4)


@dataclass(frozen=True, eq=False)
class HeldOut:
    """A section, its probability by a model that was not trained on its fold, and what this model chose elsewhere."""

    volume: str
    fold: int
    section: int
    truth: NDArray[np.uint8]
    probability: NDArray[np.uint8]
    threshold: float
    limit: float
    """Mean probability of a border below which two basins are one cell."""
    pixel_nm: tuple[float, float]


def predict_folds(data_root: Path, work: Workspace, minutes: float) -> Iterator[HeldOut]:
    """Yield all sections; models and probabilities that the workspace lacks are made, `minutes` for each training."""
    work.prepare()
    volumes = {
        entry.name: Volume.open(ingest(entry.ingest_config(), work).path)
        for entry in load_manifest(MANIFEST, data_root).volumes
        if entry.name in CUTS
    }
    for name in MODELS:
        for fold in FOLDS:
            yield from _predict_fold(name, fold, model_of(name, fold, minutes, data_root, work), volumes, work)


def entries(names: tuple[str, ...], fold: int, data_root: Path) -> Iterator[VolumeEntry]:
    """Yield the sections of volumes before and after a fold as entries of a manifest to train on."""
    for entry in load_manifest(MANIFEST, data_root).volumes:
        if entry.name not in names:
            continue
        start, stop = CUTS[entry.name][fold : fold + 2]
        for side, (first, last) in {"a": (0, start), "b": (stop, CUTS[entry.name][-1])}.items():
            held = max(1, (last - first) // 6)
            # The sections furthest from the fold validate.
            cut = last - held if side == "b" else first + held
            split = {"train": [first, cut], "validation": [cut, last]}
            if side == "a":
                split = {"train": [cut, last], "validation": [first, cut]}
            if last - first >= 2:
                weight = {"weight": 2} if entry.name == "isbi" else {}
                changes = {"name": f"{entry.name}-{fold}{side}", "split": split | weight}
                yield VolumeEntry.model_validate(entry.model_dump(exclude_unset=True) | changes)


def model_of(name: str, fold: int, minutes: float, data_root: Path, work: Workspace) -> Artefact:
    """Return the model of a fold, trained now unless it is there."""
    known = trained(f"{name}-{fold}", work)
    if known is None:
        manifest = Manifest(name=f"{name}-{fold}", volumes=tuple(entries(MODELS[name], fold, data_root)))
        config = TrainConfig(model="unet", architecture={"context_sections": 3}, minutes=minutes)
        train(manifest, f"{name}-{fold}", config, work)
        known = trained(f"{name}-{fold}", work)
    assert known is not None
    return known


def predicted(model: Artefact, volume: Volume, sections: list[int], work: Workspace) -> dict[int, NDArray[np.uint8]]:
    """Return the probability of sections as a run stores it, predicted once."""
    kept = work.root / "probabilities" / f"{model.card.name}-{model.digest[:12]}-{volume.name}.npz"
    if not kept.is_file():
        kept.parent.mkdir(exist_ok=True)
        stride_px, context = geometry_of(model.card).stride_px, geometry_of(model.card).context_sections
        with Engine(load_net(model), choose_device("auto"), context) as engine:
            found = {
                str(z): quantize_probability(*engine.averaged([seen(volume, z, context)], stride_px)) for z in sections
            }
        np.savez(kept, **found)
    with np.load(kept) as held:
        return {z: held[str(z)] for z in sections}


def _predict_fold(
    name: str, fold: int, model: Artefact, volumes: dict[str, Volume], work: Workspace
) -> Iterator[HeldOut]:
    card, truths, found = model.card, {}, {}
    chosen: list[tuple[str, int]] = []
    for one in MODELS[name]:
        test = range(*CUTS[one][fold : fold + 2])
        chose = [z for used in card.trained_on if used.volume.startswith(one) for z in range(*used.validation)]
        learned = {z for used in card.trained_on if used.volume.startswith(one) for z in range(*used.train)}
        if not learned or {*chose, *learned} & set(test):
            raise SystemExit(f"{card.name} is not a model of fold {fold} of {one}")
        found[one] = predicted(model, volumes[one], [*chose, *test], work)
        truths[one] = {z: read_section(volumes[one].label("truth"), z) for z in found[one]}
        chosen += [(one, z) for z in chose]
    limit = choose_limit((one, truths[one][z], found[one][z]) for one, z in chosen)
    assert limit is not None
    print(f"{card.name} {model.digest[:12]}: threshold {card.threshold:.3f}, cells from {limit:.3f}", flush=True)
    for one in MODELS[name]:
        _, *pixel_nm = volumes[one].voxel_size.zyx
        for z in range(*CUTS[one][fold : fold + 2]):
            yield HeldOut(
                one, fold, z, truths[one][z], found[one][z], card.threshold, limit, (pixel_nm[0], pixel_nm[1])
            )
