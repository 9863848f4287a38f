"""Weights that blend overlapping windows, one axis at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SIGMA = 0.125
"""Standard deviation of the bell over a window, as a share of the window's edge."""


def axis_weights(size: int, core_px: int, windows: Sequence[tuple[int, int]]) -> list[NDArray[np.float32]]:
    """Return the weight of each window along one axis, normalised to sum to 1 at every position.

    The weight of a window in a section is the outer product of its weights along y and x. The sum of such products over
    a full grid of windows is the product of the sums, so normalising each axis by itself normalises the section, and no
    buffer of accumulated weights is needed.

    Parameters
    ----------
    size : int
        Length of the axis, in pixels.
    core_px : int
        Length of an uncut window, in pixels; the bell is centred on it.
    windows : sequence of (start, stop)
        Where the windows lie, cut at the end of the axis.

    Returns
    -------
    list of (stop - start,) float32 arrays
        Positive everywhere.

    Notes
    -----
    The bell is the importance map of nnU-Net (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z): a Gaussian with a
    standard deviation of an eighth of the window.

    Examples
    --------
    >>> axis_weights(3, 2, [(0, 2), (1, 3)])[0]
    array([1. , 0.5], dtype=float32)
    """
    offsets = np.arange(core_px) - (core_px - 1) / 2
    bell = np.exp(-0.5 * (offsets / (SIGMA * core_px)) ** 2)
    total = np.zeros(size)
    for start, stop in windows:
        total[start:stop] += bell[: stop - start]
    return [(bell[: stop - start] / total[start:stop]).astype(np.float32) for start, stop in windows]
