"""Cuts a section into tiles of about one size, for statistics that need many small pieces of tissue."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def tile_starts(length: int, size: int) -> NDArray[np.intp]:
    """Return where each part of a length begins; all parts are of about one size and together cover the length.

    Examples
    --------
    >>> tile_starts(100, 32).tolist(), tile_starts(40, 32).tolist()
    ([0, 33, 66], [0])
    """
    return np.linspace(0, length, max(1, round(length / size)), endpoint=False).astype(np.intp)


def number_tiles(shape: tuple[int, int], size: int) -> NDArray[np.intp]:
    """Return the number of the tile that each pixel (y, x) of a section lies in, from 0, row by row.

    Examples
    --------
    >>> number_tiles((2, 4), 2).tolist()
    [[0, 0, 1, 1], [0, 0, 1, 1]]
    """
    rows, columns = (
        np.searchsorted(tile_starts(length, size), np.arange(length), side="right") - 1 for length in shape
    )
    numbers: NDArray[np.intp] = rows[:, np.newaxis] * (columns[-1] + 1) + columns
    return numbers


def pool_depth(sections: NDArray[np.int64], depth: int) -> NDArray[np.int64]:
    """Add up what was counted in tiles that lie on each other, about `depth` sections at a time.

    Parameters
    ----------
    sections : array (z, tiles, counts) of int64
        Counts of the same tiles in contiguous sections.
    depth : int
        Sections in a block; blocks are of nearly equal size and cover every section.

    Returns
    -------
    array (blocks, counts) of int64

    Examples
    --------
    >>> pool_depth(np.array([[[1, 0, 0], [0, 2, 0]]] * 4), 2).tolist()
    [[2, 0, 0], [0, 4, 0], [2, 0, 0], [0, 4, 0]]
    """
    blocks: NDArray[np.int64] = np.add.reduceat(sections, tile_starts(len(sections), depth), axis=0)
    return blocks.reshape(-1, sections.shape[-1])
