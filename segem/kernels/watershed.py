"""Watershed lines as membrane: each cell is a basin of the relief, and two basins meet on a membrane."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label
from skimage.morphology import h_minima
from skimage.segmentation import watershed

from segem.kernels.lines import widen_lines


def watershed_lines(section: NDArray[np.float32], sigma_px: float, depth: float, width_px: int) -> NDArray[np.uint8]:
    """Flood a section from its deep basins and return the lines where floods meet.

    Parameters
    ----------
    section : (y, x) float32
        Intensities, as z-scores of their volume; membrane is dark.
    sigma_px : float
        Standard deviation of the Gaussian that smooths them, in pixels.
    depth : float
        Depth of the shallowest basin that counts as a cell, in standard deviations of the volume's intensity.
    width_px : int
        Width of the lines drawn, an odd number.

    Returns
    -------
    (y, x) uint8, 0 or 1
        No line where there is only one basin, as in a section of a single intensity.

    Notes
    -----
    Watershed by flooding from markers: Beucher and Lantuejoul (1979); Meyer and Beucher (1990),
    doi:10.1016/1047-3203(90)90014-M. The relief is the darkness after smoothing; the markers are its minima of at least
    `depth` (h-minima), which keeps noise from making cells.

    Examples
    --------
    >>> section = np.array([[1, 1, 1, -1, 1, 1, 1]], np.float32)
    >>> watershed_lines(section, sigma_px=0, depth=0.5, width_px=1).tolist()
    [[0, 0, 0, 1, 0, 0, 0]]
    """
    relief = ndimage.gaussian_filter(-section, sigma_px, output=np.float32, mode="nearest")
    # A section flatter than the depth has no such minimum: all of it counts as one basin.
    markers = label(h_minima(relief, depth)) if np.ptp(relief) > depth else np.ones(section.shape, np.int32)
    return widen_lines(watershed(relief, markers, watershed_line=True) == 0, width_px)
