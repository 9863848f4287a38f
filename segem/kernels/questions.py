"""Questions about a mask, "is there a membrane here?": where they are worth asking, and what an answer changes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from segem.kernels.lines import widen_lines

Ridge = Sequence[tuple[int, int]]
"""Pixels (y, x) of a line of one pixel between two cells."""


def draw_ridge(mask: NDArray[np.uint8], ridge: Ridge, width_px: int) -> NDArray[np.uint8]:
    """Draw a line between two cells into a mask: the answer is yes, there is a membrane.

    Parameters
    ----------
    mask : (y, x) uint8
        1 = membrane.
    ridge : sequence of (int, int)
        Pixels (y, x) of the line.
    width_px : int
        Diameter of the round pen that draws it, an odd number.

    Returns
    -------
    (y, x) uint8, 0 or 1
        A new mask.

    Examples
    --------
    >>> draw_ridge(np.array([[0, 0, 0, 0, 1]], np.uint8), [(0, 1)], 1).tolist()
    [[0, 1, 0, 0, 1]]
    """
    return _paint(mask, ridge, width_px, 1)


def erase_ridge(mask: NDArray[np.uint8], ridge: Ridge, width_px: int) -> NDArray[np.uint8]:
    """Take the line between two parts of a cell out of a mask: the answer is no, there is no membrane.

    Parameters
    ----------
    mask, ridge, width_px
        See `draw_ridge`.

    Returns
    -------
    (y, x) uint8, 0 or 1
        A new mask.

    Examples
    --------
    >>> erase_ridge(np.array([[0, 1, 1, 1, 0, 1]], np.uint8), [(0, 2)], 3).tolist()
    [[0, 0, 0, 0, 0, 1]]
    """
    return _paint(mask, ridge, width_px, 0)


def _paint(mask: NDArray[np.uint8], ridge: Ridge, width_px: int, value: int) -> NDArray[np.uint8]:
    painted = mask.copy()
    if len(ridge) == 0:
        return painted
    at = np.asarray(ridge)
    # Only what the pen may reach: a section can be much larger than a line.
    low = np.maximum(at.min(axis=0) - width_px, 0)
    high = np.minimum(at.max(axis=0) + width_px + 1, mask.shape)
    line = np.zeros(high - low, bool)
    line[tuple((at - low).T)] = True
    painted[low[0] : high[0], low[1] : high[1]][widen_lines(line, width_px) != 0] = value
    return painted
