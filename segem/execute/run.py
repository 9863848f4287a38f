"""Runs the blocks of a plan: a plain loop, or dask.distributed; both give the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from threading import Lock

from segem.config import ExecutionConfig
from segem.execute.local_cluster import run_local_cluster
from segem.execute.loop import run_loop
from segem.execute.work import BlockOutcome, BlockWork, C, L, Summary, cores
from segem.geometry import ceil_div
from segem.io.ledger import Ledger
from segem.plan import Block, Plan


def execute(
    plan: Plan,
    work: BlockWork[L, C],
    ledger: Ledger,
    volume: str,
    config: ExecutionConfig,
    scratch: Path,
    on_voxels: Callable[[int], None] = lambda _: None,
    order: Callable[[Iterator[Block]], Iterable[Block]] = iter,
    tiles_at_once: int | None = None,
) -> Summary:
    """Finish every block of a plan; a block that fails does not stop the others.

    Parameters
    ----------
    plan : Plan
        What to compute.
    work : BlockWork
        How a block is computed and written.
    ledger : Ledger
        Where finished blocks are recorded, by this process alone.
    volume : str
        The volume's name in the ledger.
    config : ExecutionConfig
        Engine and number of workers.
    scratch : Path
        Existing folder in which dask workers may keep files while they run.
    on_voxels : callable
        Called with the number of voxels just finished.
    order : callable
        Puts the blocks into the order they are started in; the result does not depend on it.
    tiles_at_once : int, optional
        Tiles that one process evaluates side by side; as many as it has cores when absent.

    Returns
    -------
    Summary
        Blocks computed and skipped, and those that failed with the reason.

    Raises
    ------
    SegemError
        Of any kind but `BlockError`, at once: a full disk or a bad model fails every block alike.
    """
    known = ledger.rows(volume)
    blocks = iter(order(plan.blocks()))
    summary = Summary()
    counting = Lock()

    def advance(voxels: int) -> None:
        with counting:
            on_voxels(voxels)

    if config.engine == "dask":
        outcomes = run_local_cluster(blocks, work, known, config, scratch, advance)
    else:
        at_once = 1 + ceil_div(tiles_at_once or cores(), plan.tiles_per_block)
        outcomes = run_loop(blocks, at_once, work, known, advance)
    # Closed also when the ledger fails: nobody may be at work any more when the locks are let go.
    with closing(outcomes):
        for index, outcome in outcomes:
            if isinstance(outcome, BlockOutcome):
                if outcome.computed:
                    ledger.record(volume, index, outcome.row)
                    summary.computed += 1
                else:
                    summary.skipped += 1
            else:
                summary.failed[index] = str(outcome)
    return summary
