"""Confidence intervals of the scores of one volume, and of the difference of two runs on it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import fft, stats

from segem.errors import InputError
from segem.kernels.pieces import Counts, Pieces, Score
from segem.records.intervals import Interval, TooFew

FEWEST_BLOCKS = 16
FEWEST_SECTIONS = 6
FEWEST_DRAWN = 10
# What errors of pieces of this length have to do with those of the next one, on real tissue.
_ALIKE, _ALIKE_AT_NM = 0.1, 1024.0
# Sections beyond which errors have nothing to do with each other: 1.2 micrometres at 50 nm.
_LONGEST_SPAN = 24


def ratio_of(numerator: Sequence[int], denominator: Sequence[int]) -> Score:
    """Return the score that divides weighted sums of ``tp, fp, fn``; 1 where there is nothing to divide by.

    Examples
    --------
    >>> ratio_of((1, 0, 0), (1, 1, 1))(np.array([[3, 1, 0], [0, 0, 0]])).tolist()
    [0.75, 1.0]
    """

    def score(counts: Counts) -> NDArray[np.float64]:
        above, below = counts @ np.asarray(numerator), counts @ np.asarray(denominator)
        found: NDArray[np.float64] = np.where(below == 0, 1.0, above / np.where(below == 0, 1, below))
        return found

    return score


POOLED: dict[str, Score] = {
    "iou": ratio_of((1, 0, 0), (1, 1, 1)),
    "dice": ratio_of((2, 0, 0), (2, 1, 1)),
    "precision": ratio_of((1, 0, 0), (1, 1, 0)),
    "recall": ratio_of((1, 0, 0), (1, 0, 1)),
}
"""Scores that are pooled over voxels, from ``tp, fp, fn``."""


def join_blocks(blocks: Counts, edge_nm: float) -> Pieces | TooFew:
    """Join blocks to pieces of 2 x 2 (x 2) of them, which can be drawn as if they had nothing to do with each other.

    Parameters
    ----------
    blocks : array (z, y, x, k)
        Counts of each block (`Grid.add_up`).
    edge_nm : float
        Their edge.

    Returns
    -------
    Pieces or TooFew
    """
    # Blocks without labels are no observations.
    there = int(blocks.any(axis=-1).sum())
    of = f"of {edge_nm:.0f} nm"
    if there < FEWEST_BLOCKS:
        few = "1 block" if there == 1 else f"{there} blocks"
        return TooFew(too_few=f"{few} {of} with labels; {FEWEST_BLOCKS} or more are needed")
    alike = _ALIKE * min(1.0, _ALIKE_AT_NM / (2 * edge_nm))
    return Pieces.overlap(blocks, (2, 2, 2), f"bootstrap of neighbours among {there} blocks {of}", alike)


def bound_pooled(blocks: Counts, edge_nm: float) -> dict[str, Interval | TooFew]:
    """Return the 95 % interval of each score that is pooled over the voxels of a volume.

    The estimand is the score of any amount of tissue like this, seen by the same model.

    Parameters
    ----------
    blocks : array (z, y, x, 3)
        ``tp, fp, fn`` of each block (`Grid.add_up`).
    edge_nm : float
        Their edge.

    Returns
    -------
    dict
        By the names of `POOLED`.

    Examples
    --------
    >>> round(bound_pooled(np.full((1, 4, 4, 3), (8, 1, 1)), 512)["iou"].low, 6)
    0.8
    >>> bound_pooled(np.full((1, 3, 4, 3), (8, 1, 1)), 512)["iou"].too_few
    '12 blocks of 512 nm with labels; 16 or more are needed'
    """
    pieces = join_blocks(blocks, edge_nm)
    if isinstance(pieces, TooFew):
        return dict.fromkeys(POOLED, pieces)
    return {name: pieces.interval(score) for name, score in POOLED.items()}


def bound_mean(scores: NDArray[np.float64]) -> Interval | TooFew:
    """Return the 95 % interval of a mean over sections, such as V_rand.

    The estimand is the mean score of the sections of tissue like this, at the threshold that was chosen on this volume:
    that the threshold suits this volume best is not in the interval. V_rand is no mean over blocks, since what one hole
    in a membrane does to it depends on the whole of the two cells that it merges; so sections are drawn, a third of the
    stack at once, but no more than 24. Where scores go on from section to section, such intervals hold the truth about
    as often as they say; where they do not, more often: they are wider than they would have to be.

    Parameters
    ----------
    scores : array (sections,)
        Score of each section that has one, in order.

    Returns
    -------
    Interval or TooFew

    Examples
    --------
    >>> bound_mean(np.array([.9, .8, .9])).too_few
    '3 sections with a score; 6 or more are needed'
    """
    count = len(scores)
    if count < FEWEST_SECTIONS:
        return _too_few_sections(count)
    # Three pieces, which is as much as a short stack can say of errors that go on from section to section. Spans chosen
    # by the correlation found in 24 sections held the truth 68 % of the time, and the slow waves of `compare_means`
    # 85 to 94 %: so few sections do not show it.
    span = min(round(count / 3), _LONGEST_SPAN)
    sums = np.stack([scores, np.ones(count)], axis=1)[:, np.newaxis, np.newaxis]
    pieces = Pieces.overlap(sums, (span, 1, 1), f"bootstrap of {span} neighbours among {count} sections")
    return pieces.interval(_mean_of)


def compare_pooled(first: Counts, second: Counts, edge_nm: float) -> dict[str, Interval | TooFew]:
    """Return the 95 % interval of the first pooled score less the second, of two masks of one volume.

    Both are scored on the same draws of the same tissue, so what makes it hard for both cancels out.

    Parameters
    ----------
    first, second : array (z, y, x, 3)
        ``tp, fp, fn`` of each block.
    edge_nm : float
        Edge of the blocks.

    Returns
    -------
    dict
        By the names of `POOLED`.

    Raises
    ------
    InputError
        When the blocks are not the same.

    Examples
    --------
    >>> same = np.full((1, 4, 4, 3), (8, 1, 1))
    >>> found = compare_pooled(same, same, 512)["iou"]
    >>> found.low, found.high
    (0.0, 0.0)
    """
    _require_alike(first, second)
    a, b = (join_blocks(blocks, edge_nm) for blocks in (first, second))
    if isinstance(a, TooFew):
        return dict.fromkeys(POOLED, a)
    if isinstance(b, TooFew):
        return dict.fromkeys(POOLED, b)
    found: dict[str, Interval | TooFew] = {}
    for name, score in POOLED.items():
        value = float(score(a.counts.sum(axis=0)) - score(b.counts.sum(axis=0)))
        half = a.half_width(a.draw(score) - b.draw(score))
        found[name] = Interval(low=value - half, high=value + half, method=a.method)
    return found


def compare_means(first: NDArray[np.float64], second: NDArray[np.float64]) -> Interval | TooFew:
    """Return the 95 % interval of the first mean over sections less the second, of two masks of one volume.

    What makes the tissue hard for both cancels out in each section, and with it nearly all that goes on from section to
    section. So pieces of a third of the stack, as in `bound_mean`, would be far too few. How far the mean scatters is
    told by the slowest waves in the differences, cosines of half a turn, one turn and so on along the stack: one for
    each degree of freedom of Student's t. That is exact for normal differences that have nothing to do with each other,
    and too sure where they go on for long. The number of waves is that of [1]_, rounded, and at least two.

    Parameters
    ----------
    first, second : array (sections,)
        Scores of the same sections, in order.

    Returns
    -------
    Interval or TooFew

    Raises
    ------
    InputError
        When the sections are not the same.

    References
    ----------
    .. [1] Lazarus, Lewis, Stock and Watson (2018), HAR inference: recommendations for practice, Journal of Business and
       Economic Statistics 36, doi:10.1080/07350015.2018.1506926

    Examples
    --------
    >>> found = compare_means(np.linspace(.8, .9, 12), np.linspace(.7, .8, 12))
    >>> round(found.low, 3), round(found.high, 3)
    (0.1, 0.1)
    """
    _require_alike(first, second)
    differences, count = first - second, len(first)
    if count < FEWEST_SECTIONS:
        return _too_few_sections(count)
    number = max(2, round(0.4 * count ** (2 / 3)))
    waves = fft.dct(differences, norm="ortho")[1 : number + 1]
    value = float(differences.mean())
    half = math.sqrt(float((waves**2).mean()) / count) * float(stats.t.ppf(0.975, number))
    return Interval(low=value - half, high=value + half, method=f"{number} slow waves among {count} sections")


def _require_alike(first: Counts, second: Counts) -> None:
    if first.shape != second.shape:
        raise InputError(
            "scores of different tissue cannot be compared",
            expected=f"{first.shape}, as of the first",
            found=second.shape,
            fix="compare two runs on the same volume",
        )


def _too_few_sections(count: int) -> TooFew:
    few = "1 section" if count == 1 else f"{count} sections"
    return TooFew(too_few=f"{few} with a score; {FEWEST_SECTIONS} or more are needed")


def _mean_of(sums: Counts) -> NDArray[np.float64]:
    found: NDArray[np.float64] = sums[..., 0] / sums[..., 1]
    return found


def bound_share(count: int, of: int) -> Interval:
    """Return the 95 % interval of a share that was counted, by the score of Wilson [1]_.

    Parameters
    ----------
    count : int
        How often it was so.
    of : int
        Out of how many times, one or more.

    Returns
    -------
    Interval

    References
    ----------
    .. [1] Wilson (1927), Probable inference, the law of succession, and statistical inference, Journal of the American
       Statistical Association 22, doi:10.1080/01621459.1927.10502953

    Examples
    --------
    >>> found = bound_share(9, 10)
    >>> round(found.low, 3), round(found.high, 3)
    (0.596, 0.982)
    """
    z2, share = stats.norm.ppf(0.975) ** 2, count / of
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = math.sqrt(z2 * (share * (1 - share) / of + z2 / (4 * of**2))) / (1 + z2 / of)
    # Of none or all, the end is that, but for rounding.
    low, high = 0.0 if count == 0 else middle - half, 1.0 if count == of else middle + half
    return Interval(low=float(low), high=float(high), method=f"Wilson, {count} of {of}")


def bound_drawn(counts: Counts, score: Score, what: str, among: int | None = None) -> Interval | TooFew:
    """Return the 95 % interval of a pooled score of pieces that were drawn at random.

    Where the score is 0 or 1, no piece says how far others may be off: the interval is then that of the share of pieces
    with this score (`bound_share`), as if every other one had the opposite.

    Parameters
    ----------
    counts : array (pieces, k)
        What was counted in each.
    score : callable
        Of counts.
    what : str
        What the pieces are, in words, in the plural.
    among : int, optional
        Of how many the pieces were drawn, where the score of just those is wanted: the more of them are known, the
        less is left to be unsure of (W. G. Cochran, Sampling Techniques, 3rd edition, 1977, chapter 2).

    Returns
    -------
    Interval or TooFew

    Examples
    --------
    >>> counts = np.array([[8, 10], [9, 10]] * 5)
    >>> [round(bound_drawn(counts, ratio_of((1, 0), (0, 1)), "regions", among).low, 3) for among in (None, 20, 10)]
    [0.808, 0.821, 0.85]
    >>> found = bound_drawn(np.full((10, 2), 9), ratio_of((1, 0), (0, 1)), "regions")
    >>> round(found.low, 3), found.high
    (0.722, 1.0)
    """
    n = len(counts)
    if n < FEWEST_DRAWN:
        return TooFew(too_few=f"{n} {what}; {FEWEST_DRAWN} or more are needed")
    known = 0.0 if among is None else n / among
    value = float(score(counts.sum(axis=0)))
    if value in (0.0, 1.0):
        share = bound_share(round(n * value), n)
        low, high = (value + (1 - known) * (end - value) for end in (share.low, share.high))
        return Interval(low=low, high=high, method=f"Wilson, of {n} {what}")
    return Pieces(counts, 1 / n, math.sqrt(1 - known), f"bootstrap of {n} {what}").interval(score)
