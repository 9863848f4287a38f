"""Trains a model on labelled sections and scores it on test sections."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import segem
from segem.amounts import Pace, rate_text
from segem.config import Device, Manifest, TrainConfig
from segem.errors import ModelError
from segem.geometry import Range
from segem.io.files import disk_errors, write_bytes
from segem.io.versions import UNJUDGED, find_unjudged
from segem.io.workspace import Workspace
from segem.kernels.threshold import quantize_probability
from segem.learn.artefact import Artefact, cited_once, load_artefact, load_net, save_artefact, save_version
from segem.learn.checkpoint import Checkpoints, open_checkpoints
from segem.learn.halo import TOLERANCE, measure_halo
from segem.learn.models.registry import geometry, resolved, spec_of
from segem.learn.pieces import in_pieces
from segem.learn.predict import predict_section
from segem.learn.runtimes.choice import choose_device, training_runtime
from segem.learn.sections import LabelledSection
from segem.learn.train import Fitted, Progress, fit
from segem.learn.watch import Snapshot
from segem.progress import Part, tell, track
from segem.records.card import BaseRecord, HeldOutScore, MeasuredHalo, ModelCard, TrainingRecord
from segem.stages.models.zoo import check_new_name, tell_if_not_in_use
from segem.stages.training.job import (
    NO_TERMS,
    Terms,
    TrainingJob,
    compute_training_digest,
    find_base,
    open_training,
    resolve_config,
)
from segem.stages.training.labelled import NO_SECTIONS, read_labelled_sections
from segem.stages.training.pictures import draw_training
from segem.stages.training.provenance import check_apart, has_learned_from, record_trained_on, record_voxel_sizes
from segem.stages.training.reference import FitOn, fit_reference
from segem.stages.training.score import score_volume

PICTURE, HISTORY = "training.png", "training.json"
"""Files beside the weights; while a training runs, or if it was killed, its picture is in the folder of the model."""


@dataclass(frozen=True)
class TrainResult:
    """A trained model and its scores."""

    path: Path
    name: str
    steps: int
    minutes: float
    threshold: float
    validation_iou: float
    scores: tuple[HeldOutScore, ...]


def train(
    manifest: Manifest,
    name: str,
    config: TrainConfig,
    workspace: Workspace,
    *,
    base: str | None = None,
    device: Device = "auto",
    terms: Terms = NO_TERMS,
    replace: bool = False,
) -> TrainResult:
    """Train a model on the ``train`` sections of a manifest and score it on the ``test`` sections.

    A training that was killed resumes from its last checkpoint when it is started again with the same settings, and
    ends with the same weights; its checkpoints are kept beside the versions of the model and removed when the new one
    is written.

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
    base : str, optional
        Name or folder of a model to fine-tune, whose architecture is then used except for ``context_sections``; the
        card names it and all it was trained on.
    device : {"auto", "cpu", "cuda", "mps"}
        Where to compute.
    terms : Terms
        Licence and citation, for the card.
    replace : bool
        Whether volumes of these names that have another source, voxel size or labels are lost, and ingested again.

    Returns
    -------
    TrainResult

    Raises
    ------
    ConfigError
        When the name is taken, the architecture is not that of `base`, no volume has labels, a split does not fit its
        volume, weights to start from are given twice, or a section to calibrate or score on was trained on.
    InputError
        When sources or labels are bad.
    WorkspaceError
        When a section of a volume is missing or damaged on disk, the disk refuses, or the same training is running.
    ModelError
        When the loss is no longer finite, or pretrained weights cannot be obtained or do not fit.
    """
    check_new_name(name)
    found = find_base(base, config, workspace)
    resolved_config = resolve_config(config, found, workspace, device)
    job = open_training(manifest, resolved_config, workspace, base=found, device=device, terms=terms, replace=replace)
    made = run_training(job, name, workspace.models / name)
    tell_if_not_in_use(made.path)
    return summarise_training(made)


def summarise_training(model: Artefact) -> TrainResult:
    """Return what there is to say of a model that was trained here.

    Raises
    ------
    ModelError
        When its card does not say how.
    """
    card, training = model.card, model.card.training
    if training is None:
        raise ModelError(
            "the card does not say how the model was trained", where=model.path, fix="train it again with `segem train`"
        )
    return TrainResult(
        path=model.path,
        name=card.name,
        steps=training.steps,
        minutes=training.minutes,
        threshold=card.threshold,
        validation_iou=training.validation_iou,
        scores=card.scores,
    )


def run_training(
    job: TrainingJob,
    name: str,
    home: Path,
    *,
    version: str | None = None,
    candidate: bool = False,
    on_step: Callable[[Progress], None] | None = None,
) -> Artefact:
    """Train a model, score it on the test sections and write it into the folder `home`; see `train`.

    Parameters
    ----------
    job : TrainingJob
        What `segem.stages.training.job.open_training` returned.
    name : str
        Name of the model, for its card.
    home : Path
        The folder of its versions.
    version : str, optional
        Name of the new folder in `home`; by default it is named by the time.
    candidate : bool
        Whether the model is to be judged before its name may refer to it. If the same training has already left an
        unjudged candidate, that is returned and nothing is trained.
    on_step : callable, optional
        Called after every step with how far the training is.
    """
    # First, since it needs no voxels: a model that cannot be scored honestly is not worth hours of training.
    check_apart(job.volumes, job.trained, job.learned_from)
    learned, validation = _read_sections(job)
    # Validation sections have no part in the weights, but they decide the threshold, so they identify a candidate too.
    made_by = compute_training_digest(job, learned + validation) if candidate else ""
    left = find_unjudged(sorted(home.glob("[!.]*/"), reverse=True), made_by) if candidate else None
    if left is not None:
        tell(f"{left}: trained already, but not yet judged")
        return load_artefact(left)
    # Named by what decides the weights alone: other validation sections may resume it. Hidden, so that it is not listed
    # as a version.
    folder = home / f".training-{compute_training_digest(job, learned)[:16]}"
    with open_checkpoints(folder, job.config.checkpoint_seconds, job.config.checkpoint_steps) as kept:
        fitted = _fit(job, learned, validation, kept, on_step)
        shape = geometry(job.config.model, job.config.architecture)
        predict = partial(predict_section, in_pieces(fitted.calibrated_net, shape), device=choose_device(job.device))
        scores = tuple(
            score_volume(predict, fitted.threshold, one.volume, one.test, shape.context_sections)
            for one in job.volumes
            if one.test is not None
        )
        reference = fit_reference(
            lambda image: quantize_probability(predict(image)),
            fitted.threshold,
            [
                FitOn(one.volume, one.validation, _learned(job, one.name))
                for one in job.volumes
                if one.validation != NO_SECTIONS
            ],
            shape.context_sections,
        )
        card = _write_card(job, name, fitted, scores, rehearsed=any(section.rehearsed for section in learned))
        card = card.model_copy(update={"reference": reference})
        beside = {
            PICTURE: draw_training(validation[0], predict(validation[0].image), fitted.history),
            HISTORY: json.dumps([one.model_dump() for one in fitted.history], indent=2).encode(),
        }
        if candidate:
            # Marked from its first moment on disk, so that no run uses a model that was not judged.
            beside[UNJUDGED] = made_by.encode()
        # Inside the body of the checkpoints: they are removed only when the model is on disk.
        save = partial(save_artefact, home / version) if version else partial(save_version, home)
        made = save(card, fitted.net, beside)
        with disk_errors(home):
            (home / PICTURE).unlink(missing_ok=True)
    return made


def _learned(job: TrainingJob, volume: str) -> tuple[Range, ...]:
    return (job.trained[volume],) if volume in job.trained else ()


def _read_sections(job: TrainingJob) -> tuple[list[LabelledSection], list[LabelledSection]]:
    """Read the training and the validation sections."""
    context = geometry(job.config.model, job.config.architecture).context_sections
    learned: list[LabelledSection] = []
    validation: list[LabelledSection] = []
    for one in job.volumes:
        if one.name in job.trained:
            sections, base = job.trained[one.name], job.base
            # Only where the base model was trained on them is its output there worth keeping.
            known = one.rehearsed and base is not None and has_learned_from(base.card, one.volume, sections)
            if one.rehearsed and not known:
                tell(f"{one.name}: no base model has learned from it, so its labels alone are rehearsed")
            learned += read_labelled_sections(one.volume, sections, context, one.weight, rehearsed=known)
        validation += read_labelled_sections(one.volume, one.validation, context)
    return learned, validation


def _fit(
    job: TrainingJob,
    learned: list[LabelledSection],
    validation: list[LabelledSection],
    kept: Checkpoints,
    on_step: Callable[[Progress], None] | None,
) -> Fitted:
    """Fit the weights, with a progress bar and a picture of the curve so far."""
    config, base = job.config, job.base
    # A budget in minutes has no number of steps, so the share is tracked, and steps a second are said beside it.
    with track(f"train {config.model}", 1, unit="") as advance:
        part, pace = Part(advance), Pace(time.monotonic())

        def show(now_at: Progress) -> None:
            pace.note(time.monotonic(), 1)
            iou = "" if now_at.validation_iou is None else f", val IoU {now_at.validation_iou:.3f}"
            rate = "" if pace.per_second is None else f", {rate_text(pace.per_second, 'step')}"
            part(now_at.fraction, f"loss {now_at.loss:.3f}{iou}{rate}")
            if on_step is not None:
                on_step(now_at)

        def draw(probability: NDArray[np.float32], history: Sequence[Snapshot]) -> None:
            write_bytes(kept.folder.parent / PICTURE, draw_training(validation[0], probability, history))

        return fit(
            learned,
            validation,
            config,
            # Weights are fitted to logits as the net gives them; calibration is fitted again afterwards.
            base=load_net(base, config.architecture, calibrate=False) if base is not None else None,
            device=choose_device(job.device),
            on_step=show,
            on_look=draw,
            kept=kept,
        )


def _write_card(
    job: TrainingJob, name: str, fitted: Fitted, scores: tuple[HeldOutScore, ...], *, rehearsed: bool
) -> ModelCard:
    config, known = job.config, [model.card for model in job.learned_from]
    return ModelCard(
        name=name,
        architecture=config.model,
        options=resolved(config.model, config.architecture),
        calibration=fitted.calibration,
        threshold=fitted.threshold,
        merge_below=fitted.merge_below,
        halo=_measure_halo(job, fitted),
        # What a base model or a teacher has seen is known to this one as well.
        trained_on=record_trained_on(job.volumes, job.trained)
        + tuple(seen for card in known for seen in card.trained_on),
        reviewed=job.reviewed,
        learned_at=record_voxel_sizes(job.volumes, job.trained, config),
        scores=scores,
        training=record_training(job, fitted, rehearsed=rehearsed),
        # Of what it learned from; it is cited together with both.
        licence=job.terms.licence or next((card.licence for card in known if card.licence), ""),
        citation=cited_once(job.terms.citation, *(card.citation for card in known)),
        versions={
            "segem": segem.__version__,
            "runtime": training_runtime(choose_device(job.device)),
            "python": platform.python_version(),
        },
    )


def record_training(job: TrainingJob, fitted: Fitted, *, rehearsed: bool) -> TrainingRecord:
    """Return what a card says of a training: its settings, its outcome, and the models it learned from."""
    config, base, teacher = job.config, job.base, job.teacher
    settings = config.model_dump(
        include=set(TrainingRecord.model_fields), exclude={"steps", "minutes", "remember", "teacher", "teach"}
    )
    outcome = {
        "steps": fitted.steps,
        "minutes": round(fitted.minutes, 1),
        "final_loss": round(fitted.final_loss, 4),
        "validation_iou": round(fitted.validation_iou, 4),
    }
    return TrainingRecord.model_validate(
        settings
        | outcome
        | {
            "options": resolved(config.model, config.architecture),
            "remember": config.remember if rehearsed else None,
            "teach": config.teach if teacher is not None else None,
            "base": _record_model(base),
            "teacher": _record_model(teacher),
        }
    )


def _record_model(model: Artefact | None) -> BaseRecord | None:
    return None if model is None else BaseRecord(digest=model.digest, training=model.card.training)


def _measure_halo(job: TrainingJob, fitted: Fitted) -> MeasuredHalo | None:
    """Measure the context a net needs, on noise and one section of each volume, if its architecture gives none."""
    model, shape = job.config.model, geometry(job.config.model, job.config.architecture)
    if shape.halo_px is not None or spec_of(model).sees_all:
        return None
    context = shape.context_sections
    seen = [
        section.image
        for one in job.volumes
        if one.validation != NO_SECTIONS
        for section in read_labelled_sections(one.volume, (one.validation[0], one.validation[0] + 1), context)
    ]
    px = measure_halo(fitted.calibrated_net, shape.stride_px, context, TOLERANCE, sections=seen)
    return None if px is None else MeasuredHalo(px=px, tolerance=TOLERANCE)
