"""Changed pixels of a rectangle as the lengths of their runs: a brush stroke takes a few hundred bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from segem.errors import InputError


def encode_runs(changed: NDArray[np.bool_]) -> tuple[int, ...]:
    """Return the lengths of the runs of a picture of two values, row by row, the first one of False.

    Parameters
    ----------
    changed : (y, x) bool
        Any extent.

    Returns
    -------
    tuple of int
        Their sum is the number of pixels; only the first may be 0. A last run of False is left out.

    Examples
    --------
    >>> encode_runs(np.array([[False, True, True], [True, False, False]]))
    (1, 3)
    """
    flat = changed.ravel()
    ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    bounds = np.concatenate(([0], ends, [flat.size]))
    lengths = np.diff(bounds)
    first = [0] if flat.size and flat[0] else []
    runs = first + lengths[lengths > 0].tolist()
    return tuple(runs[:-1] if len(runs) % 2 else runs)


def decode_runs(runs: Sequence[int], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the picture whose runs these are, see `encode_runs`.

    Parameters
    ----------
    runs : sequence of int
        Lengths; what follows the last one is False.
    shape : (int, int)
        Extent along (y, x).

    Returns
    -------
    (y, x) bool

    Raises
    ------
    InputError
        When a length is negative, or all of them together are more than the picture has pixels.

    Examples
    --------
    >>> decode_runs((1, 3), (2, 3)).tolist()
    [[False, True, True], [True, False, False]]
    """
    lengths = np.asarray(runs, np.int64)
    pixels = shape[0] * shape[1]
    # Each by itself too, since a sum of large ones may wrap around.
    if lengths.size and (lengths.min() < 0 or lengths.max() > pixels or lengths.sum() > pixels):
        raise InputError(
            "runs that do not fit the rectangle",
            expected=f"lengths of {pixels} pixels at most",
            found=f"{lengths.size} lengths from {lengths.min()} to {lengths.max()}",
            fix="send the rectangle that the runs were made of",
        )
    flat = np.zeros(pixels, bool)
    drawn = np.repeat(np.arange(lengths.size) % 2 == 1, lengths)
    flat[: drawn.size] = drawn
    return flat.reshape(shape)
