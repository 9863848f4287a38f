"""Whether two label images cut a section, or a volume, into the same parts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.kernels.metrics.contingency import Overlaps


def are_equivalent(one: NDArray[np.integer[Any]], other: NDArray[np.integer[Any]]) -> bool:
    """Return whether two label images are equal but for the numbers of their labels.

    Parameters
    ----------
    one, other : ndarray of int
        Labels of any type and size; 0 is no part, and has to be 0 in both.

    Returns
    -------
    bool
        False also where the shapes differ.

    Examples
    --------
    >>> a = np.array([[0, 1, 1, 2]])
    >>> are_equivalent(a, np.array([[0, 9, 9, 4]], np.uint64)), are_equivalent(a, np.array([[0, 9, 9, 9]]))
    (True, False)
    >>> are_equivalent(a, np.array([[3, 1, 1, 2]]))
    False
    """
    if one.shape != other.shape:
        return False
    pairs = Overlaps.count(one, other)
    # Each label is in one pair alone, on both sides: a bijection.
    one_to_one = all(np.unique(at).size == at.size for at in (pairs.truth_at, pairs.proposal_at))
    return one_to_one and bool(((pairs.truth == 0) == (pairs.proposal == 0)).all())
