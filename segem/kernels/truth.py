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


def is_membrane(truth: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where a truth is membrane.

    Examples
    --------
    >>> is_membrane(np.array([0, 1, 2], np.uint8)).tolist()
    [False, True, False]
    """
    membrane: NDArray[np.bool_] = (truth != 0) & (truth != UNKNOWN)
    return membrane
