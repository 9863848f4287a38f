"""Square regions of a section, and what is summed in each of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.geometry import Box
from segem.kernels.tiles import tile_starts


def sum_tiles(values: NDArray[Any], tile_px: int) -> NDArray[np.int64]:
    """Sum the values of each tile of a section.

    Parameters
    ----------
    values : ndarray of bool or int, shape (y, x)
        What is summed.
    tile_px : int
        Edge of a tile, as in `segem.kernels.bootstrap.count_tiles`.

    Returns
    -------
    ndarray of int64, shape (rows, columns)

    Examples
    --------
    >>> sum_tiles(np.array([[1, 1, 0, 5]]), 2).tolist()
    [[2, 5]]
    """
    rows, columns = (tile_starts(n, tile_px) for n in values.shape)
    summed: NDArray[np.int64] = np.add.reduceat(
        np.add.reduceat(values, rows, axis=0, dtype=np.int64), columns, axis=1, dtype=np.int64
    )
    return summed


def find_largest(sums: NDArray[np.int64], shape: tuple[int, int], tile_px: int, z: int) -> tuple[int, Box]:
    """Return the largest of the sums of `sum_tiles`, and its tile.

    Parameters
    ----------
    sums : ndarray of int64, shape (rows, columns)
        Of a section.
    shape : (int, int)
        Of the section.
    tile_px : int
        Edge of a tile.
    z : int
        The section.

    Examples
    --------
    >>> largest, box = find_largest(np.array([[2, 5]]), (1, 4), 2, 7)
    >>> largest, box.start, box.stop
    (5, (7, 0, 2), (8, 1, 4))
    """
    row, column = np.unravel_index(int(np.argmax(sums)), sums.shape)
    edges = [[*map(int, tile_starts(n, tile_px)), n] for n in shape]
    start = (z, edges[0][row], edges[1][column])
    stop = (z + 1, edges[0][row + 1], edges[1][column + 1])
    return int(sums[row, column]), Box(start, stop)
