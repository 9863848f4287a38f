"""The coarser levels of a layer, block by block: what each block is made from, and what it must hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.geometry import ZYX, Box, ceil_div, grid
from segem.io.blocks import read_block
from segem.io.shards import Array, shape_of, shard_of
from segem.kernels.pyramid import Reduction, shrink


@dataclass(frozen=True)
class PyramidBlock:
    """One shard of a coarser level, and the finer level it is made from."""

    full: Array
    """The layer at full resolution."""
    fine: Array
    coarse: Array
    box: Box
    """Of `coarse`."""
    how: Reduction

    @property
    def covers(self) -> Box:
        """The voxels at full resolution that it represents."""
        return self._of(self.full)

    def voxels(self) -> NDArray[Any]:
        """Return the voxels that the block must hold.

        Raises
        ------
        WorkspaceError
            When a block that it is made from is missing or does not decode.
        """
        factors = _factors(self.fine, self.coarse)
        out = np.empty(self.box.shape, self.fine.dtype)
        read, (fz, _, _) = self._of(self.fine), factors
        # One coarse section at a time: what a block is made of may be eight times as large as a shard.
        for z in range(self.box.shape[0]):
            start, stop = read.start[0] + z * fz, min(read.start[0] + (z + 1) * fz, read.stop[0])
            box = Box((start, *read.start[1:]), (stop, *read.stop[1:]))
            block = read_block(self.fine, box, "run `segem verify` to see the extent")
            out[z] = shrink(block, factors, self.how)[0]
        return out

    def _of(self, level: Array) -> Box:
        scaled = [
            (a * f, min(b * f, n))
            for a, b, f, n in zip(
                self.box.start, self.box.stop, _factors(level, self.coarse), shape_of(level), strict=True
            )
        ]
        (z0, z1), (y0, y1), (x0, x1) = scaled
        return Box((z0, y0, x0), (z1, y1, x1))


def pyramid_blocks(levels: Sequence[Array], how: Reduction) -> Iterator[PyramidBlock]:
    """Yield the blocks of all levels but the first, each after those it is made from."""
    # Level by level, so that each is whole before the next one reads it.
    for fine, coarse in pairwise(levels):
        for _, box in grid(shape_of(coarse), shard_of(coarse)):
            yield PyramidBlock(levels[0], fine, coarse, box, how)


def _factors(fine: Array, coarse: Array) -> ZYX:
    # Rounded up, since the last voxel of a coarse axis may stand for fewer fine ones.
    z, y, x = (ceil_div(a, b) for a, b in zip(shape_of(fine), shape_of(coarse), strict=True))
    return (z, y, x)
