"""Weights that blend overlapping windows, one axis at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from segem.config import Window

SIGMA = 0.125
"""Standard deviation of the Gaussian over a window, as a fraction of the window's edge."""

_BELLS: dict[Window, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "gaussian": lambda offset: np.exp(-0.5 * (offset / SIGMA) ** 2),
    "hann": lambda offset: np.cos(np.pi * offset) ** 2,
}
"""Weight by the distance from the centre of the window, as a fraction of its edge: from -1/2 to 1/2."""


def axis_weights(
    size: int, core_px: int, windows: Sequence[tuple[int, int]], form: Window = "gaussian"
) -> list[NDArray[np.float32]]:
    """Return the weight of each window along one axis, normalised to sum to 1 at every position.

    The weight of a window in a section is the outer product of its weights along y and x. The sum of such products over
    a full grid of windows is the product of the sums, so normalising each axis by itself normalises the section, and no
    buffer of accumulated weights is needed.

    Parameters
    ----------
    size : int
        Length of the axis, in pixels.
    core_px : int
        Length of an unclipped window, in pixels; the bell is centred on it.
    windows : sequence of (start, stop)
        Extents of the windows, clipped at the end of the axis.
    form : {"gaussian", "hann"}
        How the weight falls from the centre of a window to its edges.

    Returns
    -------
    list of (stop - start,) float32 arrays
        Positive everywhere.

    Notes
    -----
    The Gaussian is the importance map of nnU-Net (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z): its standard
    deviation is an eighth of the window. The Hann window is that of Pielawski and Wählby (2020,
    doi:10.1371/journal.pone.0229839); windows that overlap by half sum to 1 by themselves. It is sampled at pixel
    centres: at the very edge of a window it is 0, and a pixel that no other window covers would be lost.

    Examples
    --------
    >>> axis_weights(3, 2, [(0, 2), (1, 3)])[0]
    array([1. , 0.5], dtype=float32)
    """
    # At the centres of pixels, so that no weight is 0 and the total is positive wherever a window reaches.
    offsets = np.arange(core_px) - (core_px - 1) / 2
    bell = _BELLS[form](offsets / core_px)
    total = np.zeros(size)
    for start, stop in windows:
        total[start:stop] += bell[: stop - start]
    return [(bell[: stop - start] / total[start:stop]).astype(np.float32) for start, stop in windows]
