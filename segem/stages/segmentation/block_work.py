"""One block of a step, from what is known of it to its row in the ledger: what engines carry out, here or elsewhere."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np

from segem.errors import ConfigError
from segem.execute.work import BlockOutcome
from segem.io.blocks import block_digest, pieces_of
from segem.io.layers import layers_of
from segem.io.ledger import LedgerRow
from segem.io.shards import Array
from segem.io.volume import Volume, write_block
from segem.plan import Block, Plan
from segem.stages.segmentation.arithmetic.block import Arithmetic, Computed, Voxels
from segem.stages.segmentation.identity import code_digest
from segem.stages.segmentation.verify import fault_of_block


@dataclass(frozen=True)
class LoadedBlock:
    """What a block is made of, and its row in the ledger where it is finished and intact."""

    block: Block
    identity: str
    voxels: Voxels
    finished: LedgerRow | None


@dataclass(frozen=True)
class StepWork:
    """Finishes one block of a phase: leaves it alone if it is finished, else computes and writes it.

    It is sent to workers, so it holds names and paths, and opens them where it is used.
    """

    arithmetic: Arithmetic
    plan: Plan
    result: Volume
    layers: tuple[str, ...]
    code: str
    """sha256 of what computes, see `segem.stages.segmentation.identity`."""

    def load(self, block: Block, known: LedgerRow | None) -> LoadedBlock:
        """Read what a block is made of, and find out whether it is finished already."""
        self._require_code()
        # Read even where it may turn out finished: the identity is of the voxels as they are now.
        voxels = self.arithmetic.read(block)
        identity = self.identity(block, voxels)
        return LoadedBlock(block, identity, voxels, self._intact(known, identity, block))

    def compute(
        self, loaded: LoadedBlock, threads: int | None, on_voxels: Callable[[int], None]
    ) -> tuple[LoadedBlock, Computed]:
        """Return the content of a block; nothing for one that is finished."""
        if loaded.finished is not None:
            on_voxels(loaded.block.write.size)
            return loaded, Computed()
        return loaded, self.arithmetic.compute(loaded.block, loaded.voxels, threads, on_voxels)

    def store(self, computed: tuple[LoadedBlock, Computed]) -> BlockOutcome:
        """Write a block durably, and return its row for the ledger."""
        loaded, found = computed
        block = loaded.block
        if loaded.finished is not None:
            return BlockOutcome(block.index, loaded.finished, computed=False)
        # A kill between two layers leaves one of them old; the digest below covers both, so no row fits that block.
        for array, voxels in zip(self.arrays, found.layers, strict=True):
            write_block(array, block.write, voxels)
        digest = block_digest(found.layers) if self.layers else hashlib.sha256(found.value).hexdigest()
        return BlockOutcome(block.index, LedgerRow(loaded.identity, digest, found.value), computed=True)

    def identity(self, block: Block, voxels: Voxels) -> str:
        """Return the sha256 of everything that makes a block, as 64 hexadecimal digits."""
        # Whatever can change a byte of the block, and nothing else: engine, workers and cores are left out on purpose.
        made_of = {
            **self.arithmetic.made_of(block),
            "tiling": asdict(self.plan.tiling),
            "shape": self.plan.shape,
            "write": str(block.write),
            "code": self.code,
            "voxels": [f"{array.dtype} {array.shape}" for array in voxels],
        }
        # Types and shapes are above, since the bytes of two arrays in a row do not tell where one ends.
        digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode())
        for array in voxels:
            for piece in pieces_of(array):
                digest.update(np.ascontiguousarray(piece).data)
        return digest.hexdigest()

    def _require_code(self) -> None:
        """Raise where this process, a worker elsewhere, computes by other code than the identity says."""
        found = code_digest(type(self.arithmetic).__module__)
        if found != self.code:
            raise ConfigError(
                "a worker has other code or other versions of packages",
                where=socket.gethostname(),
                expected=f"code {self.code[:12]}",
                found=f"code {found[:12]}",
                fix="start the workers in the environment that this command runs in, and again after it has changed",
            )

    def _intact(self, known: LedgerRow | None, identity: str, block: Block) -> LedgerRow | None:
        """Return the ledger's row of a block if its identity is the same and its bytes are on disk as written."""
        if known is None or known.identity != identity:
            return None
        return known if fault_of_block(known, self.arrays, block) is None else None

    @cached_property
    def arrays(self) -> tuple[Array, ...]:
        """The layers that are written."""
        return layers_of(self.result, self.layers)
