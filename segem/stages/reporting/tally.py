"""Counts, section by section, what the scores of a volume are made of."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from segem.io.layers import Layers, read_section
from segem.io.shards import Array
from segem.kernels.metrics.calibration import CalibrationBins
from segem.kernels.metrics.iou import Confusion
from segem.kernels.metrics.seam import SeamSums
from segem.kernels.metrics.segmentation import Measure, SegmentationSums
from segem.kernels.truth import is_known, is_membrane
from segem.records.scores import CellScore, LayerScores

# Flooding takes about 100 bytes a pixel, so this bounds what all threads hold at once to 1.6 GB.
_PIXELS_AT_ONCE = 16_777_216
_MOST_THREADS = 4


@dataclass(frozen=True)
class Seams:
    """Where tiles meet: the first row below, and the first column right of, each border."""

    rows: tuple[int, ...] = ()
    columns: tuple[int, ...] = ()


@dataclass(frozen=True)
class MaskTally:
    """What the comparison of one mask with truth adds up to."""

    confusion: Confusion = field(default_factory=Confusion)
    cells: SegmentationSums = field(default_factory=SegmentationSums.nothing)

    def __add__(self, other: MaskTally) -> MaskTally:
        return MaskTally(self.confusion + other.confusion, self.cells + other.cells)

    def scores(self) -> LayerScores:
        """Return the scores of everything counted."""
        return LayerScores(
            iou=self.confusion.iou,
            precision=self.confusion.precision,
            recall=self.confusion.recall,
            rand=self._best("rand"),
            information=self._best("information"),
        )

    def _best(self, measure: Measure) -> CellScore | None:
        score = self.cells.best(measure)
        return None if score is None else CellScore(**asdict(score))

    def at_threshold_of(self, measure: Measure, stack: CellScore | None) -> float | None:
        """Return V_rand or V_info at the threshold that is best for the whole stack."""
        score = None if stack is None else self.cells.at(measure, stack.threshold)
        return None if score is None else score.value


@dataclass(frozen=True)
class Tally:
    """What one section, or a sum of sections, adds to the scores."""

    model: MaskTally = field(default_factory=MaskTally)
    baseline: MaskTally = field(default_factory=MaskTally)
    closed: MaskTally = field(default_factory=MaskTally)
    seams: SeamSums = field(default_factory=SeamSums)
    bins: CalibrationBins = field(default_factory=CalibrationBins)
    known: int = 0
    """Voxels whose truth is known."""
    membrane: int = 0
    """Those of them that are membrane."""

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.model + other.model,
            self.baseline + other.baseline,
            self.closed + other.closed,
            self.seams + other.seams,
            self.bins + other.bins,
            self.known + other.known,
            self.membrane + other.membrane,
        )


def tally_sections(layers: Layers, seams: Seams) -> Iterator[Tally]:
    """Count every section of a volume, in order, several at once.

    Parameters
    ----------
    layers : Layers
        What there is of the volume; without truth only seams are counted.
    seams : Seams
        Where the tiles of the model's probability meet.

    Yields
    ------
    Tally
        One a section.

    Raises
    ------
    WorkspaceError
        When a layer cannot be read.
    """
    sections, height, width = layers.source.shape
    threads = max(1, min(_MOST_THREADS, len(os.sched_getaffinity(0)), _PIXELS_AT_ONCE // (height * width)))
    # Threads are enough: the flooding, which takes most of the time, runs outside the interpreter lock.
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(partial(_tally, layers, seams), range(sections))


def _tally(layers: Layers, seams: Seams, z: int) -> Tally:
    tally = Tally()
    truth = None if layers.truth is None else read_section(layers.truth, z)
    if truth is not None:
        known, membrane = (int(np.count_nonzero(marked)) for marked in (is_known(truth), is_membrane(truth)))
        tally += Tally(known=known, membrane=membrane)
    if layers.probability is not None and layers.membrane is not None:
        probability = read_section(layers.probability, z)
        tally += Tally(seams=SeamSums.count(probability, seams.rows, seams.columns))
        if truth is not None:
            mask = read_section(layers.membrane, z)
            scores = MaskTally(Confusion.count(truth, mask), SegmentationSums.count(truth, probability))
            tally += Tally(model=scores, bins=CalibrationBins.count(truth, probability / 255))
    if layers.baseline is not None and truth is not None:
        tally += Tally(baseline=_score_mask(layers.baseline, truth, z))
    if layers.closed is not None and truth is not None:
        tally += Tally(closed=_score_mask(layers.closed, truth, z))
    return tally


def _score_mask(layer: Array, truth: NDArray[np.uint8], z: int) -> MaskTally:
    mask = read_section(layer, z)
    # A mask is scored as a probability of 0 or 1, for which all thresholds give the same score.
    cells = SegmentationSums.count(truth, np.where(mask != 0, np.uint8(255), np.uint8(0)))
    return MaskTally(Confusion.count(truth, mask), cells)
