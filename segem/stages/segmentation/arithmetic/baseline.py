"""Membrane of a block found without labels; where a method needs it, the whole volume is counted or sampled first."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.config import BaselineConfig
from segem.geometry import Box, Halo, grid
from segem.io.tissue import read_tissue
from segem.io.volume import Volume
from segem.kernels.feature_kmeans import FeatureClusters, fit_feature_clusters, mark_membrane_cluster
from segem.kernels.features import features_halo_px, filter_features
from segem.kernels.kmeans import TwoMeans, fit_two_means, mark_membrane, smooth, smoothing_halo_px
from segem.kernels.ncut import ncut_lines
from segem.kernels.normalize import histogram, zscore
from segem.kernels.watershed import watershed_lines
from segem.plan import Block
from segem.stages.segmentation.arithmetic.block import Computed, Voxels, count_membrane, outside_of

Found = TwoMeans | FeatureClusters | None
"""What a method knows of the whole volume; nothing where it looks at one tile at a time."""

SMALL_TILE_PX, LARGE_TILE_PX = 512, 2048
"""Edges of a tile, in pixels; the smaller one for methods whose memory or time grows faster than the area."""
_CONTEXT_PX = 64
"""Context for methods that work on a whole tile, so that the lines of neighbouring tiles mostly meet."""
_SAMPLED_TILES, _SAMPLED_VOXELS = 32, 2048


def tile_of(config: BaselineConfig) -> tuple[int, int]:
    """Return the edge of a tile and the context around it that a method is given, in pixels."""
    if config.method == "kmeans":
        return LARGE_TILE_PX, smoothing_halo_px(config.sigma_px)
    if config.method == "kmeans-features":
        return SMALL_TILE_PX, features_halo_px(config.features.sigmas_px)
    return (LARGE_TILE_PX if config.method == "watershed" else SMALL_TILE_PX), _CONTEXT_PX


@dataclass(frozen=True)
class CountArithmetic:
    """Counts the intensities of a block, for K-means on the histogram of the whole volume."""

    source: Volume
    sigma_px: float

    def read(self, block: Block) -> Voxels:
        """Return the intensities of a block with its halo."""
        return read_tissue(self.source, block.read).arrays

    def made_of(self, block: Block) -> Mapping[str, Any]:  # noqa: ARG002 - every block is made of the same
        """Return the smoothing."""
        return {"sigma_px": self.sigma_px}

    def compute(self, block: Block, voxels: Voxels, _threads: int | None, on_voxels: Callable[[int], None]) -> Computed:
        """Return how often each intensity occurs in the tissue of the write box of a block."""
        image, *outside = voxels
        inner = block.write.relative_to(block.read.start)
        # Without the halo, or voxels near borders would be counted once in each block that reads them.
        smoothed = smooth(image, self.sigma_px)[inner.slices]
        counts, nowhere = histogram(smoothed), outside_of(block, tuple(outside))
        if nowhere is not None:
            counts -= histogram(smoothed[nowhere])
        on_voxels(block.write.size)
        # Goes into the ledger. Of 65,536 intensities most never occur, so the histogram compresses to almost nothing.
        return Computed(value=zlib.compress(counts.tobytes()))


def means_of(counted: Iterable[bytes]) -> TwoMeans:
    """Return the two clusters of intensity of a volume, from what `CountArithmetic` has counted in its blocks."""
    return fit_two_means(np.sum([np.frombuffer(zlib.decompress(value), np.int64) for value in counted], axis=0))


@dataclass(frozen=True)
class SampleArithmetic:
    """Clusters the features of voxels sampled from tiles all over the volume, as one block of work."""

    source: Volume
    config: BaselineConfig

    def read(self, block: Block) -> Voxels:  # noqa: ARG002 - the one block there is
        """Return the drawn tiles of a section each, with the context that their features need."""
        sigmas = self.config.features.sigmas_px
        halo = Halo(0, features_halo_px(sigmas), features_halo_px(sigmas))
        whole = Box.of_shape(self.source.shape)
        seen = [read_tissue(self.source, tile.grow(halo, whole)) for tile in self._drawn()[0]]
        images = tuple(one.image for one in seen)
        if all(one.outside is None for one in seen):
            return images
        # Behind the images, one for each, so that both can be told apart by their number.
        nowhere = (np.zeros(one.image.shape, np.uint8) if one.outside is None else one.outside for one in seen)
        return (*images, *nowhere)

    def made_of(self, block: Block) -> Mapping[str, Any]:  # noqa: ARG002 - the one block there is
        """Return the settings of the clusters and the statistics that features are made by."""
        statistics = self.source.statistics
        return {
            "features": self.config.features.model_dump(mode="json"),
            "seed": self.config.seed,
            "statistics": statistics.to_dict(),
        }

    def compute(self, block: Block, voxels: Voxels, _threads: int | None, on_voxels: Callable[[int], None]) -> Computed:
        """Return the clusters, as JSON."""
        source, options = self.source, self.config.features
        halo_px = features_halo_px(options.sigmas_px)
        # The generator goes on from the state in which `read` has drawn the same tiles.
        tiles, random = self._drawn()
        samples, intensities = [], []
        for k, tile in enumerate(tiles):
            read = tile.grow(Halo(0, halo_px, halo_px), Box.of_shape(source.shape))
            section, window = voxels[k][0], tile.relative_to(read.start).slices[1:]
            outside = voxels[len(tiles) + k][0][window] if len(voxels) > len(tiles) else np.zeros(tile.shape[1:])
            tissue = np.flatnonzero(outside == 0)
            at = tissue[random.choice(tissue.size, min(_SAMPLED_VOXELS, tissue.size), replace=False)]
            features = filter_features(zscore(section, source.statistics), options.sigmas_px)
            samples.append(np.stack([feature[window].ravel()[at] for feature in features], axis=1))
            intensities.append(section[window].ravel()[at])
        found = fit_feature_clusters(
            np.concatenate(samples), np.concatenate(intensities), options.clusters, self.config.seed
        )
        on_voxels(block.write.size)
        return Computed(value=json.dumps(_plain(found)).encode())

    def _drawn(self) -> tuple[list[Box], np.random.Generator]:
        """Return the tiles, and the generator as it stands after they were drawn."""
        random = np.random.default_rng(self.config.seed)
        tiles = [box for _, box in grid(self.source.shape, (1, SMALL_TILE_PX, SMALL_TILE_PX))]
        drawn = random.choice(len(tiles), min(_SAMPLED_TILES, len(tiles)), replace=False)
        # Sorted, so that the volume is read in its order.
        return [tiles[i] for i in sorted(drawn)], random


def clusters_of(sampled: Iterable[bytes]) -> FeatureClusters:
    """Return the clusters that `SampleArithmetic` has found."""
    (value,) = sampled
    found = json.loads(value)
    # Exact: each float32 was widened to a float, whose shortest decimal reads back as the same number.
    mean, scale, centres = (np.array(found[key], np.float32) for key in ("mean", "scale", "centres"))
    return FeatureClusters(mean, scale, centres, found["dark"], found["bright"])


@dataclass(frozen=True)
class MaskArithmetic:
    """Finds the membrane of one block."""

    source: Volume
    config: BaselineConfig
    found: Found = None

    def read(self, block: Block) -> Voxels:
        """Return the intensities of a block with its halo."""
        return read_tissue(self.source, block.read).arrays

    def made_of(self, block: Block) -> Mapping[str, Any]:  # noqa: ARG002 - every block is made of the same
        """Return the settings, and what is known of the whole volume."""
        return {
            "config": self.config.model_dump(mode="json"),
            "found": None if self.found is None else _plain(self.found),
            # K-means works on grey levels; the other methods on z-scores, which depend on the statistics.
            "statistics": None if self.config.method == "kmeans" else self.source.statistics.to_dict(),
        }

    def compute(self, block: Block, voxels: Voxels, _threads: int | None, on_voxels: Callable[[int], None]) -> Computed:
        """Return the mask of a block, tile by tile."""
        image, *outside = voxels
        mask = np.empty(block.write.shape, np.uint8)
        for tile in block.tiles:
            section = image[tile.read.relative_to(block.read.start).slices][0]
            kept = tile.write.relative_to(tile.read.start).slices[1:]
            # A tile is one section deep, hence the [0]; slices are views, so this writes into the mask.
            mask[tile.write.relative_to(block.write.start).slices][0] = self._membrane(section)[kept]
            on_voxels(tile.write.size)
        nowhere = outside_of(block, tuple(outside))
        if nowhere is not None:
            mask[nowhere] = 0
        return Computed((mask,), count_membrane(mask))

    def _membrane(self, section: NDArray[Any]) -> NDArray[np.uint8]:
        config = self.config
        if isinstance(self.found, TwoMeans):
            return mark_membrane(smooth(section, config.sigma_px), self.found)
        grey = zscore(section, self.source.statistics)
        if isinstance(self.found, FeatureClusters):
            return mark_membrane_cluster(filter_features(grey, config.features.sigmas_px), self.found)
        if config.method == "watershed":
            return watershed_lines(grey, **config.watershed.model_dump())
        return ncut_lines(grey, **config.ncut.model_dump(), seed=config.seed)


def _plain(found: TwoMeans | FeatureClusters) -> dict[str, Any]:
    """Return what was found as plain numbers and lists."""
    values = asdict(found)
    return {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in values.items()}
