"""Basins of the membrane probability of a section, found strip by strip, so that no section need be held whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segem.errors import InputError

STRIP_PX = 2**20
"""Pixels that are worked on at once: what is held for each is some 60 bytes."""
_TRUNCATE = 4.0
"""Standard deviations at which a Gaussian is cut."""
_NUMBERS = 2**32
_OUTSIDE = np.finfo(np.float32).max


class Rows(Protocol):
    """A section that hands out its rows: an array, or what reads them from a file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent along (y, x)."""

    def __getitem__(self, rows: slice, /) -> NDArray[Any]:
        """Return some rows, (rows, x)."""


class Sheet(Rows, Protocol):
    """A section that takes rows as well."""

    def __setitem__(self, rows: slice, values: NDArray[Any], /) -> None:
        """Keep some rows."""


@dataclass(frozen=True, eq=False)
class Basins:
    """The basins of a section, numbered from 1 in the order of their minima; 0 outside.

    Parameters
    ----------
    kept : Sheet
        (y, x) uint32: for each pixel its basin; or, where its way leads out of the strip and the basin was not known
        yet, the complement of the place in `crossed` of the first pixel on it beyond the strip.
    crossed : (n,) uint32
        The basins of all pixels beside a border between two strips, row after row.
    count : int
        Number of basins.
    """

    kept: Sheet
    crossed: NDArray[np.uint32]
    count: int

    @classmethod
    def find(cls, probability: Rows, sigma_px: float, outside: Rows | None, into: Sheet) -> Basins:
        """Divide a section as `find_basins` does, with what is held for each pixel in `into`, (y, x) uint32."""
        parts, width = list(strips(probability.shape)), probability.shape[1]
        # A way may cross borders between strips any number of times. It is followed to the first crossing; what lies
        # beyond is looked up when all strips are done.
        crossed = np.zeros((2 * max(0, len(parts) - 1), width), np.uint32)
        row = np.arange(width, dtype=np.uint32)
        count = 0
        for k, rows in enumerate(parts):
            ends = _follow(_descend(_relief(probability, rows, sigma_px, outside)))
            hidden = None if outside is None else outside[rows] != 0
            names = np.zeros(ends.shape, np.uint32)
            if k > 0:
                names[0] = ~(row + np.uint32((2 * k - 2) * width))
            if k < len(parts) - 1:
                names[-1] = ~(row + np.uint32((2 * k + 1) * width))
            within = ends[1:-1]
            minima = within == np.arange(width, width + within.size).reshape(within.shape)
            if hidden is not None:
                minima &= ~hidden
            found = int(np.count_nonzero(minima))
            names[1:-1][minima] = np.arange(count + 1, count + found + 1, dtype=np.uint32)
            count += found
            numbers = names.reshape(-1)[within]
            if hidden is not None:
                numbers[hidden] = 0
            if k > 0:
                crossed[2 * k - 1] = numbers[0]
            if k < len(parts) - 1:
                crossed[2 * k] = numbers[-1]
            into[rows] = numbers
        # Else a complement could be the number of a basin.
        if count + crossed.size >= _NUMBERS:
            raise InputError(
                "the section has too many basins to number them",
                expected=f"fewer than {_NUMBERS - crossed.size}",
                found=count,
                fix="smooth it more, with a larger --sigma-px",
            )
        return cls(into, _look_up(crossed.reshape(-1), count), count)

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent along (y, x)."""
        return self.kept.shape

    def __getitem__(self, rows: slice, /) -> NDArray[np.uint32]:
        """Return the numbers of the basins of some rows, (rows, x)."""
        numbers = self.kept[rows]
        beyond = numbers > self.count
        if not beyond.any():
            return numbers
        return np.where(beyond, self.crossed[np.where(beyond, ~numbers, 0)], numbers)


def find_basins(
    probability: NDArray[np.uint8], sigma_px: float, outside: NDArray[np.uint8] | None = None
) -> NDArray[np.uint32]:
    """Divide a section into the basins of its smoothed probability, by where water on the steepest way ends.

    Parameters
    ----------
    probability, sigma_px, outside
        See `segem.kernels.cells.find_cells`.

    Returns
    -------
    (y, x) uint32
        Numbers from 1, in the order of the minima; 0 outside.

    Notes
    -----
    Each pixel leads to the lowest of itself and the four that share an edge with it, of equal ones to the first in
    reading order; so there are no plateaus, and nothing depends on the order of work (a watershed by topographic
    distance: F. Meyer, Signal Processing 38(1) (1994), doi:10.1016/0165-1684(94)90060-4). Flat ground has several
    minima in this order, of which merging makes one again.

    Examples
    --------
    >>> find_basins(np.array([[0, 1, 9, 1, 0]], np.uint8), sigma_px=0).tolist()
    [[1, 1, 1, 2, 2]]
    """
    numbers = np.empty(probability.shape, np.uint32)
    basins = Basins.find(probability, sigma_px, outside, numbers)
    for rows in strips(numbers.shape):
        numbers[rows] = basins[rows]
    return numbers


def strips(shape: tuple[int, ...]) -> Iterator[slice]:
    """Yield the rows of a section, so many at a time that they hold about `STRIP_PX` pixels.

    Examples
    --------
    >>> [(rows.start, rows.stop) for rows in strips((100, 2**15))][-2:]
    [(64, 96), (96, 100)]
    """
    height = max(1, STRIP_PX // max(1, shape[1]))
    yield from (slice(start, min(start + height, shape[0])) for start in range(0, shape[0], height))


def _relief(probability: Rows, rows: slice, sigma_px: float, outside: Rows | None) -> NDArray[np.float32]:
    """Return the smoothed probability of some rows with one pixel around them: infinite beyond the section."""
    height, width = probability.shape
    start, stop = max(0, rows.start - 1), min(height, rows.stop + 1)
    # Rows that the Gaussian reaches are smoothed along, so that strips give what the whole section would.
    reach = int(_TRUNCATE * sigma_px + 0.5)
    first = max(0, start - reach)
    seen = probability[first : min(height, stop + reach)]
    smooth = ndimage.gaussian_filter(seen, sigma_px, output=np.float32, mode="nearest", truncate=_TRUNCATE)
    relief = np.full((rows.stop - rows.start + 2, width + 2), np.inf, np.float32)
    within = relief[start - rows.start + 1 : stop - rows.start + 1, 1:-1]
    within[:] = smooth[start - first : stop - first]
    if outside is not None:
        # Higher than any tissue, so that no way leads there.
        within[outside[start:stop] != 0] = _OUTSIDE
    return relief


def _descend(relief: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the lowest neighbour of each pixel of a strip, by its number in reading order.

    The rows above and below the strip are counted too, and lead nowhere.
    """
    height, width = relief.shape[0] - 2, relief.shape[1] - 2
    best = relief[2:, 1:-1].copy()
    step = np.full(best.shape, width, np.int32)
    # From the last in reading order to the first, so that the first of equal ones remains.
    for offset, beside in (
        (1, relief[1:-1, 2:]),
        (0, relief[1:-1, 1:-1]),
        (-1, relief[1:-1, :-2]),
        (-width, relief[:-2, 1:-1]),
    ):
        lower = beside <= best
        np.copyto(best, beside, where=lower)
        step[lower] = offset
    leads = np.arange((height + 2) * width).reshape(height + 2, width)
    leads[1:-1] += step
    return leads


def _follow(leads: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where the way from each pixel ends, if each leads to one that is lower or to itself."""
    ends = leads.reshape(-1)
    while True:
        # Each round at least doubles the way that is left behind.
        further = ends[ends]
        if np.array_equal(further, ends):
            return ends.reshape(leads.shape)
        ends = further


def _look_up(crossed: NDArray[np.uint32], count: int) -> NDArray[np.uint32]:
    """Replace each complement of a place, which is larger than `count`, by the basin that is found there in the end."""
    waiting = np.flatnonzero(crossed > count)
    while waiting.size:
        crossed[waiting] = crossed[~crossed[waiting]]
        waiting = waiting[crossed[waiting] > count]
    return crossed
