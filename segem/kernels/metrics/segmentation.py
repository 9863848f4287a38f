"""V_rand and V_info of a stack, gathered section by section and maximised over thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segem.errors import InputError
from segem.kernels.metrics.contingency import Contingency, Score
from segem.kernels.metrics.information import information_score
from segem.kernels.metrics.rand import rand_score
from segem.kernels.metrics.segments import connected_cells, parted_segments, thinned_segments
from segem.kernels.truth import is_known

# 0.1 is added up as in the challenge: the last threshold stays just below 1, so that P(cell) = 1 still exceeds it.
THRESHOLDS: tuple[float, ...] = tuple(np.cumsum([0.0] + [0.1] * 10).tolist())

Measure = Literal["rand", "information"]


@dataclass(frozen=True)
class StackScore:
    """Score of a stack at the one threshold that suits it best.

    Parameters
    ----------
    value, precision, recall : float
        Means over the sections.
    threshold : float
        P(cell) above which a pixel counted as cell.
    """

    value: float
    precision: float
    recall: float
    threshold: float


@dataclass(frozen=True)
class SegmentationSums:
    """Scores summed over sections, for each threshold; add them up, then take the best.

    Parameters
    ----------
    sections : int
        Sections that hold at least one true cell.
    rand, information : ndarray of float64, shape (11, 3)
        For each threshold the sums of value, precision and recall.

    Examples
    --------
    >>> truth = np.array([[0, 0, 1, 0, 0]], np.uint8)
    >>> membrane = np.array([[0, 0, 255, 0, 0]], np.uint8)
    >>> total = SegmentationSums.count(truth, membrane) + SegmentationSums.count(truth, membrane)
    >>> total.sections, total.best("rand").value
    (2, 1.0)
    """

    sections: int
    rand: NDArray[np.float64]
    information: NDArray[np.float64]

    @classmethod
    def nothing(cls) -> SegmentationSums:
        """Return the sums over no section."""
        return cls(0, np.zeros((len(THRESHOLDS), 3)), np.zeros((len(THRESHOLDS), 3)))

    @classmethod
    def count(cls, truth: NDArray[Any], membrane: NDArray[np.uint8]) -> SegmentationSums:
        """Score one section at every threshold.

        Parameters
        ----------
        truth : ndarray, shape (y, x)
            Nonzero on true membrane. Unknown pixels are in no cell, and they separate the cells and segments on
            either side, as if the section ended there.
        membrane : ndarray of uint8, shape (y, x)
            Membrane probability, 255 = certain; a mask of 0 and 255 is a proposal with one threshold.

        Returns
        -------
        SegmentationSums
            Of one section; of none where the truth holds no cell.

        Raises
        ------
        InputError
            When the shapes differ or the probability is not uint8.
        """
        if truth.shape != membrane.shape or membrane.dtype != np.uint8:
            raise InputError(
                "truth and probability do not match",
                expected=f"uint8 of shape {truth.shape}",
                found=f"{membrane.dtype} of shape {membrane.shape}",
                fix="give both at the same resolution, the probability in 0..255",
            )
        known = is_known(truth)
        cells = connected_cells(truth == 0)
        if not cells.any():
            return cls.nothing()
        rand: list[Score] = []
        information: list[Score] = []
        before = -1
        for is_cell in _cell_levels():
            cell = is_cell[membrane]
            # Masks only shrink as the threshold rises, so one of equal size is the same mask.
            size = int(np.count_nonzero(cell))
            if size != before:
                segments = thinned_segments(cell)
                table = Contingency.count(cells, segments if known.all() else parted_segments(segments, known))
                score = rand_score(table), information_score(table)
                before = size
            rand.append(score[0])
            information.append(score[1])
        return cls(1, _rows(rand), _rows(information))

    def __add__(self, other: SegmentationSums) -> SegmentationSums:
        return SegmentationSums(
            self.sections + other.sections, self.rand + other.rand, self.information + other.information
        )

    def best(self, measure: Measure) -> StackScore | None:
        """Return the mean over sections at the best threshold, or None where no section could be scored."""
        sums = self.rand if measure == "rand" else self.information
        return self.at(measure, THRESHOLDS[int(np.argmax(sums[:, 0]))])

    def at(self, measure: Measure, threshold: float) -> StackScore | None:
        """Return the mean over sections at one of `THRESHOLDS`, or None where no section could be scored."""
        if self.sections == 0:
            return None
        sums = self.rand if measure == "rand" else self.information
        level = min(range(len(THRESHOLDS)), key=lambda i: abs(THRESHOLDS[i] - threshold))
        value, precision, recall = (float(v) for v in sums[level] / self.sections)
        return StackScore(value, precision, recall, round(THRESHOLDS[level], 1))


def _cell_levels() -> list[NDArray[np.bool_]]:
    p_cell = 1 - np.arange(256) / 255
    return [p_cell > threshold for threshold in THRESHOLDS]


def _rows(scores: list[Score]) -> NDArray[np.float64]:
    return np.array([(s.value, s.precision, s.recall) for s in scores])
