"""Trains a model on labelled sections and judges it on sections it never saw."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import segem
from segem.config import Device, Manifest, Split, TrainConfig
from segem.errors import ConfigError
from segem.geometry import Box, around
from segem.io.blocks import read_block
from segem.io.files import disk_errors, write_bytes
from segem.io.shards import Array, shape_of
from segem.io.versions import UNJUDGED, new_version, unjudged
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.metrics.iou import Confusion
from segem.kernels.metrics.segmentation import SegmentationSums
from segem.kernels.normalize import zscore
from segem.kernels.threshold import membrane_mask
from segem.learn.artefact import (
    Artefact,
    MeasuredHalo,
    ModelCard,
    Score,
    find_model,
    list_models,
    load_artefact,
    load_net,
    save_artefact,
)
from segem.learn.checkpoint import Checkpoints, checkpoints
from segem.learn.cost import parameter_count
from segem.learn.halo import TOLERANCE, measure_halo
from segem.learn.models.registry import encoder_of, geometry, options_of, recipe, resolved, spec_of
from segem.learn.models.spec import Geometry
from segem.learn.runtimes.choice import choose_device, runtime_identity
from segem.learn.train import Fitted, LabelledSection, Progress, fit, predict_section
from segem.learn.watch import Point
from segem.progress import tell, track
from segem.stages.budget import half_of_the_machine
from segem.stages.lessons import lessons, trained_on
from segem.stages.training_picture import training_picture
from segem.stages.zoo import check_new_name

Range = tuple[int, int]

PICTURE, CURVE = "training.png", "training.json"
"""Beside the weights; the picture of a training that goes on, or was killed, lies in the folder of the model."""

HOW_OFTEN = {"checkpoint_seconds", "checkpoint_steps"}
"""Settings that have no part in what is learned."""


_BYTES_A_PARAMETER = 5 * 4
"""Its value, gradient and average, and two numbers of the optimiser."""


@dataclass(frozen=True)
class TrainResult:
    """A trained model and what it reached."""

    path: Path
    name: str
    steps: int
    minutes: float
    threshold: float
    validation_iou: float
    scores: tuple[Score, ...]


def train(
    manifest: Manifest,
    name: str,
    config: TrainConfig,
    workspace: Workspace,
    *,
    start: str | None = None,
    device: Device = "auto",
    licence: str = "",
    citation: str = "",
    candidate: bool = False,
    progress: bool = True,
) -> TrainResult:
    """Train a model on the ``train`` sections of a manifest and score it on the ``test`` sections.

    A training that was killed goes on from its last checkpoint when it is started again with the same settings, to the
    weights it would have reached; its checkpoints lie beside the models and are removed with the new one in place.

    The threshold is chosen on the ``validation`` sections. Test sections are read only after that, to be scored.

    Parameters
    ----------
    manifest : Manifest
        Labelled volumes; each says its split, or the last fifth of its sections validates.
    name : str
        Name of the new model.
    config : TrainConfig
        Architecture, budget and seed.
    workspace : Workspace
        Where volumes are ingested and the model is written.
    start : str, optional
        Name or folder of a model to go on from, whose architecture is then taken but for ``context_sections``; the card
        names it and all it learned from.
    device : {"auto", "cpu", "cuda", "mps"}
        Where to compute.
    licence : str
        Licence of the weights, for the card.
    citation : str
        What to cite when the model is used, for the card.
    candidate : bool
        Whether the model is to be judged before its name may mean it. A candidate that the very same training has left
        unjudged is returned, and nothing is trained.
    progress : bool
        Whether to draw progress bars.

    Returns
    -------
    TrainResult

    Raises
    ------
    ConfigError
        When the name is taken, the architecture is not that of `start`, a volume has no labels or a split does not fit
        it, or weights to start from are given twice.
    InputError
        When sources or labels are bad.
    WorkspaceError
        When a section of a volume is lost or damaged on disk, the disk refuses, or the very same training is running.
    ModelError
        When the loss is no longer finite, or pretrained weights cannot be had or do not fit.
    """
    check_new_name(name)
    if start is not None and config.pretrained is not None:
        raise ConfigError(
            "a model to go on from has weights already",
            where=start,
            found=f"pretrained {config.pretrained}",
            fix="give either --from or --pretrained",
        )
    before = find_model(start, workspace) if start is not None else None
    if before is not None:
        if "model" in config.model_fields_set and config.model != before.card.architecture:
            raise ConfigError(
                "a model to go on from has its architecture already",
                where=start,
                expected=f"--model {before.card.architecture}",
                found=f"--model {config.model}",
                fix="leave --model out, or train from scratch without --from",
            )
        # Of the architecture, only the number of sections seen at once may differ from the model that is gone on from.
        other = sorted(set(config.architecture) - {"context_sections"})
        if other:
            raise ConfigError(
                "a model to go on from has its architecture already",
                where=start,
                found=f"another {', '.join(other)}",
                fix="leave these options out, or train from scratch without --from",
            )
        architecture = before.card.options | config.architecture
        config = config.model_copy(update={"model": before.card.architecture, "architecture": architecture})
    config = recipe(config)
    if config.freeze is not None:
        encoder_of(config.model)
        if start is None and config.pretrained is None:
            raise ConfigError(
                "an encoder that has learned nothing cannot be frozen",
                where=config.model,
                fix="give --from or --pretrained, or leave out --freeze",
            )
    _require_memory(config, device)
    volumes, splits = lessons(manifest, workspace, progress)
    shape = geometry(config.model, config.architecture)
    context = shape.context_sections
    learned, validation = [], []
    for volume, split in splits.items():
        learned += labelled_sections(volumes[volume], (split.train.start, split.train.stop), context, split.weight)
        validation += labelled_sections(volumes[volume], (split.validation.start, split.validation.stop), context)
    home = workspace.models / name
    # The sections that validate have no part in the weights, but in the threshold.
    made_by = _digest(config, before, learned + validation) if candidate else ""
    left = unjudged([folder for _, folder in list_models(workspace) if folder.parent == home], made_by)
    if left is not None:
        tell(f"{left}: trained already, but not yet judged")
        return _result(load_artefact(left))
    folder = home / f".training-{_digest(config, before, learned)[:16]}"
    with checkpoints(folder, config.checkpoint_seconds, config.checkpoint_steps) as kept:
        fitted = _fit(config, before, learned, validation, kept, device, progress)
        scores = tuple(
            _score(fitted, volumes[volume], (split.test.start, split.test.stop), context, device, progress)
            for volume, split in splits.items()
            if split.test is not None
        )
        card = ModelCard(
            name=name,
            architecture=config.model,
            options=resolved(config.model, config.architecture),
            threshold=fitted.threshold,
            halo=_halo(config.model, fitted, shape, volumes, splits),
            trained_on=trained_on(volumes, splits) + (before.card.trained_on if before is not None else ()),
            scores=scores,
            training=config.model_dump(mode="json", exclude=HOW_OFTEN)
            | {
                "from": {"digest": before.digest, "training": before.card.training} if before is not None else None,
                "steps": fitted.steps,
                "minutes": round(fitted.minutes, 1),
                "final_loss": round(fitted.final_loss, 4),
                "validation_iou": round(fitted.validation_iou, 4),
            },
            licence=licence,
            citation=citation,
            versions={
                "segem": segem.__version__,
                "runtime": runtime_identity("torch", choose_device(device)),
                "python": platform.python_version(),
            },
        )
        beside = {UNJUDGED: made_by.encode()} if candidate else {}
        found = predict_section(fitted.net, validation[0].image, choose_device(device))
        beside[PICTURE] = training_picture(validation[0], found, fitted.points)
        beside[CURVE] = json.dumps([point.model_dump() for point in fitted.points], indent=2).encode()
        made = save_artefact(new_version(home), card, fitted.net, beside)
        with disk_errors(home):
            (home / PICTURE).unlink(missing_ok=True)
        return _result(made)


def _result(artefact: Artefact) -> TrainResult:
    card = artefact.card
    facts = {key: card.training[key] for key in ("steps", "minutes", "validation_iou")}
    return TrainResult(path=artefact.path, name=card.name, threshold=card.threshold, scores=card.scores, **facts)


def _require_memory(config: TrainConfig, device: Device) -> None:
    """Raise before anything is read where not even the weights of a net fit the machine."""
    count = parameter_count(spec_of(config.model), options_of(config.model, config.architecture))
    needed, there = count * _BYTES_A_PARAMETER, 2 * half_of_the_machine()
    if choose_device(device).type == "cpu" and needed > there:
        raise ConfigError(
            "the net is too large for this machine",
            where=config.model,
            expected=f"at most {there / 1e9:.1f} GB while it is trained",
            found=f"{needed / 1e9:.1f} GB for {count:,} parameters",
            fix="choose smaller values for the options of the architecture (`segem models show` lists them)",
        )


def _digest(config: TrainConfig, before: Artefact | None, sections: list[LabelledSection]) -> str:
    """Return the sha256 of all that decides what a training learns: settings, first weights, sections, code."""
    pretrained = Path(config.pretrained) if config.pretrained is not None else None
    made_of = {
        "config": config.model_dump(mode="json", exclude=HOW_OFTEN),
        "from": before.digest if before is not None else None,
        "pretrained": sha256(pretrained.read_bytes()).hexdigest() if pretrained and pretrained.is_file() else None,
        "versions": [segem.__version__, runtime_identity("torch", choose_device("cpu"))],
    }
    digest = sha256(json.dumps(made_of, sort_keys=True).encode())
    for section in sections:
        digest.update(json.dumps([section.volume, section.weight, section.image.shape]).encode())
        digest.update(np.ascontiguousarray(section.image).data)
        digest.update(np.ascontiguousarray(section.truth).data)
    return digest.hexdigest()


def _fit(
    config: TrainConfig,
    before: Artefact | None,
    learned: list[LabelledSection],
    validation: list[LabelledSection],
    kept: Checkpoints,
    device: Device,
    progress: bool,
) -> Fitted:
    with track(f"train {config.model}", 1000, "permille", progress) as advance:
        done = 0

        def show(now_at: Progress) -> None:
            nonlocal done
            permille = int(1000 * now_at.fraction)
            iou = "" if now_at.validation_iou is None else f", validation IoU {now_at.validation_iou:.3f}"
            advance(permille - done, f"loss {now_at.loss:.3f}{iou}")
            done = permille

        def draw(probability: NDArray[np.float32], points: Sequence[Point]) -> None:
            write_bytes(kept.folder.parent / PICTURE, training_picture(validation[0], probability, points))

        start = load_net(before, config.architecture) if before is not None else None
        return fit(
            learned,
            validation,
            config,
            start=start,
            device=choose_device(device),
            on_step=show,
            on_look=draw,
            kept=kept,
        )


def _halo(
    model: str, fitted: Fitted, shape: Geometry, volumes: dict[str, Volume], splits: dict[str, Split]
) -> MeasuredHalo | None:
    """Measure the context a net needs, on noise and on one section of each volume, where its architecture is silent."""
    if shape.halo_px is not None or spec_of(model).sees_all:
        return None
    firsts = {name: (split.validation.start, split.validation.start + 1) for name, split in splits.items()}
    context = shape.context_sections
    seen = [s.image for name, first in firsts.items() for s in labelled_sections(volumes[name], first, context)]
    px = measure_halo(fitted.net, shape.stride_px, context, TOLERANCE, sections=seen)
    return None if px is None else MeasuredHalo(px=px, tolerance=TOLERANCE)


def labelled_sections(
    volume: Volume, sections: Range, context: int, weight: float = 1.0, seen: Range | None = None
) -> list[LabelledSection]:
    """Read sections with their neighbours; beyond what may be `seen`, by default the sections, the last one repeats.

    So no image of one part of a split is ever learned from in another.
    """
    truth, (first, stop) = volume.label("truth"), seen or sections
    reach = range(max(first, sections[0] - context // 2), min(stop, sections[1] + context // 2))
    images = {z: zscore(_section(volume.raw, z, volume.name), volume.statistics) for z in reach}
    return [
        LabelledSection(
            volume.name,
            np.stack([images[min(max(z + dz, first), stop - 1)] for dz in around(context)]),
            _section(truth, z, volume.name),
            weight,
        )
        for z in range(*sections)
    ]


def _section(array: Array, z: int, volume: str) -> NDArray[Any]:
    _, height, width = shape_of(array)
    box = Box((z, 0, 0), (z + 1, height, width))
    return read_block(array, box, f"run `segem ingest` for {volume} with --again").reshape(height, width)


def _score(fitted: Fitted, volume: Volume, sections: Range, context: int, device: Device, progress: bool) -> Score:
    confusion, sums = Confusion(), SegmentationSums.nothing()
    with track(f"test {volume.name}", sections[1] - sections[0], "section", progress) as advance:
        for section in labelled_sections(volume, sections, context, seen=(0, volume.shape[0])):
            # The same 8 bits that a run stores and the neighbours it sees, so these are the scores a report will show.
            stored = np.rint(predict_section(fitted.net, section.image, choose_device(device)) * 255).astype(np.uint8)
            confusion += Confusion.count(section.truth, membrane_mask(stored, fitted.threshold))
            sums += SegmentationSums.count(section.truth, stored)
            advance(1)
    rand, information = sums.best("rand"), sums.best("information")
    return Score(
        volume=volume.name,
        sections=sections,
        iou=round(confusion.iou, 4),
        v_rand=round(rand.value, 4) if rand else None,
        v_info=round(information.value, 4) if information else None,
    )
