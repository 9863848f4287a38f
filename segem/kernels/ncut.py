"""Normalised cuts: superpixels with dark borders are separated, and the borders that remain are membrane."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.graph import cut_normalized, rag_boundary
from skimage.segmentation import slic

from segem.kernels.lines import widen_lines

_CLIPPED_AT = 2.5
"""Deviations at which intensities are clipped, or one speck of dirt would set the scale of a section."""
_BRIGHT = 1.0
"""Intensity inside cells, in deviations above the mean; darkness is counted from here."""
_COMPACTNESS = 0.1
_LEAST_SIMILAR = 1e-3
"""Similarity of regions that have nothing in common; with 0, eigenvectors would not converge in reasonable time."""
_TRIED_CUTS = 10


def ncut_lines(
    section: NDArray[np.float32],
    sigma_px: float,
    superpixel_px: int,
    darkness: float,
    cut: float,
    width_px: int,
    seed: int,
) -> NDArray[np.uint8]:
    """Divide a section into regions by normalised cuts and return the borders of the regions.

    Parameters
    ----------
    section, sigma_px, width_px : (y, x) float32, float, int
        As of `segem.kernels.watershed.watershed_lines`.
    superpixel_px : int
        Area of a superpixel, in pixels.
    darkness : float
        How dark a border is that makes two superpixels unlike, in standard deviations of the volume,
        counted down from one above its mean.
    cut : float
        Regions are cut in two as long as the normalised cut costs less than this.
    seed : int
        Seed of the first guess at each eigenvector.

    Returns
    -------
    (y, x) uint8, 0 or 1
        No line in a section of a single intensity.

    Notes
    -----
    Normalised cuts: Shi and Malik (2000), doi:10.1109/34.868688, by scikit-image, on the adjacency graph
    of SLIC superpixels (Achanta et al. 2012, doi:10.1109/TPAMI.2012.120). Two neighbours are as similar as their border
    is bright: ``exp(-(mean darkness on it / darkness) ** 2)``.

    Examples
    --------
    >>> section = np.ones((60, 123), np.float32)
    >>> section[:, 60:63] = -2
    >>> lines = ncut_lines(section, sigma_px=1, superpixel_px=100, darkness=1, cut=0.1, width_px=3, seed=0)
    >>> lines.any(axis=0).nonzero()[0].tolist()
    [62, 63, 64]
    """
    smooth = ndimage.gaussian_filter(section, sigma_px, output=np.float32, mode="nearest")
    smooth = smooth.clip(-_CLIPPED_AT, _CLIPPED_AT)
    # With fewer than two superpixels, or without contrast, there is nothing to cut.
    wanted = round(section.size / superpixel_px)
    if wanted < 2 or np.ptp(smooth) == 0:
        return np.zeros(section.shape, np.uint8)
    superpixels = slic(smooth, n_segments=wanted, compactness=_COMPACTNESS, channel_axis=None, start_label=0)
    if superpixels.max() == 0:
        return np.zeros(section.shape, np.uint8)
    # Darkness averages along a border; brightness is cut off at the level of cell interiors.
    graph = rag_boundary(superpixels, np.maximum(_BRIGHT - smooth, 0).astype(np.float64), connectivity=1)
    # scikit-image cuts by similarity, so each edge's darkness is turned into one.
    for _, _, border in graph.edges(data=True):
        border["weight"] = max(_LEAST_SIMILAR, float(np.exp(-((border["weight"] / darkness) ** 2))))
    regions = cut_normalized(superpixels, graph, thresh=cut, num_cuts=_TRIED_CUTS, rng=seed)
    return widen_lines(_borders(regions), width_px)


def _borders(regions: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return where the next pixel, to the right or below, belongs to another region: lines of one pixel."""
    borders = np.zeros(regions.shape, np.bool_)
    borders[:-1] |= regions[:-1] != regions[1:]
    borders[:, :-1] |= regions[:, :-1] != regions[:, 1:]
    return borders
