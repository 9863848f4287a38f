"""Cells of whole sections: probability in, numbered cells and the mask closed by their borders out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from segem.geometry import Box
from segem.io.blocks import StoredBox, pieces_of, read_block
from segem.io.cache import CachedReader
from segem.io.chunks import Array
from segem.io.scratch import ScratchBox, SectionOf
from segem.io.volume import CHUNK, Volume
from segem.kernels.basins import strips
from segem.kernels.cells import draw_borders, find_cells_by_rows
from segem.kernels.threshold import threshold_probability
from segem.plan import Block
from segem.stages.segmentation.arithmetic.block import Computed, Voxels

LARGE_VOXELS = 2**25
"""Most voxels of a block that are held; those of a larger one stay on the disk, and a process has one at a time."""


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
        probability = _open(self.probability.raw, block.read, f"run `segem verify {self.run} --repair`")
        if self.source.outside is None:
            return (probability,)
        again = f"run `segem ingest` for {self.source.name} with --again"
        outside = _open(self.source.outside, block.read, again)
        return (probability, outside) if any(piece.any() for piece in pieces_of(outside)) else (probability,)

    def made_of(self, block: Block) -> Mapping[str, Any]:  # noqa: ARG002 - every block is made of the same
        """Return the settings."""
        return {"sigma_px": self.sigma_px, "merge_below": self.merge_below, "threshold": self.threshold}

    def compute(
        self,
        block: Block,
        voxels: Voxels,
        _threads: int | None,
        on_voxels: Callable[[int], None],
    ) -> Computed:
        """Return the cells and the closed mask of a block, section by section."""
        probability, *outside = voxels
        cells, closed = (self._room(block.write, dtype) for dtype in (np.uint32, np.uint8))
        membrane = 0
        for z in range(probability.shape[0]):
            section, numbers, lines = (SectionOf(layer, z) for layer in (probability, cells, closed))
            nowhere = SectionOf(outside[0], z) if outside else None
            find_cells_by_rows(section, self.sigma_px, self.merge_below, nowhere, numbers)
            for rows in strips(section.shape):
                mask = threshold_probability(section[rows], self.threshold)
                draw_borders(mask, rows, numbers)
                lines[rows] = mask
                membrane += int(np.count_nonzero(mask))
            on_voxels(section.shape[0] * section.shape[1])
        return Computed((cells, closed), str(membrane).encode())

    def _room(self, box: Box, dtype: DTypeLike) -> NDArray[Any]:
        """Return room for a layer of a block: in memory, or on the disk of the run."""
        if box.size <= LARGE_VOXELS:
            return np.empty(box.shape, dtype)
        return _as_array(ScratchBox(self.probability.path.parent, box.shape, dtype))


def _open(array: Array, box: Box, fix: str) -> NDArray[Any]:
    """Return a box of a layer, which stays on the disk if it is large."""
    if box.size <= LARGE_VOXELS:
        return read_block(array, box, fix)
    # Strips are lower than chunks where sections are wide, so each chunk is wanted several times in a row.
    wide = box.shape[2] + 2 * CHUNK[2]
    reader = CachedReader(array, 3 * CHUNK[1] * wide * array.dtype.itemsize, fix)
    return _as_array(StoredBox(box, array.dtype, reader.read))


def _as_array(content: StoredBox | ScratchBox) -> NDArray[Any]:
    # It is none, but handled like one by all that takes the voxels of a block. To say so in `Voxels` and `Computed`
    # would change the code behind the blocks of every step, and with it their identity.
    return cast(NDArray[Any], content)
