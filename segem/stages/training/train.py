"""Trains a model on labelled sections and judges it on sections it never saw."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import segem
from segem.config import Device, Manifest, Split, TrainConfig
from segem.errors import ConfigError
from segem.geometry import Range
from segem.io.files import disk_errors, write_bytes
from segem.io.versions import UNJUDGED, unjudged
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.learn.artefact import (
    Artefact,
    cited_once,
    find_model,
    geometry_of,
    load_artefact,
    load_net,
    save_artefact,
    save_version,
)
from segem.learn.checkpoint import Checkpoints, checkpoints
from segem.learn.halo import TOLERANCE, measure_halo
from segem.learn.models.registry import encoder_of, geometry, recipe, resolved, side_outputs, spec_of
from segem.learn.models.spec import Geometry
from segem.learn.pieces import in_pieces
from segem.learn.runtimes.choice import choose_device, training_runtime
from segem.learn.sections import LabelledSection
from segem.learn.train import Fitted, Progress, fit, predict_section
from segem.learn.watch import Point
from segem.progress import Part, tell, track
from segem.records.card import MeasuredHalo, ModelCard, Score
from segem.stages.models.zoo import check_new_name, tell_if_not_in_use
from segem.stages.segmentation.budget import require_training_memory
from segem.stages.training.gate.polarity import warn_of_polarity
from segem.stages.training.labelled import (
    check_apart,
    has_learned,
    labelled_sections,
    lessons,
    require_memory_of_sections,
    trained_on,
)
from segem.stages.training.pictures import training_picture
from segem.stages.training.score import score

PICTURE, CURVE = "training.png", "training.json"
"""Beside the weights; the picture of a training that goes on, or was killed, lies in the folder of the model."""

HOW_OFTEN = {"checkpoint_seconds", "checkpoint_steps"}
"""Settings that have no part in what is learned."""


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


@dataclass(frozen=True)
class Course:
    """All that a model is made from."""

    config: TrainConfig
    """With the architecture, batch and learning rate filled in."""
    before: Artefact | None
    """The model that is gone on from."""
    volumes: dict[str, Volume]
    splits: dict[str, Split]
    taught: dict[str, Range]
    """The sections to learn from, of the volumes that teach: those of the splits, or fewer."""


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
    replace: bool = False,
) -> TrainResult:
    """Train a model on the ``train`` sections of a manifest and score it on the ``test`` sections.

    A training that was killed goes on from its last checkpoint when it is started again with the same settings, to the
    weights it would have reached; its checkpoints lie beside the models and are removed with the new one in place.

    Calibration is fitted and the threshold chosen on the ``validation`` sections. Test sections are read only after
    that, to be scored.

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
        Licence of the weights, for the card; that of the model that is gone on from if empty.
    citation : str
        What to cite when the model is used, for the card; what that model has there is cited too.
    candidate : bool
        Whether the model is to be judged before its name may mean it. A candidate that the very same training has left
        unjudged is returned, and nothing is trained.
    replace : bool
        Whether volumes of these names that have another source, voxel size or labels are lost, and made anew.

    Returns
    -------
    TrainResult

    Raises
    ------
    ConfigError
        When the name is taken, the architecture is not that of `start`, a volume has no labels or a split does not fit
        it, weights to start from are given twice, or sections that would calibrate or score were learned from.
    InputError
        When sources or labels are bad.
    WorkspaceError
        When a section of a volume is lost or damaged on disk, the disk refuses, or the very same training is running.
    ModelError
        When the loss is no longer finite, or pretrained weights cannot be had or do not fit.
    """
    check_new_name(name)
    course = prepare(manifest, config, workspace, start=start, device=device, replace=replace)
    made = learn(
        course,
        name,
        workspace.models / name,
        device=device,
        licence=licence,
        citation=citation,
        candidate=candidate,
    )
    if not candidate:
        tell_if_not_in_use(made.path)
    return _result(made)


def prepare(
    manifest: Manifest,
    config: TrainConfig,
    workspace: Workspace,
    *,
    start: str | None = None,
    device: Device = "auto",
    replace: bool = False,
) -> Course:
    """Ingest the labelled volumes of a manifest and settle how a model is made from them; see `train`."""
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
        seen = geometry_of(before.card).context_sections
        if architecture.get("context_sections", seen) < seen:
            raise ConfigError(
                "a model to go on from can learn to see more sections at once, not fewer",
                where=start,
                expected=f"--context-sections {seen} or more",
                found=architecture["context_sections"],
                fix="leave --context-sections out, or train from scratch without --from",
            )
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
    if config.deep_supervision:
        side_outputs(config.model, config.architecture)
    require_training_memory(config, device)
    volumes, splits = lessons(manifest, workspace, replace)
    require_memory_of_sections(volumes, splits)
    for name, split in splits.items():
        warn_of_polarity(volumes[name], range(split.train.start, split.train.stop))
    taught = {volume: (split.train.start, split.train.stop) for volume, split in splits.items()}
    return Course(config, before, volumes, splits, taught)


def learn(
    course: Course,
    name: str,
    home: Path,
    *,
    version: str | None = None,
    device: Device = "auto",
    licence: str = "",
    citation: str = "",
    candidate: bool = False,
    on_step: Callable[[Progress], None] | None = None,
) -> Artefact:
    """Train a model, score it on the test sections and put it into the folder `home`; see `train`.

    Its folder there is called `version`, or else by the time. `on_step` is told how far the training is.
    """
    config, before, volumes, splits = course.config, course.before, course.volumes, course.splits
    check_apart(volumes, splits, course.taught, before)
    shape = geometry(config.model, config.architecture)
    context = shape.context_sections
    learned, validation = [], []
    for volume, split in splits.items():
        if volume in course.taught:
            sections = course.taught[volume]
            known = split.rehearsed and before is not None and has_learned(before.card, volumes[volume], sections)
            if split.rehearsed and not known:
                tell(f"{volume}: no model is gone on from that has learned it, so its labels alone are rehearsed")
            learned += labelled_sections(volumes[volume], sections, context, split.weight, rehearsed=known)
        validation += labelled_sections(volumes[volume], (split.validation.start, split.validation.stop), context)
    # The sections that validate have no part in the weights, but in the threshold.
    made_by = training_digest(config, before, learned + validation) if candidate else ""
    left = unjudged(sorted(home.glob("[!.]*/"), reverse=True), made_by) if candidate else None
    if left is not None:
        tell(f"{left}: trained already, but not yet judged")
        return load_artefact(left)
    folder = home / f".training-{training_digest(config, before, learned)[:16]}"
    with checkpoints(folder, config.checkpoint_seconds, config.checkpoint_steps) as kept:
        fitted = _fit(config, before, learned, validation, kept, device, on_step)
        predict = partial(predict_section, in_pieces(fitted.calibrated_net, shape), device=choose_device(device))
        scores = tuple(
            score(predict, fitted.threshold, volumes[volume], split.test, context)
            for volume, split in splits.items()
            if split.test is not None
        )
        unused = set() if any(section.rehearsed for section in learned) else {"remember"}
        card = ModelCard(
            name=name,
            architecture=config.model,
            options=resolved(config.model, config.architecture),
            calibration=fitted.calibration,
            threshold=fitted.threshold,
            halo=_halo(config.model, fitted, shape, volumes, splits),
            trained_on=trained_on(volumes, splits, course.taught)
            + (before.card.trained_on if before is not None else ()),
            scores=scores,
            training=config.model_dump(mode="json", exclude=HOW_OFTEN | unused)
            | {
                "from": {"digest": before.digest, "training": before.card.training} if before is not None else None,
                "steps": fitted.steps,
                "minutes": round(fitted.minutes, 1),
                "final_loss": round(fitted.final_loss, 4),
                "validation_iou": round(fitted.validation_iou, 4),
            },
            # What a model is made of keeps its terms, and is cited with it.
            licence=licence or (before.card.licence if before is not None else ""),
            citation=cited_once(citation, before.card.citation if before is not None else ""),
            versions={
                "segem": segem.__version__,
                "runtime": training_runtime(choose_device(device)),
                "python": platform.python_version(),
            },
        )
        beside = {UNJUDGED: made_by.encode()} if candidate else {}
        found = predict(validation[0].image)
        beside[PICTURE] = training_picture(validation[0], found, fitted.points)
        beside[CURVE] = json.dumps([point.model_dump() for point in fitted.points], indent=2).encode()
        saved = partial(save_artefact, home / version) if version else partial(save_version, home)
        made = saved(card, fitted.net, beside)
        with disk_errors(home):
            (home / PICTURE).unlink(missing_ok=True)
    return made


def _result(artefact: Artefact) -> TrainResult:
    card = artefact.card
    facts = {key: card.training[key] for key in ("steps", "minutes", "validation_iou")}
    return TrainResult(path=artefact.path, name=card.name, threshold=card.threshold, scores=card.scores, **facts)


def training_digest(config: TrainConfig, before: Artefact | None, sections: list[LabelledSection]) -> str:
    """Return the sha256 of all that decides what a training learns: settings, first weights, sections, code."""
    pretrained = Path(config.pretrained) if config.pretrained is not None else None
    made_of = {
        "config": config.model_dump(mode="json", exclude=HOW_OFTEN),
        "from": before.digest if before is not None else None,
        "pretrained": sha256(pretrained.read_bytes()).hexdigest() if pretrained and pretrained.is_file() else None,
        "versions": [segem.__version__, training_runtime(choose_device("cpu"))],
    }
    digest = sha256(json.dumps(made_of, sort_keys=True).encode())
    for section in sections:
        digest.update(json.dumps([section.volume, section.weight, section.rehearsed, section.image.shape]).encode())
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
    on_step: Callable[[Progress], None] | None,
) -> Fitted:
    # A budget of minutes has no steps to count, so only the share and the time left are shown.
    with track(f"train {config.model}", 1, unit="") as advance:
        part = Part(advance)

        def show(now_at: Progress) -> None:
            iou = "" if now_at.validation_iou is None else f", val IoU {now_at.validation_iou:.3f}"
            part(now_at.fraction, f"loss {now_at.loss:.3f}{iou}")
            if on_step is not None:
                on_step(now_at)

        def draw(probability: NDArray[np.float32], points: Sequence[Point]) -> None:
            write_bytes(kept.folder.parent / PICTURE, training_picture(validation[0], probability, points))

        start = load_net(before, config.architecture, calibrate=False) if before is not None else None
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
    px = measure_halo(fitted.calibrated_net, shape.stride_px, context, TOLERANCE, sections=seen)
    return None if px is None else MeasuredHalo(px=px, tolerance=TOLERANCE)
