"""Errors of a mask that are no matter of taste: membrane that is missing or false beyond what people differ by."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segem.kernels.truth import is_known, is_membrane


def find_plain_errors(mask: NDArray[np.bool_], truth: NDArray[np.uint8], tolerance_px: int) -> NDArray[np.bool_]:
    """Return the pixels where a mask is plainly wrong.

    Two people draw the border of one membrane some pixels apart. So a pixel of membrane counts only where the other has
    none within the tolerance, and where such pixels touch each other that would fill a disc with the tolerance as its
    radius: that much is left of a short gap in a thin membrane.

    Parameters
    ----------
    mask : (y, x) bool
        Of a region, True = membrane.
    truth : (y, x) uint8
        0, 1, or `UNKNOWN`, where nothing is wrong.
    tolerance_px : int
        How far a border may be off. So near to the edge of the region nothing is wrong: what lies beyond is not seen.

    Returns
    -------
    (y, x) bool

    Examples
    --------
    A membrane of three pixels that has a gap, and is a pixel off to one side:

    >>> truth, mask = np.zeros((2, 40, 20), np.uint8)
    >>> truth[:, 8:11], mask[:, 9:12], mask[12:24] = 1, 1, 0
    >>> rows, columns = find_plain_errors(mask == 1, truth, 1).nonzero()
    >>> [int(n) for n in (rows.min(), rows.max(), columns.min(), columns.max())]
    [12, 23, 8, 10]
    """
    true, known = is_membrane(truth), is_known(truth)
    missing = true & ~_widen(mask, tolerance_px)
    false = mask & known & ~_widen(true, tolerance_px)
    wrong = missing | false
    inner = tuple(slice(tolerance_px, n - tolerance_px) for n in wrong.shape)
    seen = np.zeros_like(wrong)
    seen[inner] = wrong[inner]
    labels, _ = ndimage.label(seen, np.ones((3, 3)))
    large = np.bincount(labels.ravel()) >= math.pi * tolerance_px**2
    large[0] = False
    found: NDArray[np.bool_] = large[labels]
    return found


def _widen(membrane: NDArray[np.bool_], by_px: int) -> NDArray[np.bool_]:
    # Of no membrane at all, the distance would be that to nothing.
    if not membrane.any():
        return membrane
    near: NDArray[np.bool_] = ndimage.distance_transform_edt(~membrane) <= by_px
    return near
