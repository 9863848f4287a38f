"""Counts, section by section, what the scores of a volume are made of."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from segem.io.layers import Layers, read_section
from segem.io.shards import Array
from segem.kernels.bootstrap import count_tiles
from segem.kernels.metrics.adapted_rand import AdaptedRandSums
from segem.kernels.metrics.border_band import count_outside_band, iou_outside_band
from segem.kernels.metrics.boundary_f1 import BoundarySums
from segem.kernels.metrics.calibration import CalibrationBins
from segem.kernels.metrics.centreline_dice import CentrelineSums
from segem.kernels.metrics.contingency import Overlaps
from segem.kernels.metrics.dice import dice
from segem.kernels.metrics.iou import Confusion
from segem.kernels.metrics.mean_iou import mean_iou
from segem.kernels.metrics.merges_splits import MergesSplits
from segem.kernels.metrics.not_defined import NO_TRUE_CELL, NO_TRUE_MEMBRANE, NotDefined
from segem.kernels.metrics.pixel_error import PixelErrorSums
from segem.kernels.metrics.seam import Seams, SeamSums
from segem.kernels.metrics.section import SectionMask, choose_tolerance
from segem.kernels.metrics.segmentation import Measure, SegmentationSums
from segem.kernels.metrics.threshold_curve import LevelCounts
from segem.kernels.metrics.variation import VariationSums
from segem.kernels.metrics.warping import WarpingSums
from segem.kernels.truth import UNKNOWN, is_known, is_membrane
from segem.records.scores import CellScore, LayerScores, Place

# What a section is scored with takes less than 100 bytes a pixel, so this bounds all threads together to 1.6 GB.
_PIXELS_AT_ONCE = 16_777_216
_MOST_THREADS = 4
_MOST_PLACES = 20
"""Mergers and splits of a section that are listed; more of them nobody looks at one by one."""


@dataclass(frozen=True)
class _Sums:
    """Counts that are added up one by one, under the same names."""

    def __add__(self, other: Self) -> Self:
        return type(self)(**{each.name: getattr(self, each.name) + getattr(other, each.name) for each in fields(self)})


@dataclass(frozen=True)
class MaskTally(_Sums):
    """What the comparison of one mask with truth adds up to."""

    confusion: Confusion = field(default_factory=Confusion)
    cells: SegmentationSums = field(default_factory=SegmentationSums.nothing)
    outside_band: Confusion = field(default_factory=Confusion)
    boundary: BoundarySums = field(default_factory=BoundarySums)
    centreline: CentrelineSums = field(default_factory=CentrelineSums)
    pixels: PixelErrorSums = field(default_factory=PixelErrorSums.nothing)
    adapted_rand: AdaptedRandSums = field(default_factory=AdaptedRandSums)
    variation: VariationSums = field(default_factory=VariationSums)
    merges: int = 0
    splits: int = 0
    warping: WarpingSums = field(default_factory=WarpingSums)
    """Nothing where it was not asked for."""
    tiles: tuple[NDArray[np.int64], ...] = ()
    """True positives, false positives and false negatives of each tile, for each section in order."""

    def values(self) -> dict[str, float | NotDefined]:
        """Return the scores of everything counted, by the names they have in the report."""
        cells = self.cells.sections > 0
        # Without true membrane, an empty mask would be perfect, and any other one wrong throughout.
        membrane = self.confusion.tp + self.confusion.fn > 0
        return {
            "iou": self.confusion.iou if membrane else NO_TRUE_MEMBRANE,
            "precision": self.confusion.precision if membrane else NO_TRUE_MEMBRANE,
            "recall": self.confusion.recall,
            "mean_iou": mean_iou(self.confusion),
            "dice": dice(self.confusion),
            "iou_outside_band": iou_outside_band(self.outside_band),
            "boundary_f1": self.boundary.f1,
            "boundary_precision": self.boundary.precision,
            "boundary_recall": self.boundary.recall,
            "cl_dice": self.centreline.cl_dice,
            "cl_dice_precision": self.centreline.precision,
            "cl_dice_sensitivity": self.centreline.sensitivity,
            "pixel_error": self.pixels.error,
            "adapted_rand_error": self.adapted_rand.error,
            "voi_split": self.variation.split,
            "voi_merge": self.variation.merge,
            "merges": self.merges if cells else NO_TRUE_CELL,
            "splits": self.splits if cells else NO_TRUE_CELL,
            **({"warping_error": self.warping.error} if self.warping.pixels else {}),
        }

    def scores(self, tolerance_nm: float) -> LayerScores:
        """Return the scores of everything counted; `tolerance_nm` is what it was counted with."""
        values, undefined = part_values(self.values())
        cells = {measure: self._best(measure) for measure in ("rand", "information")}
        undefined |= {measure: NO_TRUE_CELL.why for measure, score in cells.items() if score is None}
        return LayerScores.model_validate(values | cells | {"tolerance_nm": tolerance_nm, "undefined": undefined})

    def _best(self, measure: Measure) -> CellScore | None:
        score = self.cells.best(measure)
        return None if score is None else CellScore(**asdict(score))

    def at_threshold_of(self, measure: Measure, stack: CellScore | None) -> float | None:
        """Return V_rand or V_info at the threshold that is best for the whole stack."""
        score = None if stack is None else self.cells.at(measure, stack.threshold)
        return None if score is None else score.value


@dataclass(frozen=True)
class Tally(_Sums):
    """What one section, or a sum of sections, adds to the scores."""

    model: MaskTally = field(default_factory=MaskTally)
    baseline: MaskTally = field(default_factory=MaskTally)
    closed: MaskTally = field(default_factory=MaskTally)
    second: MaskTally = field(default_factory=MaskTally)
    """Of what a second person labelled, as if it were a mask."""
    known_to_both: int = 0
    """Voxels that both have labelled."""
    seams: SeamSums = field(default_factory=SeamSums)
    bins: CalibrationBins = field(default_factory=CalibrationBins)
    levels: LevelCounts = field(default_factory=LevelCounts)
    known: int = 0
    """Voxels whose truth is known."""
    membrane: int = 0
    """Those of them that are membrane."""


@dataclass(frozen=True)
class SectionTally:
    """What one section adds to the scores, and where the model's mask merges and splits cells in it."""

    sums: Tally
    merged_at: tuple[Place, ...] = ()
    split_at: tuple[Place, ...] = ()


def part_values(values: dict[str, float | NotDefined]) -> tuple[dict[str, float | None], dict[str, str]]:
    """Return all values, None where there is none, and the reasons of those."""
    reasons = {name: value.why for name, value in values.items() if isinstance(value, NotDefined)}
    return {name: None if isinstance(value, NotDefined) else value for name, value in values.items()}, reasons


def tally_sections(layers: Layers, seams: Seams, tile_px: int, *, full: bool = False) -> Iterator[SectionTally]:
    """Count every section of a volume, in order, several at once.

    Parameters
    ----------
    layers : Layers
        What there is of the volume; without truth only seams are counted.
    seams : Seams
        Where the tiles of the model's probability meet.
    tile_px : int
        Edge of the tiles that true and false positives are also counted in.
    full : bool
        Count also for scores that take long: the warping error.

    Yields
    ------
    SectionTally
        One a section.

    Raises
    ------
    WorkspaceError
        When a layer cannot be read.
    """
    sections, height, width = layers.source.shape
    threads = max(1, min(_MOST_THREADS, len(os.sched_getaffinity(0)), _PIXELS_AT_ONCE // (height * width)))
    # Threads are enough: what takes most of the time runs outside the interpreter lock.
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(partial(_tally, layers, seams, tile_px, full), range(sections))


def _tally(layers: Layers, seams: Seams, tile_px: int, full: bool, z: int) -> SectionTally:
    tally = Tally()
    probability = None if layers.probability is None else read_section(layers.probability, z)
    if probability is not None and layers.membrane is not None:
        tally += Tally(seams=SeamSums.count(probability, seams))
    if layers.truth is None:
        return SectionTally(tally)
    truth = read_section(layers.truth, z)
    tally += Tally(known=int(np.count_nonzero(is_known(truth))), membrane=int(np.count_nonzero(is_membrane(truth))))
    pixel_nm = layers.source.voxel_size.zyx[1:]
    ids = None if layers.truth_ids is None else read_section(layers.truth_ids, z)
    true = SectionMask.of_truth(truth, pixel_nm, choose_tolerance(pixel_nm), ids)
    merged_at: tuple[Place, ...] = ()
    split_at: tuple[Place, ...] = ()
    if probability is not None and layers.membrane is not None:
        mask = read_section(layers.membrane, z)
        model, joins = count_mask(truth, true, mask, probability, full=full)
        model = replace(model, tiles=(count_tiles(truth, mask, tile_px),))
        bins, levels = CalibrationBins.count(truth, probability / 255), LevelCounts.count(truth, probability)
        tally += Tally(model=model, bins=bins, levels=levels)
        merged_at, split_at = (
            tuple(Place(y=join.y, x=join.x, pixels=join.pixels) for join in found[:_MOST_PLACES])
            for found in (joins.find_merges(), joins.find_splits())
        )
    if layers.baseline is not None:
        tally += Tally(baseline=_count_layer(layers.baseline, z, true, truth, tile_px, full))
    if layers.closed is not None:
        tally += Tally(closed=_count_layer(layers.closed, z, true, truth, tile_px, full))
    if layers.second is not None:
        tally += _count_second(read_section(layers.second, z), truth, ids, pixel_nm, tile_px)
    return SectionTally(tally, merged_at, split_at)


def _count_second(
    second: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    ids: NDArray[np.integer[Any]] | None,
    pixel_nm: tuple[float, float],
    tile_px: int,
) -> Tally:
    """Compare what a second person labelled with the truth, where both have."""
    both = np.where(is_known(second), truth, np.uint8(UNKNOWN))
    mask = is_membrane(second).astype(np.uint8)
    found, _ = count_mask(both, SectionMask.of_truth(both, pixel_nm, choose_tolerance(pixel_nm), ids), mask)
    found = replace(found, tiles=(count_tiles(both, mask, tile_px),))
    return Tally(second=found, known_to_both=int(np.count_nonzero(is_known(both))))


def _count_layer(
    layer: Array, z: int, true: SectionMask, truth: NDArray[np.uint8], tile_px: int, full: bool
) -> MaskTally:
    """Compare a section of a mask that was cut from no probability with its truth."""
    mask = read_section(layer, z)
    return replace(count_mask(truth, true, mask, full=full)[0], tiles=(count_tiles(truth, mask, tile_px),))


def count_mask(
    truth: NDArray[np.uint8],
    true: SectionMask,
    mask: NDArray[Any],
    probability: NDArray[np.uint8] | None = None,
    *,
    full: bool = False,
) -> tuple[MaskTally, MergesSplits]:
    """Compare one mask of a section with its truth.

    Parameters
    ----------
    truth : array (y, x) of uint8
        1 on membrane, 0 on background, `segem.kernels.truth.UNKNOWN` elsewhere.
    true : SectionMask
        The same, with what several masks are compared with.
    mask : array (y, x)
        Nonzero on membrane.
    probability : array (y, x) of uint8, optional
        What the mask was cut from, 255 = certain. Without it, a mask is scored as a probability of 0 or 1, for which
        all thresholds give the same score.
    full : bool
        Count also for the warping error, which takes about as long as all others together.

    Returns
    -------
    MaskTally
    MergesSplits
    """
    if probability is None:
        probability = np.where(mask != 0, np.uint8(255), np.uint8(0))
    found = true.of_mask(mask)
    overlaps = Overlaps.count(true.cells, found.segments)
    joins = MergesSplits.count(true, found)
    tally = MaskTally(
        confusion=Confusion.count(truth, mask),
        cells=SegmentationSums.count(truth, probability),
        outside_band=count_outside_band(true, found),
        boundary=BoundarySums.count(true, found),
        centreline=CentrelineSums.count(true, found),
        pixels=PixelErrorSums.count(truth, probability),
        adapted_rand=AdaptedRandSums.of(overlaps),
        variation=VariationSums.of(overlaps),
        merges=joins.merges,
        splits=joins.splits,
        warping=WarpingSums.count(true, found, probability) if full else WarpingSums(),
    )
    return tally, joins
