"""Measures how many blocks a second a coordinator can take: engine, outcome, row in the ledger, with work of no time.

    .venv/bin/python benchmarks/coordinator.py [--blocks 20000] [--workers 2] [--workspace DIR]

Blocks are neither read nor computed nor written, so what is left is what one process does for each of them, whoever
computes: the limit for a cluster of any size. Rows are synced as ever. Of the clock and of this process's time on a
core; with dask, the scheduler is in this process too, and the workers share the machine. Many workers return blocks
together, which costs less for each: in the last row, two are given what so many would have. The start of dask counts,
so that few blocks show too low a rate.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from machine import provenance

import segem.execute.tasks
from segem.config import ExecutionConfig
from segem.execute.run import execute
from segem.execute.work import BlockOutcome, Outcomes, Sweep
from segem.geometry import Halo
from segem.io.ledger import Ledger, LedgerRow, PhaseKey
from segem.plan import Block, Plan, crop_tiling

IN_FLIGHT = segem.execute.tasks.IN_FLIGHT_PER_WORKER


@dataclass(frozen=True)
class NoWork:
    """Finishes a block at once."""

    def load(self, block: Block, _known: LedgerRow | None) -> Block:
        """Read nothing."""
        return block

    def compute(self, loaded: Block, _threads: int | None, _on_voxels: Callable[[int], None]) -> Block:
        """Compute nothing."""
        return loaded

    def store(self, computed: Block) -> BlockOutcome:
        """Write nothing."""
        return BlockOutcome(computed.index, LedgerRow("a" * 64, "b" * 64, b"123456"), computed=True)


def at_once(together: int, sweep: Sweep, _: ExecutionConfig, _on_voxels: Callable[[int], None]) -> Outcomes:
    """Yield every outcome without an engine, so many together."""
    blocks = sweep.plan.blocks()
    while ready := [(block.index, sweep.work.store(block)) for block in islice(blocks, together)]:
        yield ready


def rates(blocks: int, workers: int, folder: Path) -> Iterator[tuple[str, float, float]]:
    """Yield what was measured, and blocks a second by the clock and by the processor's time of this process."""
    shape, shard = (8 * blocks, 32, 32), (8, 32, 32)
    plan = Plan(shape, shard, crop_tiling(shape, shard, Halo(), 1))
    dask = ExecutionConfig(engine="dask", workers=workers)
    for name, execution, engine, as_of in (
        ("ledger alone, blocks one by one", ExecutionConfig(), partial(at_once, 1), 1),
        ("ledger alone, 64 ready together", ExecutionConfig(), partial(at_once, 64), 1),
        ("loop", ExecutionConfig(), None, 1),
        (f"dask, {workers} workers", dask, None, 1),
        (f"dask, {workers} workers with the blocks of {32 * workers}", dask, None, 32),
    ):
        segem.execute.tasks.IN_FLIGHT_PER_WORKER = as_of * IN_FLIGHT
        with Ledger(folder / f"{name}.sqlite") as ledger:
            record = partial(ledger.record, PhaseKey("v", "segment", "blocks"))
            clock, processor = time.perf_counter(), time.process_time()
            summary = execute(Sweep(plan, NoWork(), {}, folder), execution, record, engine=engine)
            seconds = time.perf_counter() - clock, time.process_time() - processor
            if summary.computed != blocks:
                raise SystemExit(f"{summary.computed} of {blocks} blocks")
        yield name, blocks / seconds[0], blocks / seconds[1]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--workspace", type=Path, help="where the ledger is; a temporary folder when absent")
    given = parser.parse_args()
    print(provenance())
    print("| | blocks/s by the clock | blocks/s of a core |\n|---|---|---|")
    with tempfile.TemporaryDirectory(dir=given.workspace) as folder:
        for name, clock, processor in rates(given.blocks, given.workers, Path(folder)):
            print(f"| {name} | {clock:,.0f} | {processor:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
