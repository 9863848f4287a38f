"""Cells of one section: basins of the membrane probability, merged where the border between them is weak.

A threshold cuts each pixel by itself, so a gap of a few pixels in a membrane joins two cells. Here the whole border
between two regions decides: its mean probability says whether it is a membrane with a gap or no membrane at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segem.kernels.merging import Borders, join_borders, merge_basins

STRIP_PX = 2**20
"""Pixels that are worked on at once: what is held for each is some 60 bytes."""
_TRUNCATE = 4.0
"""Standard deviations at which a Gaussian is cut."""
_OUTSIDE = np.finfo(np.float32).max


def find_cells(
    probability: NDArray[np.uint8],
    sigma_px: float,
    merge_below: float,
    outside: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint32]:
    """Divide a section into cells, without gaps between them.

    Parameters
    ----------
    probability : (y, x) uint8
        Membrane probability, 255 = certain.
    sigma_px : float
        Standard deviation of the Gaussian that smooths it before it is divided, in pixels.
    merge_below : float
        Mean probability of a border, 0 to 1, below which the two sides are one cell.
    outside : (y, x) uint8, optional
        Nonzero where there is no tissue.

    Returns
    -------
    (y, x) uint32
        Numbers from 1, each used; 0 outside. Each cell is connected by pixels that share an edge.

    Notes
    -----
    Basins of the smoothed probability (`find_basins`), merged from the weakest border on
    (`segem.kernels.merging.merge_basins`). How well it does is in docs/explanation/cells.md.

    Examples
    --------
    A wall of certain membrane, through which one pixel in four leaks:

    >>> section = np.zeros((4, 7), np.uint8)
    >>> section[:, 3] = (255, 255, 0, 255)
    >>> find_cells(section, sigma_px=0, merge_below=0.5)[0].tolist()
    [1, 1, 1, 1, 2, 2, 2]
    """
    basins = find_basins(probability, sigma_px, outside)
    merged = merge_basins(measure_borders(basins, probability), int(basins.max(initial=0)), merge_below)
    cells = basins.view(np.uint32) if basins.dtype == np.int32 else basins.astype(np.uint32)
    for rows in _strips(cells.shape):
        cells[rows] = merged[cells[rows]]
    return cells


def close_membrane(mask: NDArray[np.uint8], cells: NDArray[np.uint32], *, in_place: bool = False) -> NDArray[np.uint8]:
    """Draw the borders between cells into a membrane mask.

    Parameters
    ----------
    mask : (y, x) uint8
        1 = membrane.
    cells : (y, x) uint32
        Numbers of the cells; 0 outside, where nothing is drawn.
    in_place : bool
        Draw into `mask` itself.

    Returns
    -------
    (y, x) uint8, 0 or 1
        The mask and lines of one pixel: no two pixels of different cells share an edge off the membrane.

    Examples
    --------
    >>> close_membrane(np.zeros((1, 4), np.uint8), np.array([[1, 1, 2, 2]], np.uint32)).tolist()
    [[0, 1, 0, 0]]
    """
    closed = mask if in_place else mask.copy()
    for rows in _strips(cells.shape):
        beyond = min(rows.stop + 1, cells.shape[0])
        here, below = cells[rows], cells[rows.start + 1 : beyond]
        line = closed[rows]
        line[:, :-1] |= _differ(here[:, :-1], here[:, 1:])
        line[: len(below)] |= _differ(here[: len(below)], below)
    return closed


def find_basins(
    probability: NDArray[np.uint8], sigma_px: float, outside: NDArray[np.uint8] | None = None
) -> NDArray[np.int32] | NDArray[np.int64]:
    """Divide a section into the basins of its smoothed probability, by where water on the steepest way ends.

    Parameters
    ----------
    probability, sigma_px, outside
        See `find_cells`.

    Returns
    -------
    (y, x) int32, or int64 for sections of 2**31 pixels and more
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
    shape, width = probability.shape, probability.shape[1]
    # What each pixel leads to, by its number in reading order. In the end it is overwritten by the number of its basin,
    # so that a large section needs no second array.
    leads = np.empty(shape, np.int32 if probability.size < 2**31 else np.int64)
    for rows in _strips(shape):
        leads[rows] = _descend(_relief(probability, rows, sigma_px, outside))
        leads[rows] += np.arange(rows.start * width, rows.stop * width, dtype=leads.dtype).reshape(-1, width)
    flat = leads.reshape(-1)
    parts = [slice(rows.start * width, rows.stop * width) for rows in _strips(shape)]
    # Each round at least doubles the way that is left behind.
    while sum(_shorten(flat, part) for part in parts):
        pass
    _number(flat, parts, None if outside is None else outside.reshape(-1))
    return leads


def measure_borders(basins: NDArray[np.integer[Any]], probability: NDArray[np.uint8]) -> Borders:
    """Return the borders between the basins of a section; those with what is outside are left out.

    Parameters
    ----------
    basins : (y, x) int
        Numbers from 1; 0 outside.
    probability : (y, x) uint8
        Membrane probability, 255 = certain, not smoothed.

    Returns
    -------
    Borders

    Examples
    --------
    >>> found = measure_borders(np.array([[1, 1, 2], [1, 2, 2]]), np.array([[0, 9, 8], [8, 3, 0]], np.uint8))
    >>> found.one.tolist(), found.other.tolist(), found.total.tolist(), found.length.tolist()
    ([1], [2], [26.0], [3.0])
    """
    parts = [_measure_strip(basins, probability, rows) for rows in _strips(basins.shape)]
    return join_borders(parts)


def _measure_strip(basins: NDArray[np.integer[Any]], probability: NDArray[np.uint8], rows: slice) -> Borders:
    """Return the borders within some rows, and with the row below them."""
    stop = min(rows.stop + 1, basins.shape[0])
    here, height = basins[rows], probability[rows]
    below, height_below = basins[rows.start + 1 : stop], probability[rows.start + 1 : stop]
    pairs = (
        (here[:, :-1], here[:, 1:], height[:, :-1], height[:, 1:]),
        (here[: len(below)], below, height[: len(below)], height_below),
    )
    parts = []
    for a, b, p, q in pairs:
        touch = _differ(a, b)
        parts.append(Borders.gather(a[touch], b[touch], np.maximum(p[touch], q[touch])))
    return join_borders(parts)


def _relief(
    probability: NDArray[np.uint8], rows: slice, sigma_px: float, outside: NDArray[np.uint8] | None
) -> NDArray[np.float32]:
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
    """Return how much further in reading order the lowest neighbour of each pixel is, inside a border of one pixel."""
    width = relief.shape[1] - 2
    best = relief[2:, 1:-1].copy()
    step = np.full(best.shape, width)
    # From the last in reading order to the first, so that the first of equal ones remains.
    for offset, height in (
        (1, relief[1:-1, 2:]),
        (0, relief[1:-1, 1:-1]),
        (-1, relief[1:-1, :-2]),
        (-width, relief[:-2, 1:-1]),
    ):
        lower = height <= best
        best[lower] = height[lower]
        step[lower] = offset
    return step


def _shorten(leads: NDArray[Any], part: slice) -> bool:
    """Let some pixels lead to where those lead that they lead to, and return whether that changed anything."""
    further = leads[leads[part]]
    changed = not np.array_equal(further, leads[part])
    leads[part] = further
    return changed


def _number(leads: NDArray[Any], parts: list[slice], outside: NDArray[np.uint8] | None) -> None:
    """Replace the minimum that each pixel leads to by its number, counted from 1 over those that are tissue."""
    count = 0
    for part in parts:
        minima = part.start + np.flatnonzero(leads[part] == np.arange(part.start, part.stop))
        tissue = np.ones(minima.size, bool) if outside is None else outside[minima] == 0
        numbers = np.where(tissue, count + np.cumsum(tissue), 0)
        # Below zero, which nothing leads to, until every pixel has found its minimum.
        leads[minima] = -1 - numbers
        count += int(np.count_nonzero(tissue))
    for part in parts:
        here = leads[part]
        here[:] = np.where(here < 0, here, leads[np.maximum(here, 0)])
    for part in parts:
        leads[part] = -1 - leads[part]
        if outside is not None:
            leads[part][outside[part] != 0] = 0


def _differ(a: NDArray[np.integer[Any]], b: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    """Return where two pixels are of different basins or cells, both of tissue."""
    differ: NDArray[np.bool_] = (a != b) & (a != 0) & (b != 0)
    return differ


def _strips(shape: tuple[int, ...]) -> Iterator[slice]:
    """Yield the rows of a section, so many at a time that they hold about `STRIP_PX` pixels."""
    height = max(1, STRIP_PX // max(1, shape[1]))
    yield from (slice(start, min(start + height, shape[0])) for start in range(0, shape[0], height))
