"""Estimates the scores of a volume from its probability, and maps where the mask is likely wrong and where it is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial, reduce

import numpy as np
from numpy.typing import NDArray

from segem.errors import SegemError
from segem.geometry import Box
from segem.io.layers import Layers, read_section
from segem.io.tissue import read_tissue
from segem.kernels.drift import choose_evenly, measure_section
from segem.kernels.errors import Regions, expect_errors_in, find_errors_in
from segem.kernels.estimate import Observed, describe_section, estimate_scores
from segem.kernels.expected import ExpectedConfusion
from segem.kernels.normalize import zscore
from segem.kernels.truth import is_known
from segem.records.error_map import ErrorMap, Grid, SectionErrors
from segem.records.expected import Abstains, Expected
from segem.records.quality import SectionFlag
from segem.records.run import CrfFacts, SegmentFacts
from segem.stages.volumes.quality import find_middle

SAMPLED_SECTIONS = 16
"""Sections, evenly spread, of whose middle traits are measured: enough for their means, however large the volume is."""
REGION_PX = 256

NO_REFERENCE = (
    "the model's card holds no reference to estimate by: `segem models calibrate` fits one on a few labelled sections"
)
AVERAGED = "probabilities at several pixel sizes were averaged, and the estimate was fitted at one"
REFINED = "the probability was refined by a CRF, which leaves it uncalibrated"

# What a thread holds at once of a section is a few bytes a pixel.
_PIXELS_AT_ONCE = 2**28
_MOST_THREADS = 4


@dataclass(frozen=True)
class _Section:
    """What is gathered of one section."""

    confusion: ExpectedConfusion
    expected: NDArray[np.float64]
    """Of each region."""
    tissue: NDArray[np.float64]
    """Pixels of each region."""
    measured: NDArray[np.float64] | None
    """Of each region; None without truth."""
    known: NDArray[np.float64] | None
    traits: dict[str, float] | None
    """None where they were not measured, or cannot be."""
    damage: str | None
    """Why its image cannot be read; its errors are mapped without it."""


def estimate_volume(
    layers: Layers, facts: SegmentFacts | CrfFacts, flags: Sequence[SectionFlag] = ()
) -> tuple[Expected | Abstains, ErrorMap]:
    """Estimate the scores of the model's mask of a volume without using its truth, and map its errors.

    Parameters
    ----------
    layers : Layers
        Of a volume that was segmented; truth only adds the errors that there are.
    facts : SegmentFacts or CrfFacts
        How it was segmented.
    flags : sequence of SectionFlag
        Sections that stand out, for the reasons on the map.

    Returns
    -------
    Expected or Abstains
        The scores, or why there are none.
    ErrorMap
        Of every section.

    Raises
    ------
    WorkspaceError
        When a layer cannot be read.
    """
    depth, height, width = layers.source.shape
    regions = Regions.cut((height, width), REGION_PX)
    reference = facts.reference if isinstance(facts, SegmentFacts) else None
    sampled = choose_evenly(depth, SAMPLED_SECTIONS) if reference is not None else ()
    threads = max(1, min(_MOST_THREADS, len(os.sched_getaffinity(0)), _PIXELS_AT_ONCE // (height * width)))
    with ThreadPoolExecutor(threads) as pool:
        gather = partial(_gather, layers, facts.threshold, regions, frozenset(sampled))
        sections = list(pool.map(gather, range(depth)))
    found = _estimate(layers, facts, sections)
    strip = tuple(
        SectionErrors(
            section=z,
            expected=_mean(one.expected, one.tissue),
            measured=None if one.measured is None or one.known is None else _mean(one.measured, one.known),
            worst=_round(float(np.nanmax(one.expected))) if one.tissue.any() else None,
            reasons=(
                *(flag.reason for flag in flags if flag.section == z),
                *(describe_section(reference, one.traits) if reference is not None and one.traits else ()),
            ),
        )
        for z, one in enumerate(sections)
    )
    return found, ErrorMap(
        volume=layers.source.name,
        region_px=REGION_PX,
        y_px=regions.rows,
        x_px=regions.columns,
        abstains=found.abstains if isinstance(found, Abstains) else None,
        sections=strip,
        expected=tuple(_grid(one.expected) for one in sections),
        measured=tuple(_grid(one.measured) for one in sections if one.measured is not None),
    )


def _estimate(layers: Layers, facts: SegmentFacts | CrfFacts, sections: Sequence[_Section]) -> Expected | Abstains:
    if isinstance(facts, CrfFacts):
        return Abstains(abstains=REFINED)
    if facts.reference is None:
        return Abstains(abstains=NO_REFERENCE)
    if facts.sizes:
        return Abstains(abstains=AVERAGED)
    damage = next((one.damage for one in sections if one.damage is not None), None)
    if damage is not None:
        return Abstains(abstains=f"the images cannot be read: {damage}")
    size = layers.source.voxel_size
    return estimate_scores(
        facts.reference,
        Observed(
            confusion=reduce(ExpectedConfusion.__add__, (one.confusion for one in sections), ExpectedConfusion()),
            sections=[one.traits for one in sections if one.traits is not None],
            pixel_nm=(size.y, size.x),
            section_nm=size.z,
            section_px=layers.source.shape[1] * layers.source.shape[2],
        ),
    )


def _gather(layers: Layers, threshold: float, regions: Regions, sampled: frozenset[int], z: int) -> _Section:
    if layers.probability is None:
        raise TypeError("an estimate needs a probability")
    source, stored = layers.source, read_section(layers.probability, z)
    outside = None if source.outside is None else read_section(source.outside, z)
    inside = None if outside is None or not outside.any() else outside == 0
    truth = None if layers.truth is None else read_section(layers.truth, z)
    traits = damage = None
    if z in sampled:
        # Damaged images take the estimate away, and no score that was measured.
        try:
            traits = _measure(layers, stored, threshold, z)
        except SegemError as error:
            damage = str(error)
    return _Section(
        confusion=ExpectedConfusion.count(stored, threshold, inside),
        expected=expect_errors_in(stored, threshold, regions, inside),
        tissue=regions.count(inside),
        measured=None if truth is None else find_errors_in(truth, stored, threshold, regions),
        known=None if truth is None else regions.count(is_known(truth)),
        traits=traits,
        damage=damage,
    )


def _measure(layers: Layers, stored: NDArray[np.uint8], threshold: float, z: int) -> dict[str, float] | None:
    """Return the traits of the middle of a section."""
    source, middle = layers.source, find_middle(layers.source.shape)
    tissue = read_tissue(source, Box((z, *middle.start[1:]), (z + 1, *middle.stop[1:])))
    inside = None if tissue.outside is None else tissue.outside[0] == 0
    image = zscore(tissue.image[0], source.statistics)
    return measure_section(image, stored[middle.slices[1:]], threshold, inside)


def _mean(shares: NDArray[np.float64], weights: NDArray[np.float64]) -> float | None:
    total = float(weights.sum())
    return _round(float(np.nansum(shares * weights)) / total) if total else None


def _grid(shares: NDArray[np.float64]) -> Grid:
    return tuple(tuple(None if np.isnan(share) else _round(share) for share in row) for row in shares.tolist())


def _round(share: float) -> float:
    # A region of 256 x 256 pixels has 65,536 of them: more digits say nothing.
    return round(share, 5)
