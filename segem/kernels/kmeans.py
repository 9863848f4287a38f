"""The baseline: two clusters of intensity, of which the darker one is membrane."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.cluster import KMeans

from segem.errors import InputError

# Sigmas at which the Gaussian is cut; the halo of a tile follows from it.
_TRUNCATE = 4.0


@dataclass(frozen=True)
class TwoMeans:
    """The centres of the two clusters and the intensity half-way between them.

    Parameters
    ----------
    dark, bright : float
        Mean intensity of either cluster, in grey levels.
    threshold : float
        Intensities below this are nearer to `dark`, hence membrane.
    """

    dark: float
    bright: float
    threshold: float


def fit_two_means(histogram: NDArray[np.int64]) -> TwoMeans:
    """Cluster the intensities of a volume into two, from its histogram alone.

    Parameters
    ----------
    histogram : (256,) or (65536,) int64
        Number of voxels of each intensity, all sections pooled.

    Returns
    -------
    TwoMeans
        In a volume of a single intensity ``dark == bright == threshold``, so nothing is membrane.

    Raises
    ------
    InputError
        When the histogram counts no voxel.

    Notes
    -----
    Lloyd's algorithm (1982), doi:10.1109/TIT.1982.1056489, by scikit-learn's ``KMeans``, on the occupied
    intensities weighted by their counts: the same clusters as on all voxels, at a cost that does not grow with the
    volume. It starts from the best of all splits into a darker and a brighter part, so it cannot end in a poor local
    optimum and needs no random restarts.

    Examples
    --------
    Three voxels of 10, one of 14 and four of 30:

    >>> counts = np.zeros(256, np.int64)
    >>> counts[[10, 14, 30]] = 3, 1, 4
    >>> fit_two_means(counts)
    TwoMeans(dark=11.0, bright=30.0, threshold=20.5)
    """
    levels = np.flatnonzero(histogram).astype(np.float64)
    counts = histogram[histogram != 0].astype(np.float64)
    if levels.size == 0:
        raise InputError(
            "no voxels to cluster", expected="at least one voxel", found="an empty histogram", fix="give a volume"
        )
    if levels.size == 1:
        only = float(levels[0])
        return TwoMeans(only, only, only)
    centres = _means(levels, counts, _best_split(levels, counts))
    fitted = KMeans(n_clusters=2, init=np.array(centres)[:, None], n_init=1, tol=0.0).fit(
        levels[:, None], sample_weight=counts
    )
    # scikit-learn's threads add up the centres in any order; computed again from the split, they have the same bits
    # each time. Levels are sorted, so the darker cluster is the run of labels like the first.
    dark, bright = _means(levels, counts, int(np.count_nonzero(fitted.labels_ == fitted.labels_[0])))
    return TwoMeans(dark, bright, (dark + bright) / 2)


def mark_membrane(section: NDArray[np.uint8 | np.uint16], means: TwoMeans) -> NDArray[np.uint8]:
    """Return 1 where a voxel belongs to the darker cluster, else 0.

    Parameters
    ----------
    section : array of uint8 or uint16
        Intensities, of any shape.
    means : TwoMeans
        The clusters of the whole volume.

    Returns
    -------
    array of uint8, 0 or 1
        Of the same shape. A voxel exactly half-way counts as background.

    Examples
    --------
    >>> mark_membrane(np.array([[10, 20, 21]], np.uint8), TwoMeans(11, 30, 20.5)).tolist()
    [[1, 1, 0]]
    """
    # For whole intensities, x < t and x < ceil(t) are the same, and comparing integers makes no copy as floats.
    return (section < math.ceil(means.threshold)).astype(np.uint8)


def smooth(section: NDArray[np.uint8 | np.uint16], sigma_px: float) -> NDArray[np.uint8 | np.uint16]:
    """Blur within the section, never across sections.

    Parameters
    ----------
    section : (y, x) or (z, y, x) array of uint8 or uint16
        Intensities.
    sigma_px : float
        Standard deviation of the Gaussian along y and x, in pixels; 0 changes nothing.

    Returns
    -------
    array of the same shape and dtype
        Rounded; beyond the edge the outermost pixel is repeated.

    Examples
    --------
    >>> smooth(np.array([[0, 0, 90, 0, 0]], np.uint8), 0.5).tolist()
    [[0, 10, 71, 10, 0]]
    """
    if sigma_px == 0:
        return section
    sigma = (0.0,) * (section.ndim - 2) + (sigma_px, sigma_px)
    blurred = ndimage.gaussian_filter(section, sigma, output=np.float32, mode="nearest", truncate=_TRUNCATE)
    # Whole numbers again, because the clusters are found on a histogram.
    rounded: NDArray[np.uint8 | np.uint16] = np.rint(blurred).astype(section.dtype)
    return rounded


def smoothing_halo_px(sigma_px: float) -> int:
    """Return how far `smooth` looks, so that a part cut out with that much context comes out as in the whole.

    Examples
    --------
    >>> smoothing_halo_px(0), smoothing_halo_px(2)
    (0, 8)
    """
    # As scipy rounds the radius of its filter.
    return int(_TRUNCATE * sigma_px + 0.5)


def _best_split(levels: NDArray[np.float64], counts: NDArray[np.float64]) -> int:
    # The variance within two parts is least where the sum of (total of a part)^2 / (its voxels) is largest. Counted
    # from the darkest level, which keeps the sums small.
    voxels, total = np.cumsum(counts), np.cumsum(counts * (levels - levels[0]))
    darker, brighter = total[:-1] ** 2 / voxels[:-1], (total[-1] - total[:-1]) ** 2 / (voxels[-1] - voxels[:-1])
    return int(np.argmax(darker + brighter)) + 1


def _means(levels: NDArray[np.float64], counts: NDArray[np.float64], split: int) -> tuple[float, float]:
    dark = np.average(levels[:split], weights=counts[:split])
    bright = np.average(levels[split:], weights=counts[split:])
    return float(dark), float(bright)
