"""Intensities that were written without a sign and are read with one, or the other way round."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

_DOUBTED = ("i1", "i2", "u2")
"""Types that are taken for each other; of unsigned bytes, strong contrast looks the same."""
_ENDS = 64
"""One part in so many of the range of a type is an end of it."""
_LEAST_AT_ENDS = 0.005
"""Share of the voxels at either end: hot pixels are fewer, and lie at one."""
_LEAST_NARROWER = 4.0
"""So many times smaller is the variance of tissue that is read as it was written."""


def doubt_sign(counts: NDArray[np.int64], least: int, dtype: DTypeLike) -> str | None:
    """Return a doubt where intensities seem to have wrapped around.

    Tissue has one range of intensities. Read with the wrong sign, it is cut, and its halves lie at both ends of the
    range of the type.

    Parameters
    ----------
    counts : (n,) int64
        How many voxels have each value, from `least` on.
    least : int
        The value that is counted first.
    dtype : dtype
        Type of the source.

    Returns
    -------
    str or None
        In words; None where there is no such doubt, or values of the type cannot be mistaken so.

    Examples
    --------
    >>> tissue = np.bincount(np.arange(30_000, 36_000).astype(np.uint16).view(np.int16).astype(int) + 32_768)
    >>> doubt_sign(tissue, -32_768, np.int16)
    'intensities of type int16 lie at both ends of its range, as if written as uint16: if so, save them so'
    """
    read = np.dtype(dtype).newbyteorder("=")
    if read.str[1:] not in _DOUBTED:
        return None
    other = np.dtype(f"{'u' if read.kind == 'i' else 'i'}{read.itemsize}")
    low, high = int(np.iinfo(read).min), int(np.iinfo(read).max)
    values = least + np.flatnonzero(counts)
    # What is cut off at an end is piled up there, whatever the sign.
    inner = (values > low) & (values < high)
    values, weights = values[inner], counts[np.flatnonzero(counts)][inner]
    edge = (high - low + 1) // _ENDS
    ends = weights[values < low + edge].sum(), weights[values > high - edge].sum()
    if min(ends) < _LEAST_AT_ENDS * counts.sum():
        return None
    if _variance(values, weights) < _LEAST_NARROWER * _variance(values.astype(read).view(other), weights):
        return None
    return f"intensities of type {read} lie at both ends of its range, as if written as {other}: if so, save them so"


def _variance(values: NDArray[np.integer], weights: NDArray[np.int64]) -> float:
    return float(np.cov(values.astype(float), fweights=weights, ddof=0))
