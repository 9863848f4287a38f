"""Lines of one pixel, drawn as wide as membranes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def widen_lines(lines: NDArray[np.bool_], width_px: int) -> NDArray[np.uint8]:
    """Draw the lines of a section with a round pen.

    Parameters
    ----------
    lines : (y, x) bool
        True on a line.
    width_px : int
        Diameter of the pen, an odd number; 1 changes nothing.

    Returns
    -------
    (y, x) uint8, 0 or 1

    Examples
    --------
    >>> widen_lines(np.array([[False, False, True, False, False, False]]), 3).tolist()
    [[0, 1, 1, 1, 0, 0]]
    """
    if width_px == 1 or not lines.any():
        return lines.astype(np.uint8)
    # Distances, because a large structuring element is slow.
    wide: NDArray[np.uint8] = (ndimage.distance_transform_edt(~lines) <= width_px / 2).astype(np.uint8)
    return wide
