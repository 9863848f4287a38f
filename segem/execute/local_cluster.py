"""Blocks on a dask.distributed cluster of processes on this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import count, islice
from pathlib import Path
from threading import Event, Thread
from typing import Any

from segem.config import ExecutionConfig
from segem.errors import BlockError, SegemError
from segem.execute.work import BlockOutcome, BlockWork, Outcomes, Sweep, blamed, cores
from segem.io.ledger import LedgerRow
from segem.plan import Block
from segem.progress import is_shown, tell

# One block in work and one waiting, so that a worker never idles while its answer travels.
IN_FLIGHT_PER_WORKER = 2
ANSWER_SECONDS = 20.0
"""How long a worker that has finished a block may take to return its few bytes of outcome."""
ATTEMPTS = 5
"""How often a block is given out whose worker finishes it and then dies or falls silent, before it counts as failed."""
REVIVE_SECONDS = 5.0
"""How often dead workers are replaced."""


def run_local_cluster(sweep: Sweep, execution: ExecutionConfig, on_voxels: Callable[[int], None]) -> Outcomes:
    """Finish blocks on worker processes of this machine; blocks lost with a dead worker are given to another."""
    # Imported late: distributed takes long to load, and only this engine needs it.
    from distributed import CancelledError, as_completed

    work, known, pending = sweep.work, sweep.known, iter(sweep.order(sweep.plan.blocks()))
    # The workers share the cores; each block gets its share as threads, and every worker takes one block at a time.
    threads = max(1, cores() // execution.workers)
    with _cluster(execution.workers, sweep.scratch) as client:
        numbers = count()
        blocks: dict[str, tuple[Block, int]] = {}
        running = as_completed()

        def submit(block: Block, attempt: int = 1) -> None:
            # The work travels with each block: data scattered to the workers would be lost with the last of them.
            # The key is new for each attempt: dask takes tasks with the same key for one task.
            key = f"block-{block.index}-{next(numbers)}"
            blocks[key] = block, attempt
            running.add(client.submit(_in_worker, work, block, known.get(block.index), threads, key=key))

        for block in islice(pending, execution.workers * IN_FLIGHT_PER_WORKER):
            submit(block)
        for future in running:
            block, attempt = blocks.pop(future.key)
            try:
                outcome = _outcome(future, block)
            except (CancelledError, TimeoutError):
                # The worker died after it reported the block but before it sent the result: dask may wait forever.
                # Computing the block twice is harmless: it writes the same bytes to the same place.
                if attempt < ATTEMPTS:
                    submit(block, attempt + 1)
                    continue
                outcome = BlockError(
                    f"no worker has answered for this block in {ATTEMPTS} attempts",
                    where=f"block {block.index} {block.write}",
                    fix="look in the system log for what stops the workers; run again with fewer of them",
                )
            yield block.index, outcome
            on_voxels(block.write.size)
            for following in islice(pending, 1):
                submit(following)


def _in_worker(
    work: BlockWork[Any, Any], block: Block, known: LedgerRow | None, threads: int
) -> BlockOutcome | Exception:
    # Errors come back as values, so that dask retries a block only when its worker died.
    try:
        return work.store(work.compute(work.load(block, known), threads, lambda _: None))
    except SegemError as error:
        return error
    except Exception as error:
        return blamed(error, block)


def _outcome(future: Any, block: Block) -> BlockOutcome | BlockError:
    from distributed.scheduler import KilledWorker

    try:
        result = future.result(timeout=ANSWER_SECONDS)
    except KilledWorker:
        return BlockError(
            "the worker died each time it took this block",
            where=f"block {block.index} {block.write}",
            fix="look for a kill by the memory limit in the system log; run again with fewer workers",
        )
    return result if isinstance(result, BlockOutcome) else blamed(result, block)


@contextmanager
def _cluster(workers: int, scratch: Path) -> Iterator[Any]:
    import dask
    from distributed import Client, LocalCluster

    # Everything stays on loopback: dask unpickles and runs whatever it receives.
    settings = {"distributed.worker.daemon": False, "distributed.comm.timeouts.connect": "60s"}
    with (
        tempfile.TemporaryDirectory(dir=scratch, prefix=".dask-") as folder,
        dask.config.set(settings),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            # segem plans memory itself; dask would pause or kill workers by an estimate of its own.
            memory_limit=0,
            local_directory=folder,
        ) as cluster,
        Client(cluster) as client,
        _kept_at(cluster, workers),
    ):
        if is_shown() and find_spec("bokeh"):
            tell(f"dask shows what the workers do at {cluster.dashboard_link}")
        yield client


@contextmanager
def _kept_at(cluster: Any, workers: int) -> Iterator[None]:
    """Start a new worker for each one that dies and does not come back.

    dask gives up on a worker that is killed while it starts, or that is slow to restart; with no worker left, the run
    would wait forever.
    """
    over = Event()

    def watch() -> None:
        while not over.wait(REVIVE_SECONDS):
            cluster.scale(workers)

    watcher = Thread(target=watch, name="workers", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
