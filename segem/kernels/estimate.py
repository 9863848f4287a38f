"""Turns what was measured of a volume without truth into scores with intervals, or into the reasons for none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, sqrt
from typing import NamedTuple

from scipy.special import stdtrit

from segem.kernels.drift import Distance, Traits, explain_distance, mean_traits, measure_distance
from segem.kernels.expected import ExpectedConfusion, from_log_odds, log_odds
from segem.records.expected import Abstains, Estimate, Expected
from segem.records.reference import Reference, ReferenceVolume, Spread

# Distances and deviations are those that nine in ten intervals and few abstentions need on the first sections of public
# stacks, rounded up: `benchmarks/expected.py` prints both, and judges on other sections.
NORMAL_90 = 1.645
"""Standard deviations on either side of the mean that hold 90 % of a normal distribution."""
PIXEL_FACTOR, SECTION_FACTOR = 1.1, 1.25
"""By how much pixels and sections may be larger or smaller than those that an estimate was fitted at."""
MOST_FAR, ODD_SECTIONS = 0.25, 1
"""Share of the sections, and number of them, that may lie too far: beyond both, nothing is said of the volume.

A quarter of two or three sections is less than one, but one section may be odd in any tissue; whether it matters shows
in the mean over the sections."""
FAR_SECTION = 2.5
"""Distance from which a single section lies too far; a section differs more from others than a volume does."""
IOU_FLOOR, V_RAND_FLOOR = 0.1, 0.5
"""Standard deviation, in log odds, of what no fit on a few sections shows; that of V_rand is a guess: crops are few."""
SIZE_FACTOR = 2.0
"""By how much sections may be larger or smaller in area: V_rand falls as more cells can be merged in a section."""


@dataclass(frozen=True)
class Observed:
    """What was measured of a volume without truth.

    Parameters
    ----------
    confusion : ExpectedConfusion
        Over all its sections.
    sections : sequence of mappings of str to float
        The traits of each section that was looked at closely.
    pixel_nm : (float, float)
        Edges of a pixel.
    section_nm : float
        Distance of sections.
    section_px : int
        Pixels of a section.
    """

    confusion: ExpectedConfusion
    sections: Sequence[Traits]
    pixel_nm: tuple[float, float]
    section_nm: float
    section_px: int


def estimate_scores(reference: Reference, observed: Observed) -> Expected | Abstains:
    """Return the scores that a volume can be expected to have, or why none is given.

    Parameters
    ----------
    reference : Reference
        What the model's estimates were fitted on.
    observed : Observed
        What was measured of the volume.

    Returns
    -------
    Expected or Abstains
    """
    if not observed.confusion.union or not observed.sections:
        return Abstains(abstains="the model found no membrane, nor any doubt of it")
    alike = [one for one in reference.volumes if _fits(one, observed)]
    if not alike:
        return _abstain_by_size(reference, observed)
    traits = mean_traits(observed.sections)
    distances = [measure_distance(traits, one.traits) for one in alike]
    nearest = min(range(len(alike)), key=lambda k: distances[k].value)
    reasons = explain_distance(distances[nearest], traits, alike[nearest].traits)
    if distances[nearest].too_far:
        return Abstains(
            abstains="the tissue, or what the model makes of it, is too unlike what the estimate was fitted on",
            reasons=reasons,
        )
    far = sum(_section_distance(alike, one).value > FAR_SECTION for one in observed.sections)
    if far > max(ODD_SECTIONS, MOST_FAR * len(observed.sections)):
        return Abstains(
            abstains=f"{far} of {len(observed.sections)} sections are too unlike what the estimate was fitted on",
            reasons=reasons,
        )
    weights = [exp(-(one.value**2) / 2) for one in distances]
    iou = _mix([(weight, one.iou) for weight, one in zip(weights, alike, strict=True)], IOU_FLOOR)
    cells = [
        (weight, _predict_one(one.v_rand, _count_sections(one)))
        for weight, one in zip(weights, alike, strict=True)
        if one.v_rand is not None
        and _count_sections(one) > 1
        and one.section_px / SIZE_FACTOR <= observed.section_px <= one.section_px * SIZE_FACTOR
    ]
    return Expected(
        iou=_interval(log_odds(observed.confusion.iou) + iou.middle, iou.deviation),
        v_rand=_interval(*_mix(cells, V_RAND_FLOOR)) if cells else None,
        distance=round(distances[nearest].value, 2),
        like=alike[nearest].volume,
    )


def describe_section(reference: Reference, traits: Traits) -> tuple[str, ...]:
    """Return in words why a section lies too far from every volume of a reference; nothing where it does not."""
    found = min(reference.volumes, key=lambda one: measure_distance(traits, one.traits).value)
    distance = measure_distance(traits, found.traits)
    return explain_distance(distance, traits, found.traits) if distance.value > FAR_SECTION else ()


def _section_distance(volumes: Sequence[ReferenceVolume], traits: Traits) -> Distance:
    return min((measure_distance(traits, one.traits) for one in volumes), key=lambda one: one.value)


def _fits(volume: ReferenceVolume, observed: Observed) -> bool:
    return all(
        low / factor <= edge <= high * factor
        for edge, (low, high), factor in (
            (min(observed.pixel_nm), volume.pixel_nm, PIXEL_FACTOR),
            (max(observed.pixel_nm), volume.pixel_nm, PIXEL_FACTOR),
            (observed.section_nm, (volume.section_nm, volume.section_nm), SECTION_FACTOR),
        )
    )


def _abstain_by_size(reference: Reference, observed: Observed) -> Abstains:
    known = sorted({f"{one.section_nm:g} x {one.pixel_nm[0]:g} x {one.pixel_nm[1]:g}" for one in reference.volumes})
    here = f"{observed.section_nm:g} x {observed.pixel_nm[0]:g} x {observed.pixel_nm[1]:g}"
    return Abstains(abstains=f"voxels are {here} nm, and the estimate was fitted at {' and '.join(known)} nm")


class _Mixed(NamedTuple):
    middle: float
    deviation: float


def _mix(parts: Sequence[tuple[float, Spread]], floor: float) -> _Mixed:
    """Return the mean of weighted spreads, and its deviation: theirs, how far they lie apart, and what none shows."""
    total = sum(weight for weight, _ in parts)
    middle = sum(weight * one.middle for weight, one in parts) / total
    variance = sum(weight * (one.deviation**2 + (one.middle - middle) ** 2) for weight, one in parts) / total
    return _Mixed(middle, sqrt(variance + floor**2))


def _count_sections(volume: ReferenceVolume) -> int:
    """Return how many sections V_rand was measured on."""
    first, stop = volume.sections
    return stop - first if volume.cell_sections is None else volume.cell_sections


def _predict_one(found: Spread, sections: int) -> Spread:
    """Return where one more section lies: few sections show little of how far they can lie apart (Student's t)."""
    deviation = found.deviation * sqrt(sections / (sections - 1)) * sqrt(1 + 1 / sections)
    return found.model_copy(update={"deviation": deviation * float(stdtrit(sections - 1, 0.95)) / NORMAL_90})


def _interval(middle: float, deviation: float) -> Estimate:
    low, value, high = (from_log_odds(middle + step * deviation) for step in (-NORMAL_90, 0, NORMAL_90))
    return Estimate(value=value, low=low, high=high)
