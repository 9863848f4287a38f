"""What stages that work block by block have in common: what is finished, how a block is written, the audit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segem.errors import IncompleteError
from segem.execute.work import BlockOutcome, Summary
from segem.io.blocks import block_digest, stored_digest
from segem.io.ledger import Ledger, LedgerRow
from segem.io.shards import Array
from segem.io.volume import Volume, write_block
from segem.plan import Block, Plan
from segem.stages.segmentation.verify import damage


def intact(known: LedgerRow | None, identity: str, layers: tuple[Array, ...], block: Block) -> LedgerRow | None:
    """Return what the ledger knows of a block if that is made of the same and is on disk as it was written."""
    if known is None or known.identity != identity or stored_digest(layers, block.write) != known.digest:
        return None
    return known


def write_layers(
    block: Block, identity: str, layers: tuple[Array, ...], written: tuple[NDArray[np.uint8], ...]
) -> BlockOutcome:
    """Write a block durably, and return its row for the ledger."""
    for layer, data in zip(layers, written, strict=True):
        write_block(layer, block.write, data)
    return BlockOutcome(block.index, LedgerRow(identity, block_digest(written)), computed=True)


def audit(summary: Summary, plan: Plan, ledger: Ledger, volume: str, result: Volume) -> None:
    """Raise unless every block of the plan is in the ledger and on the disk.

    Raises
    ------
    IncompleteError
        Naming the first block that is not.
    """
    accounted = summary.computed + summary.skipped + len(summary.failed)
    if accounted != plan.count:
        raise IncompleteError(
            "blocks were lost", where=volume, expected=plan.count, found=accounted, fix="run the same command again"
        )
    faults = summary.failed or damage(plan, ledger.rows(volume), result, deep=False)
    if faults:
        index, reason = next(iter(faults.items()))
        raise IncompleteError(
            f"{len(faults)} of {plan.count} blocks are not finished, the first is block {index}",
            where=volume,
            found=reason,
            fix="run the same command again; finished blocks are kept",
        )
