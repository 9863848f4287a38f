"""What lies between two sections: a mask half way from one to the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def interpolate_masks(below: NDArray[np.bool_], above: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the mask half way between two sections, by the mean of the signed distances to their outlines.

    Parameters
    ----------
    below, above : (y, x) bool
        The masks of the sections before and after.

    Returns
    -------
    (y, x) bool
        Where the two agree, what they say; without a membrane in one of them, none.

    Examples
    --------
    >>> below, above = np.zeros((2, 1, 9), bool)
    >>> below[0, 1:4], above[0, 3:6] = True, True
    >>> interpolate_masks(below, above)[0].astype(int).tolist()
    [0, 0, 1, 1, 1, 0, 0, 0, 0]
    """
    if not (below.any() and above.any()):
        return below & above
    # Inside outweighs outside where both are as far from the outline, so that a line that moves by its width stays one.
    between: NDArray[np.bool_] = _signed_distance(below) + _signed_distance(above) >= 0
    return between


def _signed_distance(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the distance to the outline, half a pixel beside it, positive inside."""
    if mask.all():
        return np.full(mask.shape, np.inf)
    inside, outside = ndimage.distance_transform_edt(mask), ndimage.distance_transform_edt(~mask)
    distance: NDArray[np.float64] = np.where(mask, inside - 0.5, 0.5 - outside)
    return distance
