"""Parts of a section that are no tissue: large areas of one exact value, as padding, masks and data bars leave them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import convex_hull_image

from segem.geometry import ceil_div

CELL_PX = 8
"""Edge of the cells in which areas of one value are looked for, at most; that of smaller sections divides it."""
CELLS_A_SIDE = 64
"""Cells that a section has along its side at least, where they are smaller than `CELL_PX`."""
RING_PX = 2
"""How far an area is grown where interpolation has mixed the pixels at its border with the tissue."""
MIXED = 0.8
"""How near the value of an area its border is, beside tissue a little further away, where it is mixed."""
WRITING_PX = 64
"""Most that the shorter side of what an area encloses may measure to belong to it, as the letters of a data bar do."""
EDGE_CELLS = 8
"""Cells that an area has at least along the edge of a section: 64 pixels, unless what it leaves is convex."""
EDGE_SHARE = 0.25
"""Length of an area along the edge, as a share of the shorter side, from which it need not hold a corner. A lumen that
the edge cuts is shorter."""
CORNER_CELLS = 2
"""Cells from the corner of a section, along both sides, of which one is enough: a hot pixel may be in the last one."""
INNER_CELLS = 32
"""Cells that an area amid tissue has at least: 2,048 pixels. In all sections of the public sets, the largest has 7."""
LEAST_SHARE = 0.005
"""Share of the section that an area of smaller cells has at least."""
CONVEX = 0.1
"""Share of an area that may lie within the convex hull of what it leaves of a section."""
SPECK = 0.1
"""Size, as a share of the largest piece of what an area leaves, below which another piece is left aside."""
LEAST_LEVELS = 17
"""Intensities that a section has at least; with fewer, areas of one value are what its tissue is drawn in."""
RECTANGULAR = 0.9
"""Share of the box around it that a bar fills."""

NO_VALUE = -1


@dataclass(frozen=True)
class Area:
    """What hangs together of a section, or of a part of it, and is no tissue.

    Parameters
    ----------
    low, high : int
        The intensities it holds, both included.
    cells : (y, x) bool
        The cells that hold no others.
    cell_px : int
        Edge of a cell.
    """

    low: int
    high: int
    cells: NDArray[np.bool_]
    cell_px: int = CELL_PX

    def within(self, rows: slice, columns: slice) -> Area:
        """Return the area in a part of the section, which starts at whole cells."""
        part = tuple(slice(one.start // self.cell_px, ceil_div(one.stop, self.cell_px)) for one in (rows, columns))
        return replace(self, cells=self.cells[part])


def choose_cell_px(shape: tuple[int, int]) -> int:
    """Return the edge of the cells in which areas are looked for in a section of so many rows and columns.

    Examples
    --------
    >>> choose_cell_px((512, 512)), choose_cell_px((250, 250)), choose_cell_px((64, 64))
    (8, 2, 1)
    """
    cell_px = 1
    while cell_px < CELL_PX and 2 * cell_px * CELLS_A_SIDE <= isqrt(shape[0] * shape[1]):
        cell_px *= 2
    return cell_px


def measure_cells(
    band: NDArray[np.uint8 | np.uint16], cell_px: int = CELL_PX
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the least and the largest intensity of each cell.

    Parameters
    ----------
    band : (y, x) uint8 or uint16
        Rows of a section, from a row that is a multiple of `cell_px`; the last cells may be smaller.
    cell_px : int
        Edge of a cell.

    Returns
    -------
    tuple of two (ceil(y / cell_px), ceil(x / cell_px)) int32
    """
    return _reduce(band, np.minimum, cell_px), _reduce(band, np.maximum, cell_px)


def find_constant_cells(lows: NDArray[np.int32], highs: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the value of each cell that holds one value only.

    Parameters
    ----------
    lows, highs : (y, x) int32
        Least and largest intensity of each cell, by `measure_cells`.

    Returns
    -------
    (y, x) int32
        The value, or -1 where there are several.

    Examples
    --------
    >>> band = np.zeros((8, 16), np.uint8)
    >>> band[0, :7] = 9
    >>> find_constant_cells(*measure_cells(band))
    array([[-1,  0]], dtype=int32)
    """
    return np.where(lows == highs, lows, np.int32(NO_VALUE))


def find_outside_cells(cells: NDArray[np.int32], cell_px: int = CELL_PX) -> Iterator[Area]:
    """Yield the areas of one value that are no tissue, those of the same value as one.

    Parameters
    ----------
    cells : (y, x) int32
        Of a whole section, as `find_constant_cells` returns them.
    cell_px : int
        Edge of a cell.

    Yields
    ------
    Area

    Notes
    -----
    An area is what hangs together of cells of one value. It counts as outside where it lies along the edge of the
    section and reaches a corner or far along a side, as padding does, or fills a rectangle with what it encloses, as a
    bar does. Saturated tissue does neither: where it is of one value at all, its areas are small and round, amid other
    tissue or cut by the edge. In a small section, areas of smaller cells count where they hold a corner and their rest
    is convex: padding leaves a rectangle of tissue, upright or turned, and a lumen is a dent in the rest.
    """
    for value in _find_frequent_values(cells):
        areas, number = ndimage.label(cells == value)
        corners = np.zeros(number + 1, bool)
        corners[_list_corners(areas)] = True
        # The bounds of a large section hold in a small one too, whatever its cells are.
        whole = _coarsen(areas, CELL_PX // cell_px)
        at_edge = _count(list_edge(whole), number)
        outside = (at_edge >= EDGE_CELLS) & (corners | (at_edge >= EDGE_SHARE * min(whole.shape)))
        for index in np.flatnonzero(~outside & (_count(whole, number) >= INNER_CELLS)):
            outside[index] = _is_bar(areas == index)
        if cell_px < CELL_PX:
            least = max(EDGE_CELLS, LEAST_SHARE * areas.size)
            corners &= (_count(list_edge(areas), number) >= EDGE_CELLS) & (_count(areas, number) >= least)
            for index in np.flatnonzero(~outside & corners):
                outside[index] = is_rest_convex(areas == index)
        if outside.any():
            yield Area(int(value), int(value), outside[areas], cell_px)


def is_rest_convex(area: NDArray[np.bool_]) -> bool:
    """Return whether an area leaves a convex rest of its section, as padding around moved or turned tissue does.

    Examples
    --------
    >>> corner, dent = np.zeros((2, 6, 6), bool)
    >>> corner[:2, :2] = [[True, True], [True, False]]
    >>> dent[:2, 2:4] = True
    >>> is_rest_convex(corner), is_rest_convex(dent)
    (True, False)
    """
    pieces, number = ndimage.label(~area)
    sizes = _count(pieces, number)
    # Specks in the padding, such as hot pixels, are no part of the tissue.
    rest = (sizes > SPECK * sizes.max())[pieces]
    if min(np.count_nonzero(rest.any(axis=0)), np.count_nonzero(rest.any(axis=1))) < 2:
        return True
    within = convex_hull_image(rest, offset_coordinates=False) & area
    return int(np.count_nonzero(within)) <= CONVEX * int(np.count_nonzero(area))


def list_edge(cells: NDArray[Any]) -> NDArray[Any]:
    """Return what lies at the edge of a whole section's map, each cell once.

    Examples
    --------
    >>> list_edge(np.arange(12).reshape(3, 4)).tolist()
    [0, 1, 2, 3, 4, 7, 8, 9, 10, 11]
    """
    edge = np.ones(cells.shape, bool)
    edge[1:-1, 1:-1] = False
    return cells[edge]


def _find_frequent_values(cells: NDArray[np.int32]) -> NDArray[np.intp]:
    counts = np.zeros(2**16, np.int64)
    for part in _split(cells):
        counts += np.bincount(part[part != NO_VALUE], minlength=counts.size)
    return np.flatnonzero(counts >= EDGE_CELLS)


def _count(areas: NDArray[Any], number: int) -> NDArray[np.int64]:
    """Return how many cells each of so many areas has, and 0 for what is none."""
    counts = np.zeros(number + 1, np.int64)
    for part in _split(areas):
        counts += np.bincount(part, minlength=counts.size)
    counts[0] = 0
    return counts


def _split(cells: NDArray[Any]) -> list[NDArray[Any]]:
    """Return cells in parts, since a count of all would take three times their memory."""
    return np.array_split(cells.ravel(), ceil_div(cells.size, 2**20))


def _is_bar(area: NDArray[np.bool_]) -> bool:
    (box,) = ndimage.find_objects(area.astype(np.int8))
    return bool(ndimage.binary_fill_holes(area[box]).mean() >= RECTANGULAR)


def _list_corners(areas: NDArray[Any]) -> NDArray[Any]:
    ends = (slice(None, CORNER_CELLS), slice(-CORNER_CELLS, None))
    return np.concatenate([areas[rows, columns].ravel() for rows in ends for columns in ends])


def _coarsen(areas: NDArray[Any], factor: int) -> NDArray[Any]:
    """Return the areas that hold cells of so many times the edge whole, by such cells; 0 where none does."""
    if factor == 1:
        return areas
    padded = np.pad(areas, [(0, -n % factor) for n in areas.shape], mode="edge")
    height, width = (n // factor for n in padded.shape)
    parts = padded.reshape(height, factor, width, factor)
    least = parts.min(axis=(1, 3))
    return np.where(least == parts.max(axis=(1, 3)), least, 0)


def grow_outside(window: NDArray[np.uint8 | np.uint16], areas: Sequence[Area]) -> NDArray[np.bool_]:
    """Return the exact pixels of areas that are known by their cells, with what they enclose.

    Where an area was rotated or scaled with interpolation, the pixels at its border belong to it too. They show by
    being nearer to its value than those a little further away.

    Parameters
    ----------
    window : (y, x) uint8 or uint16
        Part of a section, from a row and a column that are multiples of `CELL_PX`.
    areas : sequence of Area
        With their cells within the window.

    Returns
    -------
    (y, x) bool
        True outside.

    Examples
    --------
    >>> window = np.arange(320, dtype=np.uint16).reshape(16, 20)
    >>> window[:, 8:17] = 7
    >>> cells = np.array([[False, True, False]] * 2)
    >>> grow_outside(window, [Area(7, 7, cells)])[1].astype(int)
    array([0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0])
    """
    outside = np.zeros(window.shape, bool)
    for one in areas:
        if not one.cells.any():
            continue
        held, number = ndimage.label((window >= one.low) & (window <= one.high))
        reached = np.zeros(number + 1, bool)
        reached[np.unique(held[spread_cells(one.cells, window.shape, one.cell_px)])] = True
        # The last cells may be smaller than a whole one, and what is not of the value belongs to no area.
        reached[0] = False
        area = reached[held]
        outside |= _dilate(area, RING_PX) if _is_mixed(window, area, (one.low + one.high) / 2) else area
    if not outside.any() or outside.all():
        return outside
    enclosed, _ = ndimage.label(~outside)
    for index, box in enumerate(ndimage.find_objects(enclosed), 1):
        inside = all(part.start > 0 and part.stop < n for part, n in zip(box, window.shape, strict=True))
        if inside and min(part.stop - part.start for part in box) <= WRITING_PX:
            outside[box] |= enclosed[box] == index
    return outside


def spread_cells(cells: NDArray[np.bool_], shape: tuple[int, ...], cell_px: int) -> NDArray[np.bool_]:
    """Return the pixels of cells, in an array of this shape."""
    pixels: NDArray[np.bool_] = cells.repeat(cell_px, axis=0).repeat(cell_px, axis=1)
    return pixels[: shape[0], : shape[1]]


def _reduce(band: NDArray[Any], how: np.ufunc, cell_px: int) -> NDArray[np.int32]:
    height, width = band.shape
    rows, columns = ceil_div(height, cell_px), ceil_div(width, cell_px)
    # Along y first, where rows are contiguous; the second half works on an eighth of the pixels.
    lines = [how.reduce(band[y * cell_px : (y + 1) * cell_px], axis=0) for y in range(rows)]
    reduced = how.reduceat(np.stack(lines), np.arange(columns) * cell_px, axis=1)
    return np.asarray(reduced, np.int32)


def _is_mixed(window: NDArray[Any], area: NDArray[np.bool_], value: float) -> bool:
    near = _dilate(area, 1)
    beyond = _dilate(near, 2)
    distances = [
        np.abs(window[ring].astype(np.float64) - value) for ring in (near & ~area, _dilate(beyond, 2) & ~beyond)
    ]
    return all(each.size for each in distances) and bool(distances[0].mean() < MIXED * distances[1].mean())


def _dilate(mask: NDArray[np.bool_], px: int) -> NDArray[np.bool_]:
    return np.asarray(ndimage.binary_dilation(mask, np.ones((3, 3), bool), iterations=px))
