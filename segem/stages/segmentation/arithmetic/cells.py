"""Cells of whole sections: probability in, numbered cells and the mask closed by their borders out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from segem.io.blocks import read_block
from segem.io.volume import Volume
from segem.kernels.cells import close_membrane, find_cells
from segem.kernels.threshold import threshold_probability
from segem.plan import Block
from segem.stages.segmentation.arithmetic.block import Computed, Voxels, count_membrane


@dataclass(frozen=True)
class CellsArithmetic:
    """Divides the sections of one block into cells, each section by itself and as a whole."""

    source: Volume
    probability: Volume
    run: str
    """The run whose probability it is."""
    sigma_px: float
    merge_below: float
    threshold: float
    """Of the mask that is closed."""

    def read(self, block: Block) -> Voxels:
        """Return the stored probability of a block, and what is outside where there is any."""
        probability = read_block(self.probability.raw, block.read, f"run `segem verify {self.run} --repair`")
        if self.source.outside is None:
            return (probability,)
        again = f"run `segem ingest` for {self.source.name} with --again"
        outside = read_block(self.source.outside, block.read, again)
        return (probability, outside) if outside.any() else (probability,)

    def made_of(self, block: Block) -> Mapping[str, Any]:  # noqa: ARG002 - every block is made of the same
        """Return the settings."""
        return {"sigma_px": self.sigma_px, "merge_below": self.merge_below, "threshold": self.threshold}

    def compute(
        self,
        block: Block,  # noqa: ARG002 - its voxels say all
        voxels: Voxels,
        _threads: int | None,
        on_voxels: Callable[[int], None],
    ) -> Computed:
        """Return the cells and the closed mask of a block, section by section."""
        probability, *outside = voxels
        found = []
        for z, section in enumerate(probability):
            cells = find_cells(section, self.sigma_px, self.merge_below, outside[0][z] if outside else None)
            mask = threshold_probability(section, self.threshold)
            found.append((cells, close_membrane(mask, cells, in_place=True)))
            on_voxels(section.size)
        # A large section is alone in its block, and not copied.
        cells, closed = found[0] if len(found) == 1 else map(np.stack, zip(*found, strict=True))
        cells, closed = cells.reshape(probability.shape), closed.reshape(probability.shape)
        return Computed((cells, closed), count_membrane(closed))
