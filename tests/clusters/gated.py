"""Blocks of noise, the last of which waits until a test lets it go."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from segem.geometry import ZYX
from segem.io.ledger import LedgerRow
from segem.plan import Block
from tests.faults.blockwork import NoiseWork, Voxels


@dataclass(frozen=True)
class GatedNoise(NoiseWork):
    """Noise whose last block is computed only once the gate, a file, is gone."""

    gate: Path = field(default=Path(), kw_only=True)
    last: ZYX = field(default=(0, 0, 0), kw_only=True)

    def compute(
        self, loaded: tuple[Block, LedgerRow | None], threads: int | None, on_voxels: Callable[[int], None]
    ) -> tuple[Block, LedgerRow | None, Voxels]:
        while loaded[0].index == self.last and self.gate.exists():
            time.sleep(0.05)
        return super().compute(loaded, threads, on_voxels)
