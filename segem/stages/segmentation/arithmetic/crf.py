"""A fully connected CRF over a block: intensities and probability in, refined probability and mask out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.config import CrfConfig
from segem.io.blocks import read_block
from segem.io.tissue import read_tissue
from segem.io.volume import Volume
from segem.kernels.crf import refine
from segem.kernels.pictures import stretch_contrast
from segem.kernels.threshold import quantize_probability, threshold_probability
from segem.plan import Block, Tile
from segem.stages.segmentation.arithmetic.block import Computed, Voxels, count_membrane, outside_of


@dataclass(frozen=True)
class CrfArithmetic:
    """Refines the probability of one block."""

    source: Volume
    probability: Volume
    of: str
    """The run whose probability it is."""
    crf: CrfConfig
    operating_point: float
    """Probability at which a pixel favours neither label; a higher one is evidence for membrane."""
    threshold: float
    threads: int
    """Tiles that the memory allows side by side."""

    def read(self, block: Block) -> Voxels:
        """Return the intensities and the stored probability of a block with its halo."""
        image, *outside = read_tissue(self.source, block.read).arrays
        return image, read_block(self.probability.raw, block.read, f"run `segem verify {self.of} --repair`"), *outside

    def made_of(self, block: Block) -> Mapping[str, Any]:  # noqa: ARG002 - every block is made of the same
        """Return the weights of the CRF and the settings."""
        return {
            "crf": self.crf.model_dump(mode="json"),
            "operating_point": self.operating_point,
            "threshold": self.threshold,
            # Grey levels of 8 bits are used as they are; others are stretched by statistics of the whole volume.
            "window": None if self.source.dtype == np.uint8 else _window(self.source),
        }

    def compute(self, block: Block, voxels: Voxels, threads: int | None, on_voxels: Callable[[int], None]) -> Computed:
        """Return the refined probability and the mask of a block."""
        image, probability, *outside = voxels
        if outside:
            # Undecided, so that no label spreads from there into the tissue.
            undecided = np.uint8(round(255 * self.operating_point))
            probability = np.where(outside[0] != 0, undecided, probability)
        refined = np.empty(block.write.shape, np.uint8)

        def compute_tile(tile: Tile) -> None:
            read = tile.read.relative_to(block.read.start).slices
            found = self._refined(image[read][0], probability[read][0])
            kept = tile.write.relative_to(tile.read.start).slices[1:]
            refined[tile.write.relative_to(block.write.start).slices][0] = found[kept]
            on_voxels(tile.write.size)

        # Tiles write disjoint parts of one array, so no lock is needed; going through the results raises their errors.
        # Several blocks start at once, and a cache does not keep two of them from each making a pool.
        with _OPENING:
            pool = _pool(min(threads or self.threads, self.threads))
        for _ in pool.map(compute_tile, block.tiles):
            pass
        nowhere = outside_of(block, tuple(outside))
        if nowhere is not None:
            refined[nowhere] = 0
        # Of the 8 bits that are stored, so that the mask is that of the probability on disk.
        mask = threshold_probability(refined, self.threshold)
        return Computed((refined, mask), count_membrane(mask))

    def _refined(self, image: NDArray[Any], probability: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if image.dtype != np.uint8:
            image = stretch_contrast(image, *_window(self.source))
        return quantize_probability(
            refine(
                (probability / np.float32(255)).astype(np.float32, copy=False), image, self.crf, self.operating_point
            )
        )


def _window(source: Volume) -> tuple[float, float]:
    """Return the intensities that become grey level 0 and 255 where a volume has more than 8 bits."""
    return source.statistics.percentiles["1"], source.statistics.percentiles["99"]


_OPENING = Lock()


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    """Return the threads of this process: one pool for all blocks, so that no more tiles are held than fit."""
    return ThreadPoolExecutor(threads, "refine")
