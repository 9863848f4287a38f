"""Work for dask workers that needs no net: each block is noise of its own, written like any other."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segem.execute.work import BlockOutcome
from segem.geometry import ZYX, Halo, VoxelSize
from segem.io.blocks import block_digest
from segem.io.ledger import LedgerRow
from segem.io.volume import Volume, create_volume, write_block
from segem.plan import Block, Plan, crop_tiling

Voxels = NDArray[np.uint8]


@dataclass(frozen=True)
class NoiseWork:
    """Writes noise; tells `log` which process took which block."""

    result: Path
    log: Path
    seconds: float = 0.0
    poison: ZYX | None = None
    """The block that kills whoever takes it."""

    def load(self, block: Block, known: LedgerRow | None) -> tuple[Block, LedgerRow | None]:
        with self.log.open("a") as log:
            log.write(f"{os.getpid()} {block.index}\n")
        return block, known

    def compute(
        self, loaded: tuple[Block, LedgerRow | None], threads: int | None, on_voxels: Callable[[int], None]
    ) -> tuple[Block, LedgerRow | None, Voxels]:
        block, known = loaded
        time.sleep(self.seconds)
        if block.index == self.poison:
            os.kill(os.getpid(), signal.SIGKILL)
        return block, known, np.random.default_rng(block.index).integers(0, 256, block.write.shape, np.uint8)

    def store(self, computed: tuple[Block, LedgerRow | None, Voxels]) -> BlockOutcome:
        block, known, voxels = computed
        if known is not None:
            return BlockOutcome(block.index, known, computed=False)
        write_block(Volume.open(self.result).raw, block.write, voxels)
        return BlockOutcome(block.index, LedgerRow("noise", block_digest([voxels])), computed=True)

    def takers(self) -> list[tuple[int, str]]:
        """Return (process, block) for each time a block was taken."""
        if not self.log.exists():
            return []
        words = (line.split(" ", 1) for line in self.log.read_text().splitlines())
        return [(int(pid), block) for pid, block in words]


@dataclass(frozen=True)
class GatedNoise(NoiseWork):
    """Noise whose last block is computed only once the gate, a file, is gone."""

    gate: Path = field(default=Path(), kw_only=True)
    last: ZYX = field(default=(0, 0, 0), kw_only=True)

    def compute(
        self, loaded: tuple[Block, LedgerRow | None], threads: int | None, on_voxels: Callable[[int], None]
    ) -> tuple[Block, LedgerRow | None, Voxels]:
        """Wait for the gate, and compute."""
        while loaded[0].index == self.last and self.gate.exists():
            time.sleep(0.05)
        return super().compute(loaded, threads, on_voxels)


def empty_result(path: Path, blocks: int) -> tuple[Volume, Plan]:
    """Return a volume without voxels, and the plan of so many blocks that fills it."""
    shape = (8 * blocks, 32, 32)
    volume = create_volume(path, shape=shape, dtype=np.uint8, voxel_size=VoxelSize(50, 4, 4), labels={}, attributes={})
    return volume, Plan(shape, volume.write_block, crop_tiling(shape, volume.write_block, Halo(), 1))
