"""What finds membrane without labels, fitted to one volume."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.config import BaselineConfig
from segem.geometry import Box, Halo, grid
from segem.io.blocks import read_block
from segem.io.volume import Volume
from segem.kernels.feature_kmeans import FeatureClusters, feature_clusters, nearest_is_membrane
from segem.kernels.features import features_halo_px, filter_features
from segem.kernels.kmeans import membrane_of, smoothed, smoothing_halo_px, two_means
from segem.kernels.ncut import ncut_lines
from segem.kernels.normalize import histogram, zscore
from segem.kernels.watershed import watershed_lines

_BLOCK_PX, _TILE_PX = 2048, 512
"""Edges of what is looked at at once; the smaller one where memory or time grow faster than the area."""
_CONTEXT_PX = 64
"""Seen around a tile by methods that look at all of it, so that lines of neighbouring tiles mostly meet."""
_SAMPLED_TILES, _SAMPLED_VOXELS = 32, 2048


@dataclass(frozen=True)
class Finder:
    """A method fitted to a volume.

    Parameters
    ----------
    find : callable
        Intensities (y, x) to a mask of the same shape, 1 = membrane.
    halo_px : int
        Context that `find` is given around what is wanted of it.
    tile_px : int
        Edge of the largest part of a section it is asked for at once.
    dark, bright, threshold : float or None
        Of clusters, as in `segem.stages.segmentation.baseline.BaselineResult`.
    """

    find: Callable[[NDArray[Any]], NDArray[np.uint8]]
    halo_px: int
    tile_px: int = _BLOCK_PX
    dark: float | None = None
    bright: float | None = None
    threshold: float | None = None


def finder_of(source: Volume, config: BaselineConfig, advance: Callable[[int], None]) -> Finder:
    """Fit the method of a configuration to a volume.

    Parameters
    ----------
    source : Volume
        The ingested volume; K-means reads all of it block by block, clusters of features a sample of its tiles, the
        others nothing but its statistics.
    config : BaselineConfig
        The method and its settings.
    advance : callable
        Called with the number of voxels after each block that was read.

    Raises
    ------
    SegemError
        When the volume is damaged.
    """
    if config.method == "kmeans":
        return _intensity_clusters(source, config.sigma_px, advance)
    statistics = source.statistics
    if config.method == "kmeans-features":
        sigmas = config.features.sigmas_px
        clusters = _feature_clusters(source, config)
        return Finder(
            lambda section: nearest_is_membrane(filter_features(zscore(section, statistics), sigmas), clusters),
            features_halo_px(sigmas),
            _TILE_PX,
            clusters.dark,
            clusters.bright,
        )
    if config.method == "watershed":
        basins = config.watershed.model_dump()
        return Finder(lambda section: watershed_lines(zscore(section, statistics), **basins), _CONTEXT_PX)
    cuts = config.ncut.model_dump() | {"seed": config.seed}
    return Finder(lambda section: ncut_lines(zscore(section, statistics), **cuts), _CONTEXT_PX, _TILE_PX)


def with_context(source: Volume, box: Box, halo_px: int) -> tuple[NDArray[Any], Box]:
    """Return a box of the volume's intensities with what is around it, and the box itself inside of that.

    Raises
    ------
    WorkspaceError
        When a file is missing or does not decode.
    """
    read = box.grow(Halo(0, halo_px, halo_px), Box.of_shape(source.shape))
    voxels = read_block(source.raw, read, f"run `segem ingest` for {source.name} with --again")
    return voxels, box.relative_to(read.start)


def _intensity_clusters(source: Volume, sigma_px: float, advance: Callable[[int], None]) -> Finder:
    halo_px = smoothing_halo_px(sigma_px)
    counts = np.zeros(int(np.iinfo(source.dtype).max) + 1, np.int64)
    for _, box in grid(source.shape, source.write_block):
        voxels, inner = with_context(source, box, halo_px)
        counts += histogram(smoothed(voxels, sigma_px)[inner.slices])
        advance(box.size)
    means = two_means(counts)
    return Finder(
        lambda section: membrane_of(smoothed(section, sigma_px), means),
        halo_px,
        dark=means.dark,
        bright=means.bright,
        threshold=means.threshold,
    )


def _feature_clusters(source: Volume, config: BaselineConfig) -> FeatureClusters:
    """Cluster the features of voxels drawn from tiles that are drawn from the whole volume."""
    random = np.random.default_rng(config.seed)
    tiles = [box for _, box in grid(source.shape, (1, _TILE_PX, _TILE_PX))]
    drawn = random.choice(len(tiles), min(_SAMPLED_TILES, len(tiles)), replace=False)
    samples, intensities = [], []
    for tile in (tiles[i] for i in sorted(drawn)):
        voxels, inner = with_context(source, tile, features_halo_px(config.features.sigmas_px))
        section, window = voxels[0], inner.slices[1:]
        at = random.choice(tile.size, min(_SAMPLED_VOXELS, tile.size), replace=False)
        features = filter_features(zscore(section, source.statistics), config.features.sigmas_px)
        samples.append(np.stack([feature[window].ravel()[at] for feature in features], axis=1))
        intensities.append(section[window].ravel()[at])
    return feature_clusters(np.concatenate(samples), np.concatenate(intensities), config.features.clusters, config.seed)
