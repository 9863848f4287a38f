"""Runs the blocks of a plan: a plain loop, or dask.distributed; both give the same bytes."""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import count, islice
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any, Protocol, TypeVar

from segem.config import ExecutionConfig
from segem.errors import BlockError, SegemError
from segem.geometry import ZYX, ceil_div
from segem.io.ledger import Ledger, LedgerRow
from segem.plan import Block, Plan
from segem.progress import tell

READ_AHEAD = 1
"""Blocks that are read while others are computed."""
WRITERS = 2
"""Threads that write: while one waits for the disk, the other compresses."""
WAITING_TO_BE_WRITTEN = 2
"""Blocks that are being written while others are computed; more wait, so that memory stays bounded."""
IN_FLIGHT_PER_WORKER = 2
ANSWER_SECONDS = 20.0
"""How long a worker that has finished a block may take to hand over those few bytes."""
REVIVE_SECONDS = 5.0
"""How often dead workers are looked for."""


L = TypeVar("L")
C = TypeVar("C")


@dataclass(frozen=True)
class BlockOutcome:
    """What comes back from a block: little, so that it travels well."""

    index: ZYX
    row: LedgerRow
    computed: bool
    """False when the block was finished already and is intact."""


class BlockWork(Protocol[L, C]):
    """How one block is finished, in three steps that overlap with those of its neighbours; each is safe to repeat.

    An instance is pickled to reach the workers. What passes between the steps never leaves its process.
    """

    def load(self, block: Block, known: LedgerRow | None) -> L:
        """Read what the block needs; `known` is what the ledger holds of it."""

    def compute(self, loaded: L, threads: int | None, on_voxels: Callable[[int], None]) -> C:
        """Compute what is to be written."""

    def store(self, computed: C) -> BlockOutcome:
        """Write it, durably."""


@dataclass
class Summary:
    """How a plan went."""

    computed: int = 0
    skipped: int = 0
    failed: dict[ZYX, str] = field(default_factory=dict)


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
        outcomes = _run_dask(blocks, work, known, config, scratch, advance)
    else:
        at_once = 1 + ceil_div(tiles_at_once or _cores(), plan.tiles_per_block)
        outcomes = _run_loop(blocks, at_once, work, known, advance)
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


Outcomes = Generator[tuple[ZYX, BlockOutcome | BlockError], None, None]


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _run_loop(
    blocks: Iterator[Block],
    at_once: int,
    work: BlockWork[L, C],
    known: dict[ZYX, LedgerRow],
    on_voxels: Callable[[int], None],
) -> Outcomes:
    """Read, compute and write block after block, each step while the others are at work on the blocks around.

    Enough blocks are computed side by side to keep every core busy, and one more, so that none waits while a block is
    put together. Outcomes come in the order of the blocks, whichever is done first.
    """
    with (
        ThreadPoolExecutor(1, "read") as reader,
        ThreadPoolExecutor(at_once, "compute") as computer,
        ThreadPoolExecutor(WRITERS, "write") as writer,
    ):
        loading: deque[tuple[Block, Future[L]]] = deque()
        computing: deque[tuple[Block, Future[C]]] = deque()
        storing: deque[tuple[Block, Future[BlockOutcome]]] = deque()
        try:
            while True:
                for block in islice(blocks, READ_AHEAD + at_once - len(loading) - len(computing)):
                    loading.append((block, reader.submit(work.load, block, known.get(block.index))))
                while loading and len(computing) < at_once:
                    block, loaded = loading.popleft()
                    computing.append((block, computer.submit(_compute, work, loaded, on_voxels)))
                if not computing:
                    break
                block, computed = computing.popleft()
                # What is written is recorded at once, so that a kill costs no more than what is on its way.
                while storing and not computed.done():
                    either: list[Future[Any]] = [computed, storing[0][1]]
                    wait(either, return_when=FIRST_COMPLETED)
                    if storing[0][1].done():
                        yield _stored(*storing.popleft())
                try:
                    storing.append((block, writer.submit(work.store, computed.result())))
                except Exception as error:
                    yield block.index, _fault(error, block)
                del computed
                while len(storing) > WAITING_TO_BE_WRITTEN:
                    yield _stored(*storing.popleft())
            while storing:
                yield _stored(*storing.popleft())
        finally:
            for _, unread in loading:
                unread.cancel()
            for _, unstarted in computing:
                unstarted.cancel()


def _compute(work: BlockWork[L, C], loaded: Future[L], on_voxels: Callable[[int], None]) -> C:
    return work.compute(loaded.result(), None, on_voxels)


def _stored(block: Block, stored: Future[BlockOutcome]) -> tuple[ZYX, BlockOutcome | BlockError]:
    try:
        return block.index, stored.result()
    except Exception as error:
        return block.index, _fault(error, block)


def _fault(error: Exception, block: Block) -> BlockError:
    """Return what is wrong with one block alone; raise what is wrong with all."""
    if isinstance(error, BlockError):
        return error
    if isinstance(error, SegemError):
        raise error
    return BlockError(
        f"{type(error).__name__}: {error}",
        where=f"block {block.index} {block.write}",
        fix="run the same command again; if it fails again, report it",
    )


def _run_dask(
    pending: Iterator[Block],
    work: BlockWork[L, C],
    known: dict[ZYX, LedgerRow],
    config: ExecutionConfig,
    scratch: Path,
    on_voxels: Callable[[int], None],
) -> Outcomes:
    from distributed import CancelledError, as_completed

    threads = max(1, _cores() // config.workers)
    with _cluster(config.workers, scratch, config.progress) as client:
        attempts = count()
        blocks: dict[str, Block] = {}
        running = as_completed()

        def submit(block: Block) -> None:
            # The work travels with each block: scattered to the workers, it would be lost with the last of them.
            key = f"block-{block.index}-{next(attempts)}"
            blocks[key] = block
            running.add(client.submit(_in_worker, work, block, known.get(block.index), threads, key=key))

        for block in islice(pending, config.workers * IN_FLIGHT_PER_WORKER):
            submit(block)
        for future in running:
            block = blocks.pop(future.key)
            try:
                outcome = _outcome(future, block)
            except (CancelledError, TimeoutError):
                # The worker died between its last word and its answer, and dask may wait for that for ever.
                submit(block)
                continue
            yield block.index, outcome
            on_voxels(block.write.size)
            for following in islice(pending, 1):
                submit(following)


def _in_worker(work: BlockWork[L, C], block: Block, known: LedgerRow | None, threads: int) -> BlockOutcome | Exception:
    # What goes wrong in a block comes back as a value: dask repeats only what a dead worker took with it.
    try:
        return work.store(work.compute(work.load(block, known), threads, lambda _: None))
    except SegemError as error:
        return error
    except Exception as error:
        return _fault(error, block)


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
    return result if isinstance(result, BlockOutcome) else _fault(result, block)


@contextmanager
def _cluster(workers: int, scratch: Path, show: bool = False) -> Iterator[Any]:
    import dask
    from distributed import Client, LocalCluster

    # Everything stays on loopback: the protocol of dask runs what it is sent.
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
            memory_limit=0,
            local_directory=folder,
        ) as cluster,
        Client(cluster) as client,
        _kept_at(cluster, workers),
    ):
        if show and find_spec("bokeh"):
            tell(f"dask shows what the workers do at {cluster.dashboard_link}")
        yield client


@contextmanager
def _kept_at(cluster: Any, workers: int) -> Iterator[None]:
    """Start a new worker for each one that dies and does not come back.

    dask gives up on a worker that is killed while it starts, or takes long to start again; without any worker left, the
    run would wait for ever.
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
