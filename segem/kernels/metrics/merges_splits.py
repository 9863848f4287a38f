"""Mergers and splits of cells: how many there are in a section, and where."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.kernels.metrics.contingency import Overlaps
from segem.kernels.metrics.section import SectionMask


@dataclass(frozen=True, order=True)
class Join:
    """A place where two parts run together that should not.

    Parameters
    ----------
    pixels : int
        Size of the smaller side: its pixels that are further than the tolerance from any line.
    y, x : int
        The place, a pixel of the section.
    """

    pixels: int
    y: int
    x: int


@dataclass(frozen=True, eq=False)
class MergesSplits:
    """Mergers and splits of one section.

    Truth and mask are both thinned to lines of one pixel, and of each true cell and each segment what lies within the
    tolerance of a line is left out. A segment in which parts of n cells are left has n - 1 mergers; a cell in which
    parts of n segments are left has n - 1 splits. So a border that is off by less than the tolerance is no error, nor
    is a speck into which no disc of that radius fits.

    Parameters
    ----------
    truth, found : SectionMask
        Truth and mask of the section.
    overlaps : Overlaps
        The pixels of each cell and segment that lie further than the tolerance from the lines of both.

    Notes
    -----
    The tolerance is that of the tolerant edit distance, J. Funke et al. (2017), doi:10.1016/j.ymeth.2016.12.013. That
    distance also looks for the cheapest of all numberings within the tolerance, which is not done here.

    Examples
    --------
    Two cells of three pixels that the mask merges:

    >>> from segem.kernels.metrics.section import compare_section
    >>> truth, mask = np.array([[0, 0, 0, 1, 0, 0, 0]], np.uint8), np.zeros((1, 7), np.uint8)
    >>> found = MergesSplits.count(*compare_section(truth, mask, (4, 4), 4))
    >>> found.merges, found.splits, found.find_merges()
    (1, 0, (Join(pixels=2, y=0, x=3),))
    """

    truth: SectionMask
    found: SectionMask
    overlaps: Overlaps

    @classmethod
    def count(cls, truth: SectionMask, found: SectionMask) -> MergesSplits:
        """Count one section."""
        return cls(truth, found, Overlaps.count(truth.segments, found.segments, truth.deep & found.deep))

    @property
    def merges(self) -> int:
        """Number of mergers."""
        return self.overlaps.pixels.size - np.unique(self.overlaps.proposal_at).size

    @property
    def splits(self) -> int:
        """Number of splits."""
        return self.overlaps.pixels.size - np.unique(self.overlaps.truth_at).size

    def find_merges(self) -> tuple[Join, ...]:
        """Return where cells are merged, the largest first: in the membrane between them, at a gap if there is one."""
        pairs = self.overlaps
        return _find_joins(self.found, self.truth, pairs.proposal, pairs.truth, pairs.pixels)

    def find_splits(self) -> tuple[Join, ...]:
        """Return where cells are split, the largest first: on the line between the segments, within the cell."""
        pairs = self.overlaps
        return _find_joins(self.truth, self.found, pairs.truth, pairs.proposal, pairs.pixels)


def _find_joins(
    wholes: SectionMask,
    parts: SectionMask,
    whole_of: NDArray[np.integer[Any]],
    part_of: NDArray[np.integer[Any]],
    pixels: NDArray[np.int64],
) -> tuple[Join, ...]:
    """Return the places where the parts in one whole meet: for each whole, one less than it has parts."""
    pieces = list(zip(whole_of.tolist(), part_of.tolist(), strict=True))
    size = dict(zip(pieces, pixels.tolist(), strict=True))
    root = {piece: piece for piece in pieces}

    def find_root(piece: tuple[int, int]) -> tuple[int, int]:
        while root[piece] != piece:
            root[piece] = root[root[piece]]
            piece = root[piece]
        return piece

    found = []
    # The widest gaps first: what they join has been joined, whatever smaller ones there are beside.
    for whole, one, other, at in _meet(wholes, parts):
        if (whole, one) in root and (whole, other) in root:
            first, second = find_root((whole, one)), find_root((whole, other))
            if first != second:
                smaller, larger = sorted((first, second), key=lambda piece: size[piece])
                found.append(_place(at, size[smaller], parts.segments.shape[1]))
                root[smaller] = larger
                size[larger] += size[smaller]
    found += _find_apart(wholes, parts, {piece: size[piece] for piece in pieces if root[piece] == piece})
    return tuple(sorted(found, reverse=True))


def _meet(wholes: SectionMask, parts: SectionMask) -> Iterator[tuple[int, int, int, NDArray[np.intp]]]:
    """Yield each whole with two parts that a line in it separates, and the pixels of this line, those of gaps alone."""
    segments = np.pad(parts.segments, 1)
    width = segments.shape[1]
    line = np.flatnonzero((parts.segments == 0) & (wholes.segments != 0))
    rows, columns = np.divmod(line, parts.segments.shape[1])
    inside = (rows + 1) * width + columns + 1
    around = np.stack([segments.ravel()[inside + step] for step in (-width, -1, 1, width)])
    high, low = around.max(axis=0), np.where(around == 0, np.iinfo(np.int32).max, around).min(axis=0)
    two = low < high
    line, high, low = line[two], high[two], low[two]
    whole = wholes.segments.ravel()[line]
    gap = wholes.cells.ravel()[line] != 0
    order = np.lexsort((~gap, high, low, whole))
    keys = np.stack([whole, low, high])[:, order]
    starts = np.flatnonzero(np.concatenate(([True], (keys[:, 1:] != keys[:, :-1]).any(axis=0)))) if line.size else line
    stops = np.append(starts[1:], line.size)
    gaps = np.add.reduceat(gap[order], starts, dtype=np.int64) if line.size else starts
    for k in np.argsort(-gaps, kind="stable").tolist():
        # Gaps stand first. Without one, the line is crossed because a cell was filled with membrane.
        stop = starts[k] + gaps[k] if gaps[k] else stops[k]
        a, b, c = keys[:, starts[k]].tolist()
        yield a, b, c, line[order[starts[k] : stop]]


def _find_apart(wholes: SectionMask, parts: SectionMask, size: dict[tuple[int, int], int]) -> Iterator[Join]:
    """Yield a place for parts of one whole that no line separates, as where what is unknown lies between them."""
    largest: dict[int, tuple[int, int]] = {}
    for piece in size:
        kept = largest.setdefault(piece[0], piece)
        largest[piece[0]] = max(kept, piece, key=lambda one: size[one])
    for piece in size:
        if largest[piece[0]] != piece:
            at = np.flatnonzero((wholes.segments == piece[0]) & (parts.segments == piece[1]) & wholes.deep & parts.deep)
            yield _place(at, size[piece], parts.segments.shape[1])


def _place(at: NDArray[np.intp], pixels: int, width: int) -> Join:
    """Return the one of some pixels that is nearest to their middle."""
    y, x = np.divmod(at, width)
    nearest = int(np.argmin((y - y.mean()) ** 2 + (x - x.mean()) ** 2))
    return Join(pixels, int(y[nearest]), int(x[nearest]))
