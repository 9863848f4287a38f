"""Blocks as tasks of a dask scheduler, whichever workers it has."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count, islice
from threading import Event, Lock, Thread
from typing import Any

from segem.errors import BlockError, ConfigError, SegemError, ServerError
from segem.execute.fence import Fence, fenced
from segem.execute.work import BlockOutcome, BlockWork, Outcomes, Sweep, blamed, cores
from segem.geometry import ZYX
from segem.io.ledger import LedgerRow
from segem.plan import Block

# One block in work and one waiting, so that a worker never idles while its answer travels.
IN_FLIGHT_PER_WORKER = 2
ANSWER_SECONDS = 20.0
"""How long a worker that has finished a block may take to return its few bytes of outcome."""
ATTEMPTS = 5
"""How often a block is given out whose worker finishes it and then dies or falls silent, before it counts as failed."""
COUNT_SECONDS = 1.0
"""How often workers are counted, which come and go; to ask after every block would cost too much."""

LOOKS_WITHOUT_WORKERS = 12
"""Of a `WorkerWatch`, before it warns."""

_ONE_BLOCK = Lock()
"""A worker may have several threads, and memory for one block."""

logger = logging.getLogger(__name__)


def run_tasks(client: Any, sweep: Sweep, on_voxels: Callable[[int], None], threads: int | None = None) -> Outcomes:
    """Finish blocks on the workers of a dask scheduler; blocks lost with a dead worker are given to another.

    Parameters
    ----------
    client : distributed.Client
        Connected.
    sweep : Sweep
        What to compute.
    on_voxels : callable
        Called with the number of voxels just finished.
    threads : int, optional
        Threads for each block; when absent, workers are on other machines and use what they were started with.

    Yields
    ------
    list
        Index of each block that is ready, and how it went.

    Raises
    ------
    ServerError
        When the scheduler is gone.
    SegemError
        What concerns all blocks alike.
    """
    # Imported late: distributed takes long to load, and only these engines need it.
    from distributed import as_completed

    work, known, pending = sweep.work, sweep.known, iter(sweep.order(sweep.plan.blocks()))
    numbers = count()
    blocks: dict[str, tuple[Block, int]] = {}
    running = as_completed(loop=client.loop)
    window = _Window(client)

    with fenced(sweep.scratch / sweep.fence) as fence:

        def submit(block: Block, attempt: int = 1) -> None:
            # The work travels with each block: data scattered to the workers would be lost with the last of them.
            # The key is new for each attempt: dask takes tasks with the same key for one task.
            key = f"block-{block.index}-{next(numbers)}"
            blocks[key] = block, attempt
            row = known.get(block.index)
            running.add(client.submit(_in_worker, work, block, row, threads, fence, key=key))

        for block in islice(pending, window.size()):
            submit(block)
        for batch in running.batches():
            _require_connection(client)
            ready: list[tuple[ZYX, BlockOutcome | BlockError]] = []
            given_out = [blocks.pop(future.key) for future in batch]
            for (block, attempt), outcome in zip(given_out, _outcomes(client, batch, given_out), strict=True):
                if outcome is not None:
                    ready.append((block.index, outcome))
                elif attempt < ATTEMPTS:
                    submit(block, attempt + 1)
                else:
                    ready.append((block.index, _unanswered(block)))
            yield ready
            done = {index for index, _ in ready}
            on_voxels(sum(block.write.size for block, _ in given_out if block.index in done))
            for following in islice(pending, max(0, window.size() - len(blocks))):
                submit(following)


class _Window:
    """How many blocks are given out at the same time: some for each worker that is there now."""

    def __init__(self, client: Any) -> None:
        self._client, self._size, self._counted = client, 0, -COUNT_SECONDS

    def size(self) -> int:
        if time.monotonic() - self._counted >= COUNT_SECONDS:
            # Without any worker too: blocks wait at the scheduler for the first one.
            self._size = IN_FLIGHT_PER_WORKER * max(1, len(self._client.nthreads()))
            self._counted = time.monotonic()
        return self._size


def _in_worker(
    work: BlockWork[Any, Any], block: Block, known: LedgerRow | None, threads: int | None, fence: Fence
) -> BlockOutcome | Exception:
    # Errors come back as values, so that dask retries a block only when its worker died.
    try:
        with _ONE_BLOCK:
            # Before it begins too: a block may take minutes, which nobody waits for once the sweep was stopped.
            fence.require(block)
            computed = work.compute(work.load(block, known), threads or _threads_of_worker(), lambda _: None)
            fence.require(block)
            return work.store(computed)
    except SegemError as error:
        # What is missing is missing there: a path that this machine has, or a package.
        if threads is None:
            error.where = " ".join(filter(None, (error.where, f"on {socket.gethostname()}")))
        return error
    except Exception as error:
        return blamed(error, block)


def _threads_of_worker() -> int:
    from distributed import get_worker

    # What dask calls threads of a worker is how much of its machine it may use: here within one block.
    threads: int = get_worker().state.nthreads
    return min(cores(), threads)


def _outcomes(
    client: Any, futures: list[Any], given_out: list[tuple[Block, int]]
) -> list[BlockOutcome | BlockError | None]:
    """Return how the blocks of finished tasks went; None where the outcome was lost with its worker."""
    from distributed import CancelledError

    found: list[Any] = [None] * len(futures)
    if len(futures) > 1:
        # One question for all takes a third of the time of one for each. Whatever is wrong with one of them is found
        # out below.
        with suppress(Exception, CancelledError):
            found = client.sync(_gathered, client, futures)
    return [
        _judged(result, block) if result is not None else _outcome(future, block)
        for future, result, (block, _) in zip(futures, found, given_out, strict=True)
    ]


async def _gathered(client: Any, futures: list[Any]) -> list[Any]:
    results: list[Any] = await asyncio.wait_for(client.gather(futures, asynchronous=True), ANSWER_SECONDS)
    return results


def _outcome(future: Any, block: Block) -> BlockOutcome | BlockError | None:
    from distributed import CancelledError
    from distributed.scheduler import KilledWorker

    try:
        return _judged(future.result(timeout=ANSWER_SECONDS), block)
    except (CancelledError, TimeoutError):
        # The worker died after it reported the block but before it sent the result: dask may wait forever.
        # Computing the block twice is harmless: it writes the same bytes to the same place.
        return None
    except KilledWorker:
        return BlockError(
            "the worker died each time it took this block",
            where=f"block {block.index} {block.write}",
            fix="look for a kill by the memory limit in the system log; run again with fewer workers",
        )
    except (ImportError, AttributeError) as error:
        # What travels names modules of segem: a worker without them, or with older ones, cannot even unpack it.
        raise ConfigError(
            "a worker cannot read what it is sent",
            where=f"block {block.index}",
            found=f"{type(error).__name__}: {error}",
            fix="install the same version of segem in the environment of the workers",
        ) from None


def _judged(result: BlockOutcome | Exception, block: Block) -> BlockOutcome | BlockError:
    return result if isinstance(result, BlockOutcome) else blamed(result, block)


def _unanswered(block: Block) -> BlockError:
    return BlockError(
        f"no worker has answered for this block in {ATTEMPTS} attempts",
        where=f"block {block.index} {block.write}",
        fix="look in the system log for what stops the workers; run again with fewer of them",
    )


def _require_connection(client: Any) -> None:
    if client.status != "running":
        raise ServerError(
            "the dask scheduler is gone",
            where=getattr(client.scheduler, "address", "the cluster"),
            fix="start it and run the same command again; finished blocks are kept",
        )


class WorkerWatch:
    """Warns once each time that there has been no worker for a while, since blocks then wait without a word."""

    def __init__(self, client: Any, fix: str) -> None:
        self._client, self._fix, self._empty = client, fix, 0

    def __call__(self) -> None:
        """Count the workers."""
        self._empty = 0 if self._client.nthreads() else self._empty + 1
        if self._empty == LOOKS_WITHOUT_WORKERS:
            logger.warning("no worker is there to compute blocks; %s", self._fix)


@contextmanager
def watched(look: Callable[[], None], seconds: float) -> Iterator[None]:
    """Call a function from time to time while the body runs; what it raises is passed over, and it is called again."""
    over = Event()

    def watch() -> None:
        while not over.wait(seconds):
            with suppress(Exception):
                look()

    watcher = Thread(target=watch, name="workers", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
