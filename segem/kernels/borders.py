"""Loss weights that are largest on thin membrane between two cells."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segem.kernels.truth import is_known, is_membrane


def border_weights(truth: NDArray[np.uint8], strength: float, sigma_px: float) -> NDArray[np.float32]:
    """Return the weight of each pixel in a loss: 1, and more on membrane between two close cells.

    Parameters
    ----------
    truth : (H, W) uint8
        1 = membrane; cells are the 4-connected parts of 0.
    strength : float
        Weight that is added where two cells touch; 0 weights all pixels equally.
    sigma_px : float
        How fast the added weight falls with the distance to the two nearest cells, in pixels.

    Returns
    -------
    (H, W) float32
        1 in cells, ``1 + strength * exp(-(d1 + d2)**2 / (2 * sigma_px**2))`` on membrane, where d1 and d2 are the
        distances to the nearest and the second nearest cell; 0 where the truth is unknown.

    Notes
    -----
    Ronneberger, Fischer and Brox (2015), doi:10.1007/978-3-319-24574-4_28, equation 2, without the class
    balance. Distances beyond three sigma are taken as infinite, so that each cell needs its surroundings only.

    Examples
    --------
    >>> truth = np.zeros((1, 7), np.uint8)
    >>> truth[0, 3] = 1
    >>> border_weights(truth, 10, 5).round(2)[0, 2:5]
    array([ 1.  , 10.23,  1.  ], dtype=float32)
    """
    if strength == 0:
        return is_known(truth).astype(np.float32)
    reach = math.ceil(3 * sigma_px)
    cells, _ = ndimage.label(truth == 0)
    nearest = np.full(truth.shape, np.inf, np.float32)
    second = nearest.copy()
    # One cell at a time, within its surroundings only; the two smallest distances of each pixel are kept.
    for label, box in enumerate(ndimage.find_objects(cells), start=1):
        around = tuple(slice(max(0, side.start - reach), side.stop + reach) for side in box)
        distance = ndimage.distance_transform_edt(cells[around] != label).astype(np.float32)
        second[around] = np.minimum(second[around], np.maximum(nearest[around], distance))
        nearest[around] = np.minimum(nearest[around], distance)
    added = strength * np.exp(-np.square(nearest + second) / (2 * sigma_px**2))
    return (is_known(truth) + np.where(is_membrane(truth), added, 0)).astype(np.float32)
