"""Which sections a model has seen, by its card, so that none of them is used as a test."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from segem.config import TrainConfig
from segem.errors import ConfigError
from segem.geometry import Range, name_sections
from segem.io.seen import digests_of, find_seen_sections, match_sections
from segem.io.volume import Volume
from segem.learn.artefact import Artefact
from segem.records.card import LearnedAt, ModelCard, TrainedOn
from segem.stages.training.labelled import LabelledVolume

logger = logging.getLogger(__name__)

LEARNED, CHOSE = "learned from", "chose its threshold on"
"""What a model may have done with a section."""


def record_trained_on(
    volumes: Sequence[LabelledVolume], trained: Mapping[str, Range] | None = None
) -> tuple[TrainedOn, ...]:
    """Return the sections for a model's card; `trained` are those it is trained on, if fewer than in the splits."""
    total = sum(one.weight for one in volumes)
    return tuple(
        record_sections(
            one.volume,
            one.train if trained is None else trained.get(one.name, (0, 0)),
            one.validation,
            round(one.weight / total, 4),
        )
        for one in volumes
    )


def record_sections(volume: Volume, train: Range, validation: Range, share: float) -> TrainedOn:
    """Return what a card says of the sections of one volume."""
    return TrainedOn(
        volume=volume.name,
        source_digest=volume.attributes["source_digest"],
        train=train,
        validation=validation,
        train_digests=digests_of(volume.attributes, train),
        validation_digests=digests_of(volume.attributes, validation),
        share=share,
    )


def record_voxel_sizes(volumes: Sequence[LabelledVolume], trained: Iterable[str], config: TrainConfig) -> LearnedAt:
    """Return the voxel sizes for a model's card; `trained` names the volumes it is trained on, at least one."""
    names = set(trained)
    sizes = [one.volume.voxel_size for one in volumes if one.name in names]
    pixels, sections = [edge for size in sizes for edge in (size.y, size.x)], [size.z for size in sizes]
    if config.pixel_nm is not None:
        # A section is seen no coarser than whole.
        reached = [(one.volume.voxel_size, min(one.volume.shape[1:])) for one in volumes if one.name in names]
        coarsest = max((size.y + size.x) / 2 * max(1, edge_px / config.crop_px) for size, edge_px in reached)
        finest, most = config.pixel_nm
        pixels = [finest, max(finest, min(most, coarsest))]
    return LearnedAt(pixel_nm=(min(pixels), max(pixels)), section_nm=(min(sections), max(sections)))


def find_known(trained_on: Iterable[TrainedOn], volume: Volume, sections: Range) -> Iterator[tuple[str, Range]]:
    """Yield which of the given sections a model has used, by its card, and for what."""
    yield from match_known(trained_on, volume.attributes, sections)


def match_known(
    trained_on: Iterable[TrainedOn], attributes: Mapping[str, Any], sections: Range
) -> Iterator[tuple[str, Range]]:
    """Yield the same for a volume with these attributes."""
    parts: tuple[tuple[Literal["train", "validation"], str], ...] = (("train", LEARNED), ("validation", CHOSE))
    for used in trained_on:
        for part, use in parts:
            # By digests, not by name: the same section may come in another volume, or a stack that has grown.
            for found in find_seen_sections(used.model_dump(), part, attributes):
                yield from ((use, common) for common in _overlap(found, sections))


def find_calibrated(card: ModelCard, volume: Volume, sections: Range) -> tuple[Range, ...]:
    """Return which of the given sections a later calibration of a model was fitted on."""
    attributes = volume.attributes
    return tuple(
        common
        for used in card.calibration.fitted_on
        for found in match_sections(used.source_digest, used.sections, used.section_digests, attributes)
        for common in _overlap(found, sections)
    )


def has_learned_from(card: ModelCard, volume: Volume, sections: Range) -> bool:
    """Return whether a model was trained on any of the given sections, by its card."""
    return any(use == LEARNED for use, _ in find_known(card.trained_on, volume, sections))


def warn_of_unknown_origin(model: Artefact) -> None:
    """Warn where the card of a model does not say what it was trained on, as for imported weights."""
    if not model.card.trained_on:
        logger.warning(
            "%s: its card does not say what it learned from, so nobody knows whether it has seen the sections that "
            "are tested",
            model.path,
        )


def check_unseen(
    trained_on: Iterable[TrainedOn],
    whose: object,
    volume: Volume,
    sections: Range,
    done: str,
    uses: Iterable[str] = (LEARNED, CHOSE),
) -> None:
    """Raise where a model has used sections that it is to be ``judged``, ``scored`` or ``calibrated`` on.

    Raises
    ------
    ConfigError
        When it has used some of them in one of these ways.
    """
    for use, (first, end) in find_known(trained_on, volume, sections):
        if use in uses:
            raise ConfigError(
                f"a model cannot be {done} on sections it {use}",
                where=volume.name,
                expected=f"{name_sections([sections])} unseen by {whose}",
                found=name_sections([(first, end)]),
                fix=f"name other sections as {'validation' if done == 'calibrated' else 'test'} in the manifest, or "
                "leave this volume out",
            )


def check_apart(
    volumes: Sequence[LabelledVolume], trained: Mapping[str, Range], learned_from: Sequence[Artefact]
) -> None:
    """Raise where a new model would be calibrated or scored on sections it is trained on, under any name.

    Parameters
    ----------
    volumes : sequence of LabelledVolume
        What the model is made from.
    trained : mapping of str to (int, int)
        The training sections of each volume.
    learned_from : sequence of Artefact
        The model that is fine-tuned, and the teacher, where there are any.

    Raises
    ------
    ConfigError
        When it would.
    """
    own = record_trained_on(volumes, trained)
    for model in learned_from:
        warn_of_unknown_origin(model)
    for one in volumes:
        tests = one.test or (0, 0)
        check_unseen(own, "the new model", one.volume, one.validation, "calibrated", (LEARNED,))
        check_unseen(own, "the new model", one.volume, tests, "scored")
        for model in learned_from:
            # The threshold of such a model is not kept, so the sections that chose it may be tested.
            for sections, done in ((one.validation, "calibrated"), (tests, "scored")):
                check_unseen(model.card.trained_on, model.path, one.volume, sections, done, (LEARNED,))


def _overlap(one: Range, other: Range) -> Iterator[Range]:
    first, stop = max(one[0], other[0]), min(one[1], other[1])
    if first < stop:
        yield first, stop
