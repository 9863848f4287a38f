"""Runs a sweep on the engine that was asked for, and keeps the ledger while it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from threading import Lock

from segem.config import ExecutionConfig
from segem.config.execution import SLURM
from segem.execute.local_cluster import run_local_cluster
from segem.execute.loop import run_loop
from segem.execute.remote_scheduler import run_remote_scheduler
from segem.execute.slurm import run_slurm
from segem.execute.work import BlockEngine, BlockOutcome, Summary, Sweep
from segem.geometry import ZYX
from segem.io.ledger import LedgerRow


def engine_of(execution: ExecutionConfig) -> BlockEngine:
    """Return what runs the blocks."""
    if execution.cluster is not None:
        return run_slurm if execution.cluster == SLURM else run_remote_scheduler
    return run_local_cluster if execution.engine == "dask" else run_loop


def execute(
    sweep: Sweep,
    execution: ExecutionConfig,
    record: Callable[[Mapping[ZYX, LedgerRow]], None],
    on_voxels: Callable[[int], None] = lambda _: None,
    engine: BlockEngine | None = None,
) -> Summary:
    """Finish every block of a sweep; a block that fails does not stop the others.

    Parameters
    ----------
    sweep : Sweep
        What to compute, and how a block is computed and written.
    execution : ExecutionConfig
        Engine and number of workers.
    record : callable
        Writes the rows of finished blocks into the ledger, all or none; called by this process alone.
    on_voxels : callable
        Called with the number of voxels just finished.
    engine : callable, optional
        What finishes the blocks, instead of what `execution` asks for.

    Returns
    -------
    Summary
        Blocks computed and skipped, and those that failed with the reason.

    Raises
    ------
    SegemError
        Of any kind but `BlockError`, at once: a full disk or a bad model fails every block alike.
    """
    summary = Summary()
    # Blocks are computed by several threads, each of which reports its progress.
    counting = Lock()

    def advance(voxels: int) -> None:
        with counting:
            on_voxels(voxels)

    # Closed even when the ledger fails: no thread or worker may still be writing when the locks are released.
    with closing((engine or engine_of(execution))(sweep, execution, advance)) as outcomes:
        for ready in outcomes:
            # Ledger after data: the engine yields a block only when its voxels are durable.
            rows = {index: one.row for index, one in ready if isinstance(one, BlockOutcome) and one.computed}
            if rows:
                record(rows)
            summary.computed += len(rows)
            for index, outcome in ready:
                if not isinstance(outcome, BlockOutcome):
                    summary.failed[index] = str(outcome)
                elif not outcome.computed:
                    summary.skipped += 1
    return summary
