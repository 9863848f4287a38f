"""Warping error: the wrong pixels that are left when the truth was bent to the mask without tearing or joining."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

from segem.kernels.metrics.not_defined import NOTHING_KNOWN, NotDefined
from segem.kernels.metrics.section import SectionMask

# The eight neighbours of a pixel, in the order of their bits.
_AROUND = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))


@dataclass(frozen=True)
class WarpingSums:
    """Pixels that stay wrong, and pixels counted; add them up over sections, then take the error.

    Parameters
    ----------
    wrong, pixels : int
        How many pixels no bending makes right, and how many there are.

    Notes
    -----
    V. Jain et al. (2010), doi:10.1109/CVPR.2010.5539950: pixels of the truth in which it differs from the mask are
    flipped as long as they are simple, which means that no cell and no piece of membrane appears, disappears, splits,
    joins or gets a hole; cells are 4-connected, membrane 8-connected. Pixels go where the probability differs most from
    the truth first, and the section is surrounded by membrane. What is left of the differences is the error. The ISBI
    2012 challenge counted differently, only those that split or merge cells and at the best of ten thresholds, so its
    figures cannot be compared with these, which are of the mask as it is.

    Examples
    --------
    A wall that is one pixel off costs nothing; one with a gap costs the pixel of the gap:

    >>> from segem.kernels.metrics.section import compare_section
    >>> truth, off, open_wall = np.zeros((3, 5, 7), np.uint8)
    >>> truth[:, 3], off[:, 4], open_wall[:, 3], open_wall[2, 3] = 1, 1, 1, 0
    >>> [WarpingSums.count(*compare_section(truth, mask, (4, 4), 4)).wrong for mask in (off, open_wall)]
    [0, 1]
    """

    wrong: int = 0
    pixels: int = 0

    @classmethod
    def count(cls, truth: SectionMask, found: SectionMask, probability: NDArray[np.uint8] | None = None) -> WarpingSums:
        """Count one section; `probability`, 255 = certain, says which differences go first."""
        certain = found.membrane * np.uint8(255) if probability is None else probability
        off = np.abs(truth.membrane * 255 - certain.astype(np.int16))
        different = (truth.membrane != found.membrane) & truth.known
        left = _bend(~truth.membrane & truth.known, different, off)
        return cls(left, int(np.count_nonzero(truth.known)))

    def __add__(self, other: WarpingSums) -> WarpingSums:
        return WarpingSums(self.wrong + other.wrong, self.pixels + other.pixels)

    @property
    def error(self) -> float | NotDefined:
        """Share of pixels that stay wrong; not defined where nothing is known."""
        return self.wrong / self.pixels if self.pixels else NOTHING_KNOWN


def _bend(cells: NDArray[np.bool_], different: NDArray[np.bool_], off: NDArray[np.int16]) -> int:
    """Flip pixels that differ as long as one is simple, the worst first, and return how many are left."""
    # Lists, since single pixels of an array take several times as long.
    inside, waiting = np.pad(cells, 1).tolist(), np.pad(different, 1).tolist()
    simple = _find_simple()
    queue = [(-int(off[y, x]), y + 1, x + 1) for y, x in np.argwhere(different).tolist()]
    left = len(queue)
    heapq.heapify(queue)
    while queue:
        _, y, x = heapq.heappop(queue)
        if not waiting[y][x]:
            continue
        if not simple[sum(inside[y + dy][x + dx] << bit for bit, (dy, dx) in enumerate(_AROUND))]:
            # It comes back once one of its neighbours has changed.
            continue
        inside[y][x], waiting[y][x] = not inside[y][x], False
        left -= 1
        for dy, dx in _AROUND:
            if waiting[y + dy][x + dx]:
                heapq.heappush(queue, (-int(off[y + dy - 1, x + dx - 1]), y + dy, x + dx))
    return left


@cache
def _find_simple() -> tuple[bool, ...]:
    """Return for each of the 256 neighbourhoods whether flipping its middle keeps the topology of the section."""
    return tuple(_is_simple(code) for code in range(256))


def _is_simple(code: int) -> bool:
    # G. Bertrand and G. Malandain (1994), doi:10.1016/0167-8655(94)90046-9: one 4-connected piece of cell beside the
    # middle, and one 8-connected piece of membrane around it.
    cell = np.zeros((3, 3), bool)
    for bit, (dy, dx) in enumerate(_AROUND):
        cell[1 + dy, 1 + dx] = bool(code >> bit & 1)
    membrane = ~cell
    membrane[1, 1] = False
    pieces = label(cell, connectivity=1)
    beside = {int(pieces[y, x]) for y, x in ((0, 1), (1, 0), (1, 2), (2, 1))} - {0}
    return len(beside) == 1 and int(label(membrane, connectivity=2).max()) == 1
