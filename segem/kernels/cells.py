"""Cells of one section: basins of the membrane probability, merged where the border between them is weak.

A threshold cuts each pixel by itself, so a gap of a few pixels in a membrane joins two cells. Here the whole border
between two regions decides: its mean probability says whether it is a membrane with a gap or no membrane at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.kernels.basins import Basins, Rows, Sheet, strips
from segem.kernels.merging import Borders, Merging, concatenate_borders

MERGED_AT = 2**18
"""Borders that are held before basins are merged between them."""


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
    cells = np.empty(probability.shape, np.uint32)
    find_cells_by_rows(probability, sigma_px, merge_below, outside, cells)
    return cells


def find_cells_by_rows(
    probability: Rows, sigma_px: float, merge_below: float, outside: Rows | None, cells: Sheet
) -> None:
    """Do the same where not even one number for each pixel is to be held, see `segem.kernels.basins.Rows`.

    Parameters
    ----------
    probability, sigma_px, merge_below, outside
        See `find_cells`.
    cells : Sheet
        (y, x) uint32, where the numbers are to go; what is there does not matter.
    """
    basins = Basins.find(probability, sigma_px, outside, cells)
    merging = Merging(basins.count, merge_below)
    merging.merge(measure_borders(basins, probability, basins.count, merging))
    merged = merging.cells()
    for rows in strips(cells.shape):
        cells[rows] = merged[basins[rows]]


def close_membrane(mask: NDArray[np.uint8], cells: NDArray[np.uint32]) -> NDArray[np.uint8]:
    """Draw the borders between cells into a membrane mask.

    Parameters
    ----------
    mask : (y, x) uint8
        1 = membrane.
    cells : (y, x) uint32
        Numbers of the cells; 0 outside, where nothing is drawn.

    Returns
    -------
    (y, x) uint8, 0 or 1
        The mask and lines of one pixel: no two pixels of different cells share an edge off the membrane.

    Examples
    --------
    >>> close_membrane(np.zeros((1, 4), np.uint8), np.array([[1, 1, 2, 2]], np.uint32)).tolist()
    [[0, 1, 0, 0]]
    """
    closed = mask.copy()
    for rows in strips(cells.shape):
        draw_borders(closed[rows], rows, cells)
    return closed


def draw_borders(mask: NDArray[np.uint8], rows: slice, cells: Rows) -> None:
    """Draw the borders between cells into some rows of a membrane mask, as `close_membrane` does.

    Parameters
    ----------
    mask : (rows, x) uint8
        1 = membrane; changed in place.
    rows : slice
        Which rows of the section these are.
    cells : (y, x) uint32
        Numbers of the cells of the whole section.
    """
    seen = cells[rows.start : rows.stop + 1]
    here, below = seen[: len(mask)], seen[1:]
    mask[:, :-1] |= _differ(here[:, :-1], here[:, 1:])
    mask[: len(below)] |= _differ(here[: len(below)], below)


def measure_borders(basins: Rows, probability: Rows, count: int, merging: Merging | None = None) -> Borders:
    """Return the borders between the basins of a section; those with what is outside are left out.

    Parameters
    ----------
    basins : (y, x) int
        Numbers from 1, those of each basin connected by pixels that share an edge; 0 outside.
    probability : (y, x) uint8
        Membrane probability, 255 = certain, not smoothed.
    count : int
        Number of basins.
    merging : Merging, optional
        Merges basins as soon as all their borders are known, so that few borders are held at a time.

    Returns
    -------
    Borders
        All of them; or those that `merging` has to know yet.

    Examples
    --------
    >>> found = measure_borders(np.array([[1, 1, 2], [1, 2, 2]]), np.array([[0, 9, 8], [8, 3, 0]], np.uint8), 2)
    >>> found.one.tolist(), found.other.tolist(), found.total.tolist(), found.length.tolist()
    ([1], [2], [26.0], [3.0])
    """
    # Basins that have a weak border, and those that go on below the strip: no other will ever merge.
    weak, further = np.zeros(count + 1, bool), np.zeros(count + 1, bool)
    below = np.inf if merging is None else merging.below
    finished: list[Borders] = []
    left: list[Borders] = []
    limit = MERGED_AT
    for rows in strips(basins.shape):
        found = _add_up([*left, *_measure_strip(basins, probability, rows)])
        below_them = basins[rows.stop : rows.stop + 1].reshape(-1)
        further[below_them] = True
        # Basins are connected, so a border grows no more when one of its basins has ended.
        grows = further[found.one] & further[found.other]
        done, left = found.take(~grows), [found.take(grows)]
        strong = done.mean >= below
        for side in (done.one, done.other):
            weak[side[~strong]] = True
        finished.append(done)
        # Most basins of a strip have ended in the next one; all others are seen to in the end.
        _keep_between(finished, slice(-2, None), weak | further)
        held = sum(part.one.size for part in finished)
        if merging is not None and held > limit:
            finished = [merging.merge(concatenate_borders(finished), ~further)]
            # What is left is looked at again only when it is half of what is there.
            limit = max(MERGED_AT, 2 * finished[0].one.size)
        further[below_them] = False
    _keep_between(finished, slice(None), weak)
    return concatenate_borders([*finished, *left])


def _keep_between(parts: list[Borders], where: slice, chosen: NDArray[np.bool_]) -> None:
    """Keep only the borders between basins that are chosen, in some of the parts."""
    # One after the other, so that not all are held twice.
    for k in range(len(parts))[where]:
        parts[k] = parts[k].take(chosen[parts[k].one] & chosen[parts[k].other])


def _measure_strip(basins: Rows, probability: Rows, rows: slice) -> Iterator[Borders]:
    """Yield the borders within some rows, and those with the row below them."""
    seen, height = (section[rows.start : rows.stop + 1] for section in (basins, probability))
    here, below = slice(0, rows.stop - rows.start), slice(1, None)
    for one, other in (
        ((here, slice(None, -1)), (here, slice(1, None))),
        ((slice(0, len(seen) - 1), slice(None)), (below, slice(None))),
    ):
        touch = _differ(seen[one], seen[other])
        yield Borders.gather(seen[one][touch], seen[other][touch], np.maximum(height[one][touch], height[other][touch]))


def _add_up(parts: Iterable[Borders]) -> Borders:
    return Borders.gather(*vars(concatenate_borders(list(parts))).values())


def _differ(a: NDArray[np.integer[Any]], b: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    """Return where two pixels are of different basins or cells, both of tissue."""
    differ: NDArray[np.bool_] = (a != b) & (a != 0) & (b != 0)
    return differ
