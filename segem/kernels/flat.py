"""Padding that is not of one exact value, as cameras and lossy compression leave it: flat areas along the edge."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segem.kernels.normalize import find_span
from segem.kernels.outside import EDGE_CELLS, Area, is_rest_convex, list_edge

FLAT = 1 / 12
"""Most that the intensities of a flat cell differ by, as a share of the distance between the 1st and 99th percentile.
In the public stacks, one cell of 64 pixels in 1,000 is as flat."""
NARROWER = 0.5
"""Most that the intensities of 95 % of the flat cells differ by, as a share of what those of 95 % of the others do."""
AT_THE_END = 25
"""Percentage of the cells of tissue, with an intensity beyond which an area is darker or brighter than tissue."""
LEAST_REST = 0.02
"""Share of a section that must be left, to compare with."""


@dataclass(frozen=True)
class FlatArea:
    """A flat area along the edge of a section.

    Parameters
    ----------
    area : Area
        Its cells and intensities.
    sure : bool
        Whether it can only be padding: far flatter than all else, at an end of the intensities, and with a convex rest.
    """

    area: Area
    sure: bool


def find_tolerance(counts: NDArray[np.int64]) -> int:
    """Return by how much the intensities of a flat cell differ at most, from the histogram of a section.

    Examples
    --------
    >>> find_tolerance(np.ones(241, np.int64))
    19
    """
    return int(FLAT * find_span(counts))


def has_flat_run(lows: NDArray[np.int32], highs: NDArray[np.int32], tolerance: int) -> bool:
    """Return whether cells along an edge are flat, but not of one value, for as long as padding is.

    Parameters
    ----------
    lows, highs : (n,) int32
        Least and largest intensity of each cell.
    tolerance : int
        By `find_tolerance`.

    Examples
    --------
    >>> lows = np.zeros(9, np.int32)
    >>> has_flat_run(lows, lows + 2, 2), has_flat_run(lows, lows + 2, 1), has_flat_run(lows, lows, 2)
    (True, False, False)
    """
    flat = highs - lows <= tolerance
    if np.count_nonzero(flat) < EDGE_CELLS:
        return False
    runs, number = ndimage.label(flat)
    noisy = np.bincount(runs[highs > lows], minlength=number + 1)[1:]
    return bool(((np.bincount(runs, minlength=number + 1)[1:] >= EDGE_CELLS) & (noisy > 0)).any())


def find_flat_areas(lows: NDArray[np.int32], highs: NDArray[np.int32], tolerance: int) -> Iterator[FlatArea]:
    """Yield the flat areas that lie along the edge of a section and are not of one value.

    Parameters
    ----------
    lows, highs : (y, x) int32
        Least and largest intensity of each cell of `CELL_PX` pixels a side, of a whole section.
    tolerance : int
        By `find_tolerance`.

    Yields
    ------
    FlatArea
    """
    ranges = highs - lows
    flat = ranges <= tolerance
    if np.count_nonzero(~flat) < max(1, LEAST_REST * flat.size):
        # Nothing to compare with.
        return
    tissue = np.percentile(ranges[~flat], 5)
    darkest, brightest = np.percentile(lows[~flat], AT_THE_END), np.percentile(highs[~flat], 100 - AT_THE_END)
    areas, _ = ndimage.label(flat)
    at_edge = np.bincount(list_edge(areas))
    at_edge[0] = 0
    for index in np.flatnonzero(at_edge >= EDGE_CELLS):
        cells = areas == index
        if not ranges[cells].any():
            continue
        low, high = int(lows[cells].min()), int(highs[cells].max())
        extreme = high <= darkest or low >= brightest
        narrow = np.percentile(ranges[cells], 95) <= NARROWER * tissue
        yield FlatArea(Area(low, high, cells), bool(extreme and narrow and is_rest_convex(cells)))
