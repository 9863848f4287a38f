"""Coarser copies of a block of voxels."""

from __future__ import annotations

from functools import reduce
from itertools import product
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from segem.geometry import ZYX

Reduction = Literal["mean", "max", "nearest"]
Unsigned = TypeVar("Unsigned", bound="np.unsignedinteger[Any]")


def shrink(block: NDArray[Unsigned], factors: ZYX, how: Reduction) -> NDArray[Unsigned]:
    """Shrink a block of unsigned whole numbers by whole factors.

    Parameters
    ----------
    block : (z, y, x) unsigned int
        Voxels; the last ones are repeated where an axis is no multiple of its factor.
    factors : tuple of int
        Voxels along (z, y, x) that become one.
    how : {"mean", "max", "nearest"}
        The rounded mean (images), the largest (masks, whose thin lines must not break), or the first (identities,
        which must not be mixed).

    Returns
    -------
    (ceil(z / fz), ceil(y / fy), ceil(x / fx)) of the same type

    Examples
    --------
    >>> shrink(np.array([[[1, 3, 5], [1, 3, 5]]], np.uint8), (1, 2, 2), "mean")
    array([[[2, 5]]], dtype=uint8)
    """
    padding = [(0, -n % f) for n, f in zip(block.shape, factors, strict=True)]
    if any(after for _, after in padding):
        block = np.pad(block, padding, mode="edge")
    fz, fy, fx = factors
    # Strided views of the voxels that become one, so that no copy is made.
    parts = [block[z::fz, y::fy, x::fx] for z, y, x in product(range(fz), range(fy), range(fx))]
    if how == "nearest":
        return parts[0]
    if how == "max":
        return reduce(np.maximum, parts)
    # Half of the divisor is added first, so that the integer division rounds to the nearest. The sum gets the
    # smallest type that holds it, since this runs over whole volumes.
    largest_sum = len(parts) * int(np.iinfo(block.dtype).max) + len(parts) // 2
    sums: NDArray[Any] = np.full(parts[0].shape, len(parts) // 2, np.min_scalar_type(largest_sum))
    for part in parts:
        sums += part
    return (sums // len(parts)).astype(block.dtype)
