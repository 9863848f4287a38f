"""V_rand within small tiles of a section: what an interval of V_rand can be made of."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from skimage.measure import label

from segem.kernels.metrics.contingency import Contingency
from segem.kernels.metrics.information import information_score
from segem.kernels.metrics.rand import rand_score
from segem.kernels.metrics.segmentation import SegmentationSums, propose_segments, true_cells
from segem.kernels.tiles import number_tiles


def count_rand_in_tiles(
    cells: NDArray[np.integer[Any]], segments: NDArray[np.integer[Any]], tiles: NDArray[np.intp]
) -> NDArray[np.int64]:
    """Count, for each tile of a section, the two sums whose ratio is the V_rand of that tile alone.

    Cells and segments end at the borders of a tile: of a cell that lies in three tiles each sees its part as a cell of
    its own. So an error counts in the tile it lies in and in no other one, which is what makes tiles observations that
    may be drawn one by one (see `segem.kernels.bootstrap.compare_v_rand`). In the V_rand of a whole section one hole in
    a membrane changes the sums of all tiles that the two merged cells run through.

    Parameters
    ----------
    cells, segments : array (y, x) of int
        True cells and proposed segments, as `segem.kernels.metrics.contingency.Contingency.count` takes them.
    tiles : array (y, x) of int
        The number of the tile of each pixel, from 0.

    Returns
    -------
    array (tiles, 2) of int64
        ``2 sum n_ij²`` and ``sum a_i² + sum b_j²`` of each tile; both 0 where it holds no pixel of a cell.

    Examples
    --------
    Two cells that are merged in the first tile, and well parted in the second:

    >>> cells = np.array([[1, 1, 2, 2, 3, 0, 4]])
    >>> segments = np.array([[1, 1, 1, 1, 2, 0, 3]])
    >>> count_rand_in_tiles(cells, segments, np.array([[0, 0, 0, 0, 1, 1, 1]])).tolist()
    [[16, 24], [4, 4]]
    """
    count, inside = int(tiles.max()) + 1, cells != 0
    parts, proposed = _cut(cells, tiles, count)[inside], _cut(segments, tiles, count)[inside]
    where = tiles[inside]
    if not where.size:
        return np.zeros((count, 2), np.int64)
    table = sparse.coo_array(
        (np.ones(where.size, np.int64), (parts, proposed)), shape=(int(parts.max()) + 1, int(proposed.max()) + 1)
    ).tocsr()
    # Any pixel of a part tells the tile of the whole part.
    tile_of_part, tile_of_segment = np.zeros(table.shape[0], np.intp), np.zeros(table.shape[1], np.intp)
    tile_of_part[parts], tile_of_segment[proposed] = where, where
    on_lines = np.bincount(where[proposed == 0], minlength=count)
    joint = table[:, 1:].tocoo()

    def add_up(at: NDArray[np.intp], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
        sums = np.zeros(count, np.int64)
        np.add.at(sums, at, sizes.astype(np.int64) ** 2)
        return sums

    common = add_up(tile_of_part[joint.row], joint.data) + on_lines
    truth = add_up(tile_of_part, np.asarray(table.sum(axis=1)).ravel())
    proposal = add_up(tile_of_segment[1:], np.asarray(table.sum(axis=0)).ravel()[1:]) + on_lines
    return np.stack([2 * common, truth + proposal], axis=1)


def score_tiles(
    truth: NDArray[Any], membrane: NDArray[np.uint8], tile_px: int
) -> tuple[SegmentationSums, NDArray[np.int64]]:
    """Score one section as `SegmentationSums.count` does, and count its V_rand within tiles, at every threshold.

    Parameters
    ----------
    truth, membrane : array (y, x)
        See `SegmentationSums.count`.
    tile_px : int
        Edge of a tile; stretched or shrunk a little, so that tiles of nearly equal size cover the section.

    Returns
    -------
    SegmentationSums
    array (thresholds, tiles, 2) of int64
        What `count_rand_in_tiles` gives at each of `segem.kernels.metrics.segmentation.THRESHOLDS`.

    Raises
    ------
    InputError
        When the shapes differ or the probability is not uint8.
    """
    cells, tiles = true_cells(truth, membrane), number_tiles(truth.shape, tile_px)
    if not cells.any():
        empty = SegmentationSums.nothing()
        return empty, np.zeros((len(empty.rand), int(tiles.max()) + 1, 2), np.int64)
    rand, information, within = [], [], []
    for segments, thresholds in propose_segments(truth, membrane):
        table = Contingency.count(cells, segments)
        rand += [rand_score(table)] * thresholds
        information += [information_score(table)] * thresholds
        within += [count_rand_in_tiles(cells, segments, tiles)] * thresholds
    return SegmentationSums.of_section(rand, information), np.stack(within)


def _cut(segments: NDArray[np.integer[Any]], tiles: NDArray[np.intp], count: int) -> NDArray[np.int32]:
    """Give each part of a segment that the borders of tiles leave a number of its own; 0 stays 0."""
    numbered: NDArray[np.int32] = label(
        np.where(segments == 0, 0, segments.astype(np.int64) * count + tiles), connectivity=1
    ).astype(np.int32, copy=False)
    return numbered
