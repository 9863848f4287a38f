"""V_rand and V_info of a stack, gathered section by section and maximised over thresholds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segem.errors import InputError
from segem.kernels.metrics.contingency import Contingency, FScore
from segem.kernels.metrics.information import information_score
from segem.kernels.metrics.rand import rand_score
from segem.kernels.metrics.segments import label_cells, thin_segments
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
        cells = true_cells(truth, membrane)
        if not cells.any():
            return cls.nothing()
        rand: list[FScore] = []
        information: list[FScore] = []
        for segments, thresholds in propose_segments(truth, membrane):
            table = Contingency.count(cells, segments)
            rand += [rand_score(table)] * thresholds
            information += [information_score(table)] * thresholds
        return cls.of_section(rand, information)

    @classmethod
    def of_section(cls, rand: Sequence[FScore], information: Sequence[FScore]) -> SegmentationSums:
        """Return the sums over one section, whose scores at each of `THRESHOLDS` are given."""
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


def true_cells(truth: NDArray[Any], membrane: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Return the numbered cells of a truth that a membrane probability is to be compared with; see `SegmentationSums`.

    Raises
    ------
    InputError
        When the shapes differ or the probability is not uint8.
    """
    require_match(truth, membrane)
    return label_cells(truth == 0)


def require_match(truth: NDArray[Any], probability: NDArray[Any]) -> None:
    """Raise unless a probability can be compared with a truth.

    Raises
    ------
    InputError
        When the shapes differ or the probability is not uint8.
    """
    if truth.shape != probability.shape or probability.dtype != np.uint8:
        raise InputError(
            "truth and probability do not match",
            expected=f"uint8 of shape {truth.shape}",
            found=f"{probability.dtype} of shape {probability.shape}",
            fix="give both at the same resolution, the probability in 0..255",
        )


def propose_segments(truth: NDArray[Any], membrane: NDArray[np.uint8]) -> Iterator[tuple[NDArray[np.int32], int]]:
    """Yield the segments of a section at each of `THRESHOLDS`, and for how many thresholds in a row they are the same.

    Flooding a section takes longer than all that is counted in it, so one mask is flooded once.
    """
    known = is_known(truth)
    levels, pixels = _cell_levels(), np.bincount(membrane.ravel(), minlength=256)
    # Masks only shrink as the threshold rises, so one of equal size is the same mask.
    _, repeats = np.unique([-int(pixels[is_cell].sum()) for is_cell in levels], return_counts=True)
    first = 0
    for thresholds in repeats.tolist():
        yield thin_segments(levels[first][membrane], known), thresholds
        first += thresholds


def _cell_levels() -> list[NDArray[np.bool_]]:
    p_cell = 1 - np.arange(256) / 255
    return [p_cell > threshold for threshold in THRESHOLDS]


def _rows(scores: Sequence[FScore]) -> NDArray[np.float64]:
    return np.array([(s.value, s.precision, s.recall) for s in scores])
