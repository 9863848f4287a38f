"""From a probability to its 8 bits on disk, and from those to a mask."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from segem.errors import InputError

_ROUNDED_AT_A_TIME = 2**16


def quantize_probability(probability: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return probabilities as they are stored: in 255 steps, rounded to the nearest.

    Parameters
    ----------
    probability : array of float32
        In 0..1, of any shape.

    Returns
    -------
    array of uint8
        Of the same shape, 255 = certain membrane.

    Examples
    --------
    >>> quantize_probability(np.array([0, 0.5, 1], np.float32)).tolist()
    [0, 128, 255]
    """
    flat, stored = probability.reshape(-1), np.empty(probability.size, np.uint8)
    # Piece by piece, so that no second array of floats as large as the first is needed.
    steps = np.empty(min(flat.size, _ROUNDED_AT_A_TIME), np.float32)
    for start in range(0, flat.size, _ROUNDED_AT_A_TIME):
        piece = flat[start : start + _ROUNDED_AT_A_TIME]
        rounded = steps[: piece.size]
        np.multiply(piece, np.float32(255), out=rounded)
        stored[start : start + piece.size] = np.rint(rounded, out=rounded)
    return stored.reshape(probability.shape)


def threshold_probability(probability_u8: NDArray[np.uint8], threshold: float) -> NDArray[np.uint8]:
    """Return 1 where the stored probability reaches the threshold, else 0.

    Parameters
    ----------
    probability_u8 : array of uint8
        Probability of membrane, 255 = certain, of any shape.
    threshold : float
        Smallest probability, above 0 and at most 1, that counts as membrane.

    Returns
    -------
    array of uint8, 0 or 1
        Of the same shape.

    Raises
    ------
    InputError
        When the threshold is not in (0, 1].

    Examples
    --------
    Half of 255 is 127.5, so 128 is the first value that reaches 0.5:

    >>> threshold_probability(np.array([0, 127, 128, 255], np.uint8), 0.5).tolist()
    [0, 0, 1, 1]
    """
    if not 0 < threshold <= 1:
        raise InputError("not a probability threshold", expected="above 0, at most 1", found=threshold, fix="try 0.5")
    # Compared as whole numbers. Rounded before ceil, so that the threshold p / 255 is reached by the stored value p
    # whatever the last bit of the product.
    return (probability_u8 >= math.ceil(round(threshold * 255, 9))).view(np.uint8)
