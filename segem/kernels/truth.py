"""What the pixels of a truth say: membrane, no membrane, or nothing, where nobody has painted."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

UNKNOWN = 2
"""The value of pixels of a truth that say nothing, and so count for nothing; 0 is no membrane, any other membrane."""


def is_known(truth: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where a truth says anything.

    Examples
    --------
    >>> is_known(np.array([0, 1, 2], np.uint8)).tolist()
    [True, True, False]
    """
    known: NDArray[np.bool_] = truth != UNKNOWN
    return known


def is_membrane(truth: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where a truth says membrane.

    Examples
    --------
    >>> is_membrane(np.array([0, 1, 2], np.uint8)).tolist()
    [False, True, False]
    """
    membrane: NDArray[np.bool_] = (truth != 0) & (truth != UNKNOWN)
    return membrane
