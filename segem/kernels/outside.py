"""Parts of a section that are no tissue: large areas of one exact value, as padding, masks and data bars leave them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segem.geometry import ceil_div
from segem.kernels.normalize import IntensityStatistics

CELL_PX = 8
"""Edge of the cells in which areas of one value are looked for."""
RING_PX = 2
"""How far an area is grown where interpolation has mixed the pixels at its border with the tissue."""
MIXED = 0.8
"""How near the value of an area its border is, beside tissue a little further away, where it is mixed."""
WRITING_PX = 64
"""Most that the shorter side of what an area encloses may measure to belong to it, as the letters of a data bar do."""
EDGE_CELLS = 8
"""Cells that an area has at least along the edge of a section: 64 pixels."""
INNER_CELLS = 32
"""Cells that an area amid tissue has at least: 2,048 pixels. In all sections of the public sets, the largest has 7."""
LEAST_LEVELS = 17
"""Intensities that a section has at least; with fewer, areas of one value are what its tissue is drawn in."""
RECTANGULAR = 0.9
"""Share of the box around it that a bar fills."""

NO_VALUE = -1


def find_constant_cells(band: NDArray[np.uint8 | np.uint16]) -> NDArray[np.int32]:
    """Return the value of each cell of `CELL_PX` pixels a side that holds one value only.

    Parameters
    ----------
    band : (y, x) uint8 or uint16
        Rows of a section, from a row that is a multiple of `CELL_PX`; the last cells may be smaller.

    Returns
    -------
    (ceil(y / 8), ceil(x / 8)) int32
        The value, or -1 where there are several.

    Examples
    --------
    >>> band = np.zeros((8, 12), np.uint8)
    >>> band[0, 0] = 7
    >>> find_constant_cells(band)
    array([[-1,  0]], dtype=int32)
    """
    least, most = (_reduce(band, how) for how in (np.minimum, np.maximum))
    return np.where(least == most, least, np.int32(NO_VALUE)).astype(np.int32, copy=False)


def find_outside_cells(cells: NDArray[np.int32]) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """Yield the values of areas that are no tissue, and the cells of those areas.

    Parameters
    ----------
    cells : (y, x) int32
        Of a whole section, as `find_constant_cells` returns them.

    Yields
    ------
    (int, (y, x) bool)
        An intensity, and the cells that are outside because they hold it.

    Notes
    -----
    An area is what hangs together of cells of one value. It counts as outside where it lies along the edge of the
    section, as padding does, or fills a rectangle with what it encloses, as a bar does. Saturated tissue does neither:
    where it is of one value at all, its areas are small, round and amid other tissue.
    """
    for value in _find_frequent_values(cells):
        areas, number = ndimage.label(cells == value)
        outside = np.zeros(number + 1, bool)
        for index, box in enumerate(ndimage.find_objects(areas), 1):
            # The box first: of a section of grey noise there may be thousands of single cells.
            if areas[box].size >= EDGE_CELLS:
                outside[index] = _is_outside(areas[box] == index, box, cells.shape)
        if outside.any():
            yield int(value), outside[areas]


def _find_frequent_values(cells: NDArray[np.int32]) -> NDArray[np.intp]:
    counts = np.zeros(2**16, np.int64)
    # A part at a time, since a count of all would take three times the memory of the cells.
    for part in np.array_split(cells, ceil_div(len(cells), 64)):
        counts += np.bincount(part[part != NO_VALUE], minlength=counts.size)
    return np.flatnonzero(counts >= EDGE_CELLS)


def _is_outside(area: NDArray[np.bool_], box: tuple[slice, ...], shape: tuple[int, ...]) -> bool:
    rows, columns = box
    at_edge = np.zeros_like(area)
    at_edge[: rows.start == 0] = True
    at_edge[:, : columns.start == 0] = True
    at_edge[area.shape[0] - (rows.stop == shape[0]) :] = True
    at_edge[:, area.shape[1] - (columns.stop == shape[1]) :] = True
    if np.count_nonzero(area & at_edge) >= EDGE_CELLS:
        return True
    return int(area.sum()) >= INNER_CELLS and bool(ndimage.binary_fill_holes(area).mean() >= RECTANGULAR)


def grow_outside(
    window: NDArray[np.uint8 | np.uint16], areas: list[tuple[int, NDArray[np.bool_]]]
) -> NDArray[np.bool_]:
    """Return the exact pixels of areas that are known by their cells, with what they enclose.

    Where an area was rotated or scaled with interpolation, the pixels at its border belong to it too. They show by
    being nearer to its value than those a little further away.

    Parameters
    ----------
    window : (y, x) uint8 or uint16
        Part of a section, from a row and a column that are multiples of `CELL_PX`.
    areas : list of (int, (y, x) bool)
        The value of each area and its cells within the window, see `find_outside_cells`.

    Returns
    -------
    (y, x) bool
        True outside.

    Examples
    --------
    >>> window = np.arange(320, dtype=np.uint16).reshape(16, 20)
    >>> window[:, 8:17] = 7
    >>> cells = np.array([[False, True, False]] * 2)
    >>> grow_outside(window, [(7, cells)])[1].astype(int)
    array([0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0])
    """
    outside = np.zeros(window.shape, bool)
    for value, cells in areas:
        if not cells.any():
            continue
        held, number = ndimage.label(window == value)
        reached = np.zeros(number + 1, bool)
        reached[np.unique(held[_spread(cells, window.shape)])] = True
        # The last cells may be smaller than a whole one, and what is not of the value belongs to no area.
        reached[0] = False
        area = reached[held]
        outside |= _dilate(area, RING_PX) if _is_mixed(window, area, value) else area
    if not outside.any() or outside.all():
        return outside
    enclosed, _ = ndimage.label(~outside)
    for index, box in enumerate(ndimage.find_objects(enclosed), 1):
        inside = all(part.start > 0 and part.stop < n for part, n in zip(box, window.shape, strict=True))
        if inside and min(part.stop - part.start for part in box) <= WRITING_PX:
            outside[box] |= enclosed[box] == index
    return outside


def fill_outside(image: NDArray[Any], outside: NDArray[Any] | None, statistics: IntensityStatistics) -> NDArray[Any]:
    """Return intensities as all that computes takes them: within the fence, and the mean of the tissue outside.

    Parameters
    ----------
    image : array of unsigned int
        Any part of a volume.
    outside : array of the same shape, optional
        Nonzero where there is no tissue.
    statistics : IntensityStatistics
        Of the whole volume.

    Returns
    -------
    array of the same shape and type
        The image itself where there is nothing to change.

    Examples
    --------
    >>> statistics = IntensityStatistics(mean=10.2, std=2.0, minimum=0, maximum=255, percentiles={}, low=0, high=20)
    >>> fill_outside(np.array([6, 255, 255], np.uint8), np.array([0, 0, 1]), statistics)
    array([ 6, 20, 10], dtype=uint8)
    """
    clipped = statistics.clip(image)
    if outside is None or not outside.any():
        return clipped
    filled: NDArray[Any] = np.where(outside != 0, image.dtype.type(round(statistics.mean)), clipped)
    return filled


def _reduce(band: NDArray[Any], how: np.ufunc) -> NDArray[np.int32]:
    height, width = band.shape
    rows, columns = ceil_div(height, CELL_PX), ceil_div(width, CELL_PX)
    # Along y first, where rows are contiguous; the second half works on an eighth of the pixels.
    lines = [how.reduce(band[y * CELL_PX : (y + 1) * CELL_PX], axis=0) for y in range(rows)]
    reduced = how.reduceat(np.stack(lines), np.arange(columns) * CELL_PX, axis=1)
    return np.asarray(reduced, np.int32)


def _is_mixed(window: NDArray[Any], area: NDArray[np.bool_], value: int) -> bool:
    near = _dilate(area, 1)
    beyond = _dilate(near, 2)
    distances = [
        np.abs(window[ring].astype(np.float64) - value) for ring in (near & ~area, _dilate(beyond, 2) & ~beyond)
    ]
    return all(each.size for each in distances) and bool(distances[0].mean() < MIXED * distances[1].mean())


def _dilate(mask: NDArray[np.bool_], px: int) -> NDArray[np.bool_]:
    return np.asarray(ndimage.binary_dilation(mask, np.ones((3, 3), bool), iterations=px))


def _spread(cells: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    pixels: NDArray[np.bool_] = cells.repeat(CELL_PX, axis=0).repeat(CELL_PX, axis=1)
    return pixels[: shape[0], : shape[1]]
