"""The values of a ground truth: membrane, background, or unknown where it is not labelled."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

UNKNOWN = 2
"""The value of pixels whose truth is unknown, which no score counts; 0 is background, any other value membrane."""


def is_known(truth: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where a truth is known.

    Examples
    --------
    >>> is_known(np.array([0, 1, 2], np.uint8)).tolist()
    [True, True, False]
    """
    known: NDArray[np.bool_] = truth != UNKNOWN
    return known


def hide_borders(truth: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a truth in which the pixels on both sides of each border of membrane and background are unknown.

    Parameters
    ----------
    truth : (y, x) uint8
        0, 1, or `UNKNOWN`.

    Returns
    -------
    (y, x) uint8

    Examples
    --------
    >>> hide_borders(np.array([[0, 0, 0, 1, 1, 1, 2, 0]], np.uint8)).tolist()
    [[0, 0, 2, 2, 1, 1, 2, 0]]
    """
    hidden = truth.copy()
    for one, other in (((slice(1, None),), (slice(-1),)), ((slice(None), slice(1, None)), (slice(None), slice(-1)))):
        border = (truth[one] != truth[other]) & is_known(truth[one]) & is_known(truth[other])
        hidden[one][border] = UNKNOWN
        hidden[other][border] = UNKNOWN
    return hidden


def is_membrane(truth: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where a truth is membrane.

    Examples
    --------
    >>> is_membrane(np.array([0, 1, 2], np.uint8)).tolist()
    [False, True, False]
    """
    membrane: NDArray[np.bool_] = (truth != 0) & (truth != UNKNOWN)
    return membrane
