"""Whether the borders of tiles and blocks show in a probability map."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from segem.geometry import ceil_div
from segem.kernels.tiles import tile_starts
from segem.records.seams import SeamAudit

# Jumps are added up over so many pixels along a border. Noise of neighbouring pixels cancels out; of all lengths tried,
# from 1 to 64, this one shows both an offset of a whole tile and a shift, whose jumps change sign from line to line.
_PIECE_PX = 16
# Rows that a border is compared with at once: near, since membrane is not everywhere the same, but beyond those that a
# jump at the border itself reaches.
_NEAR = tuple(k for k in range(-6, 7) if abs(k) >= 3)
_REACH = max(_NEAR) + 2
# Planes beside each border that serve as borders which are none.
_SHIFTS = tuple(k for k in range(-7, 8) if k)
_FEWEST_PLANES = 8
# Membrane changes so much from section to section that a finer raster would not find more.
_MOST_CELLS = 64
# Of each question of `SeamSums.audit`. Below the ratios nobody could see a seam, however sure it is.
_CHANCE = 3e-5
_VISIBLE = 1.03
_VISIBLE_ONE = 1.1

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Seams:
    """Where tiles and blocks meet.

    Parameters
    ----------
    rows, columns, sections : tuple of int
        First row below, first column right of, and first section after each border.
    stride_px : int
        Lattice of the net's poolings, on which tiles start; planes on the same phase of it are compared.
    """

    rows: tuple[int, ...] = ()
    columns: tuple[int, ...] = ()
    sections: tuple[int, ...] = ()
    stride_px: int = 1

    def within(self, shape: tuple[int, int, int]) -> Seams:
        """Return the borders inside a volume (z, y, x), each once."""
        inner = (
            tuple(sorted({at for at in axis if 0 < at < size}))
            for axis, size in zip((self.sections, self.rows, self.columns), shape, strict=True)
        )
        sections, rows, columns = inner
        return Seams(rows, columns, sections, self.stride_px)


def _nothing() -> Floats:
    return np.zeros((0, 1 + len(_SHIFTS), 2))


@dataclass(frozen=True)
class SeamSums:
    """What the jumps at borders, and at the planes beside them, add up to; add up sections in order, then audit.

    Parameters
    ----------
    edges : array (edges, planes, 2) of float64
        For each edge of a tile, at its border and at the planes beside it: sum and number of the contrasts.
    sections : tuple of array (planes, 2) of float64
        The same for each section, over its edges.
    means : tuple of array (y, x) of float32
        For each section the mean probability of the cells of a coarse raster; nothing where no block ends along z.

    Examples
    --------
    >>> rough = np.random.default_rng(0).integers(0, 200, (128, 128)).astype(np.uint8)
    >>> rough[64:] += 40
    >>> seams = Seams(rows=(64,))
    >>> SeamSums.count(rough, seams).audit(seams, (1, 128, 128)).shows
    False
    """

    edges: Floats = field(default_factory=_nothing)
    sections: tuple[Floats, ...] = ()
    means: tuple[NDArray[np.float32], ...] = ()

    @classmethod
    def count(cls, section: NDArray[np.uint8], seams: Seams) -> SeamSums:
        """Sum up one section.

        Parameters
        ----------
        section : ndarray of uint8, shape (y, x)
            Probability map.
        seams : Seams
            Where tiles and blocks meet; borders outside the section are left out.
        """
        seams = seams.within((max(seams.sections, default=0) + 1, *section.shape))
        edges = np.concatenate(
            [
                _contrasts(section, seams.rows, seams.columns, seams.stride_px),
                _contrasts(section.T, seams.columns, seams.rows, seams.stride_px),
            ]
        )
        return cls(edges, (edges.sum(axis=0),), (_average(section),) if seams.sections else ())

    def __add__(self, other: SeamSums) -> SeamSums:
        if not self.sections or not other.sections:
            return self if self.sections else other
        return SeamSums(self.edges + other.edges, self.sections + other.sections, self.means + other.means)

    def audit(self, seams: Seams, shape: tuple[int, int, int]) -> SeamAudit:
        """Return whether seams show in everything counted.

        A border is compared with the rows near it, and what is found there with the same at planes beside it: where a
        net leaves a pattern on the lattice of its poolings, both have it. Three questions are asked of the borders in
        sections, each at a chance of 3 in 100,000 for a volume without seams: do they jump more than the planes beside
        them on the whole; does the edge of any tile, over all sections; does any section, over all edges. Between
        sections, the jumps at the ends of blocks are compared with all others.

        Parameters
        ----------
        seams : Seams
            As given to `count`.
        shape : tuple of int
            Of the volume (z, y, x).

        Returns
        -------
        SeamAudit
            The ratio is that of the geometric means of the jumps, in grey levels, plus 1.
        """
        seams = seams.within(shape)
        within, between = _Comparison.of(self.edges), _compare_sections(self.means, seams.sections)
        found = [*_judge_within(within, self, seams), *_judge_between(between, seams)]
        low, high = within.interval() if within else (None, None)
        return SeamAudit(
            planes=len(seams.rows) + len(seams.columns) + len(seams.sections),
            planes_z=len(seams.sections),
            ratio=within.ratio if within else None,
            low=low,
            high=high,
            ratio_z=between.ratio if between else None,
            shows=bool(found),
            where=found[0] if found else None,
        )


@dataclass(frozen=True)
class _Comparison:
    """Contrasts at borders beside those of planes that are none."""

    excess: float
    """Mean at the borders less that of the planes, in logarithms."""
    error: float
    freedom: int
    mean: float
    """Of the planes."""
    scatter: float
    """Standard deviation of the contrast of one piece of a plane."""

    @classmethod
    def of(cls, groups: Floats) -> _Comparison | None:
        """Compare the first plane of each group with the others; None where there are too few others."""
        sums, counts = groups[..., 0], groups[..., 1]
        there = counts > 0
        border, others = there[:, 0], there[:, 1:]
        if not border.any() or others.sum() < _FEWEST_PLANES:
            return None
        n, total = counts[:, 1:][others], sums[:, 1:][others]
        mean = total.sum() / n.sum()
        # The variance of the mean of a plane falls with its length; the planes themselves say from which value.
        scatter = math.sqrt((n * (total / n - mean) ** 2).sum() / (len(n) - 1))
        at = counts[:, 0].sum()
        error = scatter * math.sqrt(1 / at + 1 / n.sum())
        return cls(float(sums[:, 0].sum() / at - mean), error, len(n) - 1, float(mean), scatter)

    @property
    def ratio(self) -> float:
        return math.exp(self.excess)

    @property
    def chance(self) -> float:
        """Chance of as much where there is no seam."""
        return _tail(self.excess, self.error, self.freedom)

    def interval(self) -> tuple[float, float]:
        half = float(stats.t.ppf(0.975, self.freedom)) * self.error
        return math.exp(self.excess - half), math.exp(self.excess + half)

    def worst(self, groups: Floats) -> tuple[int, float, float]:
        """Return the group that stands out most, its ratio, and the chance that any would as much without a seam."""
        sums, counts = groups[:, 0, 0], groups[:, 0, 1]
        n = np.maximum(counts, 1)
        excess = np.where(counts > 0, sums / n - self.mean, -np.inf)
        index = int(np.argmax(excess * np.sqrt(n)))
        chance = _tail(float(excess[index]), self.scatter / math.sqrt(n[index]), self.freedom) * int((counts > 0).sum())
        return index, math.exp(excess[index]), chance


def _tail(excess: float, error: float, freedom: int) -> float:
    if error == 0:
        return 0.0 if excess > 0 else 1.0
    return float(stats.t.sf(excess / error, freedom))


def _judge_within(pooled: _Comparison | None, sums: SeamSums, seams: Seams) -> Iterator[str]:
    """Yield in words where seams show within sections, the broadest finding first."""
    if pooled is None:
        return
    if pooled.chance < _CHANCE and pooled.ratio > _VISIBLE:
        yield f"at the borders of tiles or blocks: {_times(pooled.ratio)}"
    index, ratio, chance = pooled.worst(sums.edges)
    if chance < _CHANCE and ratio > _VISIBLE_ONE:
        yield f"at {_name_edge(seams, index)}: {_times(ratio)}"
    sections = np.stack(sums.sections)
    by_section = _Comparison.of(sections)
    if by_section is not None:
        index, ratio, chance = by_section.worst(sections)
        if chance < _CHANCE and ratio > _VISIBLE_ONE:
            yield f"in section {index}: {_times(ratio)}"


def _judge_between(between: _Comparison | None, seams: Seams) -> Iterator[str]:
    if between is not None and between.chance < _CHANCE and between.ratio > _VISIBLE_ONE:
        listed = ", ".join(map(str, seams.sections[:8])) + (" and more" if len(seams.sections) > 8 else "")
        yield f"between sections, where blocks end (before section {listed}): {_times(between.ratio)}"


def _times(ratio: float) -> str:
    return f"the probability jumps {ratio:.2f} times as much there as beside"


def _name_edge(seams: Seams, index: int) -> str:
    across = len(seams.columns) + 1
    rows = len(seams.rows) * across
    if index < rows:
        at, along, tile = seams.rows[index // across], seams.columns, index % across
        name, other = "row", "column"
    else:
        index -= rows
        at, along, tile = seams.columns[index // (len(seams.rows) + 1)], seams.rows, index % (len(seams.rows) + 1)
        name, other = "column", "row"
    start = (0, *along)[tile]
    return f"{name} {at}, from {other} {start}"


def _contrasts(section: NDArray[np.uint8], borders: Sequence[int], crossing: Sequence[int], stride_px: int) -> Floats:
    """Return sum and number of contrasts (edges, planes, 2) at the borders along y, an edge between two `crossing`."""
    height, width = section.shape
    starts = np.arange(0, width - _PIECE_PX + 1, _PIECE_PX)
    if not borders or not len(starts):
        return np.zeros((len(borders) * (len(crossing) + 1), 1 + len(_SHIFTS), 2))
    # A piece belongs to the edge that its middle lies in.
    edge_of = np.searchsorted(crossing, starts + _PIECE_PX // 2, side="right")
    edges = len(crossing) + 1
    step = stride_px * ceil_div(_PIECE_PX, stride_px)
    found = np.zeros((len(borders), edges, 1 + len(_SHIFTS), 2))
    for b, border in enumerate(borders):
        for k, shift in enumerate((0, *_SHIFTS)):
            at = border + shift * step
            clear = shift == 0 or all(abs(at - other) > _REACH + 2 for other in borders)
            if not clear or not _REACH <= at <= height - _REACH:
                continue
            strip = np.add.reduceat(section[at - _REACH : at + _REACH], starts, axis=1, dtype=np.int32)
            values, told = _contrast(strip)
            found[b, :, k, 0] = np.bincount(edge_of, np.where(told, values, 0), minlength=edges)
            found[b, :, k, 1] = np.bincount(edge_of, told, minlength=edges)
    return found.reshape(-1, 1 + len(_SHIFTS), 2)


def _contrast(strip: NDArray[np.int32]) -> tuple[Floats, NDArray[np.bool_]]:
    """Return how much more each column of a strip jumps in its middle than nearby, and whether it changes at all."""
    a, b, c, d = (strip[k : len(strip) - 3 + k] for k in range(4))
    # What is left of a step when both sides are continued along their slopes: membranes are steep but smooth.
    jump = np.abs(1.5 * (c - b) - 0.5 * (d - a)) / _PIECE_PX
    # Logarithms, since jumps have so long a tail that a few membranes would outweigh all else; one grey level is added,
    # since less cannot be told.
    logs = np.log1p(jump)
    middle = _REACH - 2
    contrast: Floats = logs[middle] - logs[[middle + k for k in _NEAR]].mean(axis=0)
    told: NDArray[np.bool_] = (jump != 0).any(axis=0)
    return contrast, told


def _average(section: NDArray[np.uint8]) -> NDArray[np.float32]:
    starts = [tile_starts(size, max(_PIECE_PX, ceil_div(size, _MOST_CELLS))) for size in section.shape]
    sums = np.add.reduceat(np.add.reduceat(section, starts[0], axis=0, dtype=np.int64), starts[1], axis=1)
    sizes = np.outer(*(np.diff([*start, size]) for start, size in zip(starts, section.shape, strict=True)))
    means: NDArray[np.float32] = (sums / sizes).astype(np.float32)
    return means


def _compare_sections(means: Sequence[NDArray[np.float32]], ends: Sequence[int]) -> _Comparison | None:
    """Compare how much sections differ at the ends of blocks and elsewhere."""
    if not ends or len(means) < 2:
        return None
    jumps = np.array([np.log1p(np.abs(b - a)).mean() for a, b in pairwise(means)])
    at_end = np.isin(np.arange(1, len(means)), ends)
    there, elsewhere = jumps[at_end], jumps[~at_end]
    if not len(there) or len(elsewhere) < _FEWEST_PLANES:
        return None
    scatter, mean = float(elsewhere.std(ddof=1)), float(elsewhere.mean())
    error = scatter * math.sqrt(1 / len(there) + 1 / len(elsewhere))
    return _Comparison(float(there.mean()) - mean, error, len(elsewhere) - 1, mean, scatter)
