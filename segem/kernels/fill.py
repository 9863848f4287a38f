"""What stands in for pixels that show no tissue, wherever something is computed from them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.kernels.normalize import IntensityStatistics


def fill_outside(image: NDArray[Any], outside: NDArray[Any] | None, statistics: IntensityStatistics) -> NDArray[Any]:
    """Return intensities as all that computes takes them: within the fence, and the mean of the tissue outside.

    Parameters
    ----------
    image : array of unsigned int
        Any part of a volume.
    outside : array of the same shape, optional
        Nonzero where there is no tissue.
    statistics : IntensityStatistics
        Of the whole volume.

    Returns
    -------
    array of the same shape and type
        The image itself where there is nothing to change.

    Examples
    --------
    >>> statistics = IntensityStatistics(mean=10.2, std=2.0, minimum=0, maximum=255, percentiles={}, low=0, high=20)
    >>> fill_outside(np.array([6, 255, 255], np.uint8), np.array([0, 0, 1]), statistics)
    array([ 6, 20, 10], dtype=uint8)
    """
    clipped = statistics.clip(image)
    if outside is None or not outside.any():
        return clipped
    filled: NDArray[Any] = np.where(outside != 0, image.dtype.type(round(statistics.mean)), clipped)
    return filled
