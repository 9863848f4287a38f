"""A training job: everything that decides a model, settled before the first step."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from segem.config import Device, Manifest, TrainConfig
from segem.errors import ConfigError
from segem.geometry import Range
from segem.io.workspace import Workspace
from segem.learn.artefact import Artefact, find_model, geometry_of, load_artefact
from segem.learn.models.registry import encoder_of, geometry, patch_px, recipe, resolved, side_outputs
from segem.learn.runtimes.choice import choose_device, training_runtime
from segem.learn.scale import AS_IS, find_scale
from segem.learn.sections import LabelledSection
from segem.records.review import ReviewedLabels
from segem.stages.segmentation.identity import code_digest
from segem.stages.training.gate.polarity import warn_of_polarity
from segem.stages.training.labelled import LabelledVolume, open_labelled_volumes
from segem.stages.training.memory import require_section_memory, require_training_memory
from segem.stages.training.reviewed import NO_REVIEWS, Reviews, assign_reviewed

logger = logging.getLogger(__name__)

HOW_OFTEN = {"checkpoint_seconds", "checkpoint_steps", "look_seconds"}
"""Settings that do not change the result."""
_TRAINER = "segem.learn.train"
"""The module whose function trains: the code that decides the weights is all that it reaches."""


@dataclass(frozen=True)
class Terms:
    """The terms on which the weights may be used, for the card."""

    licence: str = ""
    """That of the base model or the teacher if empty, who must not have different ones then."""
    citation: str = ""
    """What to cite when the model is used, in addition to what the base model cites."""


NO_TERMS = Terms()


@dataclass(frozen=True)
class TrainingJob:
    """Everything that decides a model. Its volumes are ingested; no section has been read yet."""

    config: TrainConfig
    """With the architecture, batch and learning rate filled in."""
    base: Artefact | None
    """The model that is fine-tuned; None for a training from scratch."""
    volumes: tuple[LabelledVolume, ...]
    trained: dict[str, Range]
    """The sections to train on, by volume: those of the splits, or fewer."""
    device: Device = "auto"
    terms: Terms = NO_TERMS
    reviewed: tuple[ReviewedLabels, ...] = ()
    """Where labels are from that people have entered in reviews."""
    teacher: Artefact | None = None
    """The model whose output is learned as well; None where labels alone teach."""

    @property
    def learned_from(self) -> tuple[Artefact, ...]:
        """The models whose knowledge goes into this one."""
        return tuple(model for model in (self.base, self.teacher) if model is not None)


def open_training(
    manifest: Manifest | None,
    config: TrainConfig,
    workspace: Workspace,
    *,
    base: Artefact | None = None,
    device: Device = "auto",
    terms: Terms = NO_TERMS,
    replace: bool = False,
    reviews: Reviews = NO_REVIEWS,
) -> TrainingJob:
    """Ingest the labelled volumes of a manifest, once for training, judging and scoring.

    Parameters
    ----------
    manifest, workspace, device, terms, replace
        See `segem.stages.training.train.train`; the manifest may be absent where there are reviews.
    config : TrainConfig
        With every default filled in, as `resolve_config` returns it.
    base : Artefact, optional
        The model to fine-tune.
    reviews : Reviews
        What people have reviewed, to be trained on beside the volumes of the manifest.

    Raises
    ------
    ConfigError, InputError, WorkspaceError
        As for `segem.stages.training.train.train`; also where crops are resampled to other pixel sizes only, or the
        licences of base model and teacher differ and `terms` names none.
    """
    teacher = load_artefact(Path(config.teacher)) if config.teacher is not None else None
    _require_one_licence(base, teacher, terms)
    labelled = () if manifest is None else open_labelled_volumes(manifest, workspace, replace)
    volumes = (*labelled, *(assign_reviewed(reviews, labelled) if reviews.volumes else ()))
    if config.pixel_nm is not None:
        _require_own_pixels(volumes, config.pixel_nm)
    # All sections are held in memory at once, so this is known before any is read.
    require_section_memory(volumes)
    # Not of what was reviewed, which was made from a mask.
    for one in labelled:
        warn_of_polarity(one.volume, range(*one.train))
    if teacher is not None:
        _warn_of_pixels(volumes, teacher)
    trained = {one.name: one.train for one in volumes}
    reviewed = tuple(one.origin for one in reviews.volumes)
    return TrainingJob(config, base, volumes, trained, device, terms, reviewed, teacher)


def _require_own_pixels(volumes: Sequence[LabelledVolume], pixel_nm: tuple[float, float]) -> None:
    """Raise where crops would never have the pixel size that a volume is calibrated and scored at."""
    finest, coarsest = pixel_nm
    for one in volumes:
        size = one.volume.voxel_size
        if not (finest <= min(size.y, size.x) and max(size.y, size.x) <= coarsest):
            raise ConfigError(
                "threshold and scores would be of a pixel size that the net never sees",
                where=one.name,
                expected=f"pixels of {finest:g} to {coarsest:g} nm, as --pixel-nm says",
                found=f"{size.y:g} x {size.x:g} nm",
                fix="give a range that holds the pixels of every volume, or leave out --pixel-nm",
            )


def _require_one_licence(base: Artefact | None, teacher: Artefact | None, terms: Terms) -> None:
    """Raise where two models that are learned from have different licences, and nobody says which one holds."""
    known = {model.card.licence for model in (base, teacher) if model is not None and model.card.licence}
    if len(known) > 1 and not terms.licence:
        raise ConfigError(
            "base model and teacher have different licences",
            found="; ".join(sorted(known)),
            fix="say with --licence which one the new model has",
        )


def _warn_of_pixels(volumes: Sequence[LabelledVolume], teacher: Artefact) -> None:
    """Warn where a teacher judges crops at another pixel size than it learned at: a run would resample them for it."""
    for one in volumes:
        size = one.volume.voxel_size
        if find_scale(size, teacher.card) != AS_IS:
            logger.warning(
                "%s: its pixels of %g x %g nm are not as large as those that the teacher learned at, and it judges "
                "them as they are, which may teach errors",
                one.name,
                size.y,
                size.x,
            )


def find_base(name: str | None, config: TrainConfig, workspace: Workspace) -> Artefact | None:
    """Return the model to fine-tune, if one is named.

    Raises
    ------
    ConfigError
        When other weights to start from are named too.
    ModelError
        When there is no such model, or it is damaged.
    """
    if name is None:
        return None
    if config.pretrained is not None:
        raise ConfigError(
            "a base model has weights already",
            where=name,
            found=f"pretrained {config.pretrained}",
            fix="give either --from or --pretrained",
        )
    return find_model(name, workspace)


def resolve_config(config: TrainConfig, base: Artefact | None, workspace: Workspace, device: Device) -> TrainConfig:
    """Return the settings of a training with every default filled in, before any volume is opened.

    A teacher that was named is given by its folder then.

    Raises
    ------
    ConfigError
        When the architecture is not that of the base model or lacks what is asked for, an encoder without trained
        weights is to be frozen, the teacher cannot teach such a net, or the net does not fit the machine.
    ModelError
        When there is no such teacher, or it is damaged.
    """
    if base is not None:
        config = _with_architecture_of(base, config)
    config = recipe(config)
    if config.freeze is not None:
        # Raises where the architecture has no encoder.
        encoder_of(config.model)
        if base is None and config.pretrained is None:
            raise ConfigError(
                "an encoder that has learned nothing cannot be frozen",
                where=config.model,
                fix="give --from or --pretrained, or leave out --freeze",
            )
    if config.deep_supervision:
        # Raises where the architecture has no side outputs.
        side_outputs(config.model, config.architecture)
    teacher = None
    if config.teacher is not None:
        teacher = find_model(config.teacher, workspace)
        _require_teacher(teacher, config)
        config = config.model_copy(update={"teacher": str(teacher.path.resolve())})
    require_training_memory(config, device, teacher.card if teacher is not None else None)
    return config


def _require_teacher(teacher: Artefact, config: TrainConfig) -> None:
    """Raise unless a net can learn from the output of a teacher."""
    if patch_px(config.model, config.architecture) is not None:
        raise ConfigError(
            "a net that learns from patches cannot have a teacher, which judges whole crops",
            where=config.model,
            fix="leave out --teacher, or take another architecture",
        )
    wanted, seen = (
        geometry(config.model, config.architecture).context_sections,
        geometry_of(teacher.card).context_sections,
    )
    if wanted != seen:
        raise ConfigError(
            "the teacher sees another number of sections",
            where=teacher.path,
            expected=f"--context-sections {seen}",
            found=f"--context-sections {wanted}",
            fix="give the net as many sections as its teacher sees, or take another teacher",
        )


def _with_architecture_of(base: Artefact, config: TrainConfig) -> TrainConfig:
    """Return the settings with the architecture of the base model; only `context_sections` may be larger."""
    card, where = base.card, base.path
    if "model" in config.model_fields_set and config.model != card.architecture:
        raise ConfigError(
            "the base model has its architecture already",
            where=where,
            expected=f"--model {card.architecture}",
            found=f"--model {config.model}",
            fix="leave --model out, or train from scratch without --from",
        )
    other = sorted(set(config.architecture) - {"context_sections"})
    if other:
        raise ConfigError(
            "the base model has its architecture already",
            where=where,
            found=f"another {', '.join(other)}",
            fix="leave these options out, or train from scratch without --from",
        )
    # An option of the command line is text until it is checked.
    architecture = resolved(card.architecture, card.options | config.architecture)
    wanted, seen = (geometry(card.architecture, one).context_sections for one in (architecture, card.options))
    if wanted < seen:
        raise ConfigError(
            "a base model can learn to see more sections at once, not fewer",
            where=where,
            expected=f"--context-sections {seen} or more",
            found=wanted,
            fix="leave --context-sections out, or train from scratch without --from",
        )
    if wanted > seen and config.freeze is not None:
        # What is new has weights of zero in the first layer, which is frozen: it would stay unseen.
        raise ConfigError(
            "a frozen encoder cannot learn to see more sections",
            where=where,
            expected=f"--context-sections {seen}",
            found=wanted,
            fix="leave out --freeze or --context-sections",
        )
    return config.model_copy(update={"model": card.architecture, "architecture": architecture})


def compute_training_digest(job: TrainingJob, sections: Sequence[LabelledSection]) -> str:
    """Return the sha256 of all that decides the result of a training: settings, first weights, sections, code, device.

    Parameters
    ----------
    job : TrainingJob
        The training.
    sections : sequence of LabelledSection
        Those that decide it, in their order.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    config, base = job.config, job.base
    pretrained = Path(config.pretrained) if config.pretrained is not None else None
    made_of: dict[str, Any] = {
        # How often checkpoints are written changes no result, so a training resumes with other intervals too.
        "config": config.model_dump(mode="json", exclude=HOW_OFTEN | {"teacher"}),
        "base": base.digest if base is not None else None,
        "teacher": job.teacher.digest if job.teacher is not None else None,
        "pretrained": sha256(pretrained.read_bytes()).hexdigest() if pretrained and pretrained.is_file() else None,
        # Crops are resampled by the pixel size, and the card says at which sizes the model learned.
        "voxel_nm": {one.name: one.volume.voxel_size.zyx for one in job.volumes},
        # Without these, a changed trainer would go on from the checkpoints of the old one.
        "code": code_digest(_TRAINER),
        "device": training_runtime(choose_device(job.device)),
    }
    if job.reviewed:
        # With the head of the log: the same pixels entered anew are labels of another origin.
        made_of["reviewed"] = [one.digest for one in job.reviewed]
    digest = sha256(json.dumps(made_of, sort_keys=True).encode())
    for section in sections:
        digest.update(json.dumps([section.volume, section.weight, section.rehearsed, section.image.shape]).encode())
        # The pixels themselves and not the path of their source: a file may change under its name.
        digest.update(np.ascontiguousarray(section.image).data)
        digest.update(np.ascontiguousarray(section.truth).data)
    return digest.hexdigest()
