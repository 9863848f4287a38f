"""Filter responses at several scales, which describe a pixel and its surroundings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_TRUNCATE = 4.0
_COARSER = 1.6
"""Ratio of two Gaussians at which their difference approximates a Laplacian (Marr and Hildreth 1980)."""

Image = NDArray[np.float32]


def filter_features(section: NDArray[np.float32], sigmas_px: Sequence[float]) -> Iterator[NDArray[np.float32]]:
    """Yield the filter responses of a section one by one, five for each scale, so that few are in memory at once.

    For each sigma: the Gaussian, its gradient's magnitude, both eigenvalues of its Hessian, and the
    difference between it and a Gaussian 1.6 times as wide. Derivatives are scaled by sigma and its square.

    Parameters
    ----------
    section : (y, x) float32
        Intensities, as z-scores of their volume.
    sigmas_px : sequence of float
        Standard deviations of the Gaussians, in pixels.

    Yields
    ------
    (y, x) float32

    Notes
    -----
    Scale-normalised derivatives: Lindeberg (1998), doi:10.1023/A:1008045108935. Difference of Gaussians: Marr and
    Hildreth (1980), doi:10.1098/rspb.1980.0020. Beyond the edge the outermost pixel is repeated.

    Examples
    --------
    Across a dark line the intensity has a minimum, so one eigenvalue is large:

    >>> section = np.ones((9, 9), np.float32)
    >>> section[:, 4] = 0
    >>> smooth, gradient, least, largest, difference = filter_features(section, [1.0])
    >>> [round(float(abs(response[4, 4])), 2) for response in (largest, least, gradient)]
    [0.4, 0.0, 0.0]
    """
    # Scaled by powers of sigma, so that responses of all scales are comparable.
    for sigma in sigmas_px:
        smooth = _gaussian(section, sigma)
        yield smooth
        yield np.hypot(_gaussian(section, sigma, (1, 0)), _gaussian(section, sigma, (0, 1))) * np.float32(sigma)
        yield from _hessian_eigenvalues(section, sigma)
        yield smooth - _gaussian(section, _COARSER * sigma)


def features_halo_px(sigmas_px: Sequence[float]) -> int:
    """Return the context that `filter_features` needs, so that a tile with it gives the same as the whole section.

    Examples
    --------
    >>> features_halo_px([1.0, 4.0])
    26
    """
    return int(_TRUNCATE * _COARSER * max(sigmas_px) + 0.5)


def _gaussian(section: Image, sigma: float, order: tuple[int, int] = (0, 0)) -> Image:
    out: Image = ndimage.gaussian_filter(
        section, sigma, order=order, output=np.float32, mode="nearest", truncate=_TRUNCATE
    )
    return out


def _hessian_eigenvalues(section: Image, sigma: float) -> tuple[Image, Image]:
    yy, xx, yx = (_gaussian(section, sigma, order) for order in ((2, 0), (0, 2), (1, 1)))
    scale = np.float32(sigma**2)
    centre, half = scale * (yy + xx) / 2, scale * np.hypot((yy - xx) / 2, yx)
    return (centre - half).astype(np.float32, copy=False), (centre + half).astype(np.float32, copy=False)
