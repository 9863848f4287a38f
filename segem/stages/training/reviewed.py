"""Decides what each reviewed section is for: to train on, to choose the threshold, or to judge the new model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from segem.config import GateConfig
from segem.errors import ConfigError
from segem.geometry import Range, name_sections
from segem.io.reviewed_labels import ReviewedVolume
from segem.progress import tell
from segem.records.card import TrainedOn
from segem.stages.training.gate.judge import JudgedSections, compose_blocks, compose_section
from segem.stages.training.labelled import NO_SECTIONS, LabelledVolume
from segem.stages.training.provenance import LEARNED, find_known, record_sections, record_trained_on

JUDGES, VALIDATES = 0.3, 0.15
"""Share of the regions that judge the new model, and that choose its threshold, where nothing else does."""


@dataclass(frozen=True)
class Reviews:
    """What people have reviewed of a run, to be trained on."""

    volumes: tuple[ReviewedVolume, ...]
    known: tuple[TrainedOn, ...]
    """What the base model and the incumbent were trained on."""
    gate: GateConfig
    """How much is needed to judge by."""


NO_REVIEWS = Reviews((), (), GateConfig())


def assign_reviewed(reviews: Reviews, labelled: Sequence[LabelledVolume]) -> tuple[LabelledVolume, ...]:
    """Decide what the reviewed sections of each volume are for, so that no model is judged on what it learned.

    - Sections that a manifest labels are left to the manifest, whatever they are for there.
    - Where a manifest has test sections of a volume, these judge, and all its other regions are trained on.
    - Elsewhere the last sections with regions judge, those before them choose the threshold, and the first are trained
      on: whole sections, since what lies side by side looks alike. Sections that a model has seen never judge it; where
      they are the last, the last ones before them do.

    Parameters
    ----------
    reviews : Reviews
        What people have reviewed, and how it is judged.
    labelled : sequence of LabelledVolume
        The volumes of the manifests; none where there is no manifest.

    Returns
    -------
    tuple of LabelledVolume
        One for each stretch of sections that are trained on together.

    Raises
    ------
    ConfigError
        When there are too few regions to hold any back, and no manifest has sections that judge or validate.
    """
    reviewed, gate = reviews.volumes, reviews.gate
    found: list[LabelledVolume] = []
    for volume in reviewed:
        left_out, judged = _find_labelled(volume, labelled)
        sections = [z for z in volume.reviewed_sections() if z not in left_out]
        if len(sections) < len(volume.reviewed_sections()):
            tell(f"{volume.name}: regions of {name_sections(_ranges(left_out))} are left out: a manifest labels them")
        known = (*reviews.known, *(record_trained_on(labelled) if labelled else ()))
        held = None if judged else _hold_back(volume, sections, known, gate)
        if not judged and held is None:
            tell(
                f"{volume.name}: too few regions to hold some back, so nothing is said of how the new model does there"
            )
        aside = range(held.validation[0], held.test[1]) if held is not None else range(0)
        found += _divide(volume, [z for z in sections if z not in aside], left_out | {*aside}, held)
    if not found:
        raise ConfigError(
            "all reviewed regions lie in sections that a manifest labels",
            where=", ".join(one.name for one in reviewed),
            fix="review other sections, or train without --from-reviews",
        )
    others = [*labelled, *found]
    if not any(one.validation != NO_SECTIONS for one in others) or not any(one.test is not None for one in others):
        raise ConfigError(
            "too few regions to train on some and judge the new model on others",
            where=", ".join(one.name for one in reviewed),
            expected="accepted or fixed regions in 3 or more sections that no model has seen, the last of them with "
            f"{gate.fewest_blocks} or more blocks of {gate.block_px} px",
            found="; ".join(_describe(one) for one in reviewed),
            fix="review regions of more sections, or give a manifest with validation and test sections",
        )
    return tuple(found)


@dataclass(frozen=True)
class _HeldBack:
    validation: Range
    test: Range


def _find_labelled(volume: ReviewedVolume, labelled: Sequence[LabelledVolume]) -> tuple[frozenset[int], bool]:
    """Return which sections manifests label, and whether any of them judges models on this volume."""
    whole: Range = (0, volume.shape[0])
    used = [*record_trained_on(labelled)] if labelled else []
    tests = [record_sections(one.volume, one.test, NO_SECTIONS, 0) for one in labelled if one.test is not None]
    judging = {z for _, part in find_known(tests, volume, whole) for z in range(*part)}
    return frozenset(judging | {z for _, part in find_known(used, volume, whole) for z in range(*part)}), bool(judging)


def _hold_back(
    volume: ReviewedVolume, sections: Sequence[int], known: Sequence[TrainedOn], gate: GateConfig
) -> _HeldBack | None:
    """Return the last sections that are enough to judge by, and those before them; None where too few are left."""
    used = [*find_known(known, volume, (0, volume.shape[0]))]
    learned = {z for use, part in used if use == LEARNED for z in range(*part)}
    seen = {z for _, part in used for z in range(*part)}
    # They are trained on, and the last ones before them judge.
    while sections and sections[-1] in seen:
        sections = sections[:-1]
    found = None
    # Each section is looked at once, however many ranges are tried.
    compose = cache(partial(compose_section, volume, gate))
    # As many as hold their share of the regions, or as there are that no model has seen.
    for first in reversed(range(2, len(sections))):
        test = sections[first], sections[-1] + 1
        if seen.intersection(range(*test)):
            break
        if not _is_enough(compose_blocks(JudgedSections(volume, range(*test)), gate, compose), gate):
            continue
        validation = _choose_validation(volume, sections[:first], learned)
        if validation is None:
            break
        found = _HeldBack(validation, test)
        if _share(volume, test) >= JUDGES:
            break
    return found


def _choose_validation(volume: ReviewedVolume, sections: Sequence[int], learned: set[int]) -> Range | None:
    found = None
    for first in reversed(range(1, len(sections))):
        part = sections[first], sections[-1] + 1
        if learned.intersection(range(*part)):
            break
        if _has_both_classes(volume, part):
            found = part
            if _share(volume, part) >= VALIDATES:
                break
    return found


def _share(volume: ReviewedVolume, sections: Range) -> float:
    """Return the share of the regions that lie in some sections."""
    return sum(sections[0] <= place.z < sections[1] for place in volume.regions) / len(volume.regions)


def _is_enough(blocks: NDArray[np.int64], gate: GateConfig) -> bool:
    return len(blocks) >= gate.fewest_blocks and bool(blocks.sum(axis=0).all())


def _has_both_classes(volume: ReviewedVolume, sections: Range) -> bool:
    masks = [mask for place, mask in volume.regions.items() if sections[0] <= place.z < sections[1]]
    return any(mask.any() for mask in masks) and not all(mask.all() for mask in masks)


def _divide(
    volume: ReviewedVolume, train: Sequence[int], left_out: frozenset[int], held: _HeldBack | None
) -> Iterator[LabelledVolume]:
    """Yield a volume for each stretch of training sections between those that are left out.

    A net sees the sections beside the one that it learns, so a stretch never reaches across one that judges.
    """
    stretches: list[list[int]] = []
    for z in train:
        if stretches and not left_out & set(range(stretches[-1][-1], z)):
            stretches[-1].append(z)
        else:
            stretches.append([z])
    before = [stretch for stretch in stretches if held is not None and stretch[-1] < held.validation[0]]
    for stretch in stretches:
        last = held if before and stretch is before[-1] else None
        regions = sum(place.z in stretch for place in volume.regions)
        yield LabelledVolume(
            volume if len(stretches) == 1 else volume.part((stretch[0], last.test[1] if last else stretch[-1] + 1)),
            (stretch[0], stretch[-1] + 1),
            last.validation if last else NO_SECTIONS,
            last.test if last else None,
            # Of equal weight to a volume of a manifest, whatever the number of stretches.
            weight=regions / sum(place.z in train for place in volume.regions),
        )


def _ranges(sections: frozenset[int]) -> list[Range]:
    return [(z, z + 1) for z in sorted(sections)]


def _describe(volume: ReviewedVolume) -> str:
    return f"regions: {len(volume.regions)}, sections: {len(volume.reviewed_sections())}"
