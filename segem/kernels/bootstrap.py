"""Confidence interval of the difference of two scores, by a paired block bootstrap."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from segem.errors import InputError
from segem.kernels.tiles import tile_starts
from segem.kernels.truth import is_known, is_membrane

# Numbers drawn at once, 32 MB: all draws of many blocks would not fit into memory.
_WEIGHTS_AT_ONCE = 2**22


@dataclass(frozen=True)
class Difference:
    """The score of one model minus that of another, with its confidence interval.

    Parameters
    ----------
    first, second : float
        Both scores, over all blocks.
    low, high : float
        Ends of the two-sided interval.
    lower_bound : float
        End of the one-sided interval at the same confidence; above `low`, since all of the risk is on one side.
    blocks : int
        Number of blocks.
    """

    first: float
    second: float
    low: float
    high: float
    lower_bound: float
    blocks: int

    @property
    def value(self) -> float:
        """The difference over all blocks."""
        return self.first - self.second


def count_tiles(truth: NDArray[np.uint8], predicted: NDArray[np.uint8], tile_px: int) -> NDArray[np.int64]:
    """Count true positives, false positives and false negatives in each tile of a section, where the truth is known.

    Parameters
    ----------
    truth, predicted : array (y, x)
        Masks in which 0 is background and any other value membrane, but for `segem.kernels.truth.UNKNOWN` in the truth.
    tile_px : int
        Edge of a tile; stretched or shrunk a little, so that tiles of nearly equal size cover the section.

    Returns
    -------
    array (tiles, 3) of int64
        ``tp, fp, fn`` of each tile.

    Raises
    ------
    InputError
        When the masks are not two sections of one shape.

    Examples
    --------
    >>> truth = np.array([[1, 1, 0, 0]], np.uint8)
    >>> count_tiles(truth, np.array([[1, 0, 0, 1]], np.uint8), 2).tolist()
    [[1, 0, 1], [0, 1, 0]]
    """
    if truth.shape != predicted.shape or truth.ndim != 2:
        raise InputError(
            "masks of different shapes cannot be compared",
            expected=truth.shape,
            found=predicted.shape,
            fix="crop them to the same shape",
        )
    # Unknown voxels are dropped from both masks, so they count as neither right nor wrong.
    a, b = is_membrane(truth), (predicted != 0) & is_known(truth)
    starts = [tile_starts(n, tile_px) for n in truth.shape]
    kinds = (
        np.add.reduceat(np.add.reduceat(kind, starts[0], axis=0, dtype=np.int64), starts[1], axis=1)
        for kind in (a & b, ~a & b, a & ~b)
    )
    return np.stack([kind.ravel() for kind in kinds], axis=1)


def compare_iou(
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    *,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Estimate the difference of two pooled membrane IoUs, and its confidence interval, from counts by block.

    Whole blocks are drawn with replacement, as many as there are, and both masks are scored on the same draw, so that
    what makes a block hard for both cancels out. Errors of neighbouring voxels are not independent: they run along a
    membrane, and from section to section. Blocks must be so large that an error seldom reaches into the next one
    [1]_; only then may they be drawn independently.

    The interval is that of the percentiles of the drawn differences [2]_. The difference of two IoUs on the same blocks
    is nearly linear in the counts and hence nearly symmetric, so BCa would correct very little; percentiles need no
    jackknife, exist for equal masks (the interval is then exactly 0 to 0, where BCa is undefined), and change sign when
    the masks are swapped. Draws from few blocks vary too little, so the percentiles are widened by Student's quantile
    and ``sqrt(n / (n - 1))`` [3]_.

    Parameters
    ----------
    first, second : array (blocks, 3) of int64
        ``tp, fp, fn`` of each block, the same blocks in the same order.
    resamples : int
        Number of draws. With 10,000 the share of draws beyond an end of a 95 % interval, 2.5 %, is known to 0.16 %.
    confidence : float
        Confidence of the two-sided interval and of the one-sided bound.
    seed : int
        Seed of the draws.

    Returns
    -------
    Difference
        The first minus the second.

    Raises
    ------
    InputError
        When the counts are not of the same blocks.

    References
    ----------
    .. [1] Künsch (1989), The jackknife and the bootstrap for general stationary observations, Annals of Statistics 17,
       doi:10.1214/aos/1176347265
    .. [2] Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapters 8 and 13,
       doi:10.1007/978-1-4899-4541-9
    .. [3] Hesterberg (2015), What Teachers Should Know About the Bootstrap, The American Statistician 69,
       doi:10.1080/00031305.2015.1089789

    Examples
    --------
    >>> better, worse = np.array([[9, 1, 0]] * 20), np.array([[5, 1, 4]] * 20)
    >>> found = compare_iou(better, worse)
    >>> round(found.value, 3), round(found.low, 3), found.blocks
    (0.4, 0.4, 20)
    """
    return _compare(_iou, (first, second), 3, resamples, confidence, seed)


def compare_v_rand(
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    *,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Difference:
    """Estimate the difference of two V_rand within blocks, and an interval for it.

    Of each block the V_rand of its own tissue is taken, cells and segments cut at its borders
    (`segem.kernels.metrics.local_rand.count_rand_in_tiles`), and the two sums whose ratio it is are pooled over blocks.
    Blocks are drawn as in `compare_iou`.

    Parameters
    ----------
    first, second : array (blocks, 2) of int64
        Numerator and denominator of V_rand in each block, the same blocks in the same order.
    resamples, confidence, seed : int, float, int
        See `compare_iou`.

    Returns
    -------
    Difference
        Of the first less the second.

    Raises
    ------
    InputError
        When the sums are not of the same blocks.

    Notes
    -----
    The V_rand of a whole section has no blocks to draw: it is a ratio of sums of squared areas, half of them from fewer
    than ten cells of an ISBI section, and one hole in a membrane changes the share of every block that the two merged
    cells run through. Intervals from such shares hold the truth far too seldom: 62 % of the time when each pixel's
    share goes to its block, 77 % when each cell's goes to the block of its centre, at a nominal 95 %, on 150 synthetic
    stacks of three sections of 512 px with holes and false walls. Within blocks an error counts where it lies, and the
    intervals hold 90 %.

    What is lost: an error weighs by the parts of cells within its block, not by whole cells, so the difference is
    smaller than that of whole sections (there, half of it). Its sign is what the interval is for; how large a loss is,
    the V_rand of whole sections says. Errors that join two cells outside of a block are not seen in it, though in the
    one where they lie.

    Examples
    --------
    >>> whole, merged = np.array([[8, 8]] * 20), np.array([[16, 24]] * 20)
    >>> found = compare_v_rand(merged, whole)
    >>> round(found.value, 3), round(found.high, 3)
    (-0.333, -0.333)
    """
    return _compare(_v_rand, (first, second), 2, resamples, confidence, seed)


def _compare(
    score: Callable[[NDArray[np.int64]], NDArray[np.float64]],
    counts: tuple[NDArray[np.int64], NDArray[np.int64]],
    columns: int,
    resamples: int,
    confidence: float,
    seed: int,
) -> Difference:
    first, second = counts
    if first.shape != second.shape or first.ndim != 2 or first.shape[1] != columns or not len(first):
        raise InputError(
            "counts of different blocks cannot be compared",
            expected=f"{first.shape}, as of the first mask",
            found=second.shape,
            fix="count both masks on the same blocks",
        )
    blocks = len(first)
    # Paired: both masks are scored on the same draw of blocks. Counts are added up before a ratio is taken.
    drawn = np.concatenate([score(w @ first) - score(w @ second) for w in draw_blocks(blocks, resamples, seed)])
    tail = (1 - confidence) / 2
    # The one-sided bound has all of the risk, twice the tail, at its end.
    low, high, bound = np.quantile(drawn, _expanded([tail, 1 - tail, 2 * tail], blocks))
    values = [float(score(each.sum(axis=0))) for each in counts]
    return Difference(values[0], values[1], float(low), float(high), float(bound), blocks)


def draw_blocks(blocks: int, resamples: int, seed: int, *, drawn: int | None = None) -> Iterator[NDArray[np.int64]]:
    """Yield how often each block was drawn with replacement, several draws at a time.

    Parameters
    ----------
    blocks : int
        How many there are.
    resamples : int
        Number of draws.
    seed : int
        Seed of the draws.
    drawn : int, optional
        Blocks in a draw; as many as there are when absent.

    Yields
    ------
    array (some draws, blocks) of int64
    """
    random = np.random.default_rng(seed)
    # Only how often each block is drawn matters, so a draw is a row of multinomial counts, not a list of blocks.
    at_once = max(1, _WEIGHTS_AT_ONCE // blocks)
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        yield random.multinomial(blocks if drawn is None else drawn, np.full(blocks, 1 / blocks), size=size)


def _expanded(levels: Sequence[float], blocks: int) -> NDArray[np.float64]:
    """Return the percentiles of the draws that stand for `levels`, widened for a small number of blocks."""
    # Avoids 0 degrees of freedom: every draw of a single block is that block, so its interval is a point anyway.
    freedom = max(1, blocks - 1)
    expanded: NDArray[np.float64] = stats.norm.cdf(math.sqrt((freedom + 1) / freedom) * stats.t.ppf(levels, freedom))
    return expanded


def _iou(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return tp / (tp + fp + fn) along the last axis; 1 where there is no membrane at all."""
    # Where the union is empty, two empty masks agree; the maximum only avoids a division by 0.
    union = counts.sum(axis=-1)
    iou: NDArray[np.float64] = np.where(union == 0, 1.0, counts[..., 0] / np.maximum(union, 1))
    return iou


def _v_rand(sums: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return numerator / denominator along the last axis; 1 where there is no cell at all."""
    v_rand: NDArray[np.float64] = np.where(sums[..., 1] == 0, 1.0, sums[..., 0] / np.maximum(sums[..., 1], 1))
    return v_rand
