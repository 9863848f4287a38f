"""Blocks one after the other in this process, each read and written while its neighbours are computed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import Any

from segem.config import ExecutionConfig
from segem.errors import BlockError
from segem.execute.work import BlockOutcome, BlockWork, C, L, Outcomes, Sweep, blamed, cores
from segem.geometry import ZYX, ceil_div
from segem.plan import Block

READ_AHEAD = 1
"""Blocks that are read while others are computed."""
WRITERS = 2
"""Threads that write: while one waits for the disk, the other compresses."""
WAITING_TO_BE_WRITTEN = 2
"""Blocks that are being written while others are computed; more wait, so that memory stays bounded."""


def run_loop(sweep: Sweep, _execution: ExecutionConfig, on_voxels: Callable[[int], None]) -> Outcomes:
    """Read, compute and write block after block; the three steps overlap with those of neighbouring blocks.

    Enough blocks are computed side by side to keep every core busy, and one more, so that no core idles while a block
    is stitched. Only blocks so large that they come one at a time do not overlap. Outcomes are yielded in the order of
    the blocks, whichever finishes first.
    """
    work, known, blocks = sweep.work, sweep.known, iter(sweep.order(sweep.plan.blocks()))
    at_once = 1 + ceil_div(sweep.tiles_at_once or cores(), sweep.plan.tiles_per_block)
    ahead, waiting = READ_AHEAD, WAITING_TO_BE_WRITTEN
    if sweep.one_at_a_time:
        at_once, ahead, waiting = 1, 0, 0
    with (
        # One reader: the chunk cache is sized for blocks that are read one after the other, in their order.
        ThreadPoolExecutor(1, "read") as reader,
        ThreadPoolExecutor(at_once, "compute") as computer,
        ThreadPoolExecutor(WRITERS, "write") as writer,
    ):
        loading: deque[tuple[Block, Future[Any]]] = deque()
        computing: deque[tuple[Block, Future[Any]]] = deque()
        storing: deque[tuple[Block, Future[BlockOutcome]]] = deque()
        try:
            while True:
                # Bounds how many blocks are in memory: as many as are computed, and those read ahead.
                for block in islice(blocks, ahead + at_once - len(loading) - len(computing)):
                    loading.append((block, reader.submit(work.load, block, known.get(block.index))))
                while loading and len(computing) < at_once:
                    block, loaded = loading.popleft()
                    computing.append((block, computer.submit(_compute, work, loaded, on_voxels)))
                if not computing:
                    break
                block, computed = computing.popleft()
                # Yield a block as soon as it is on disk: its row is committed then, and a kill costs no finished block.
                while storing and not computed.done():
                    either: list[Future[Any]] = [computed, storing[0][1]]
                    wait(either, return_when=FIRST_COMPLETED)
                    if storing[0][1].done():
                        yield [_stored(*storing.popleft())]
                try:
                    storing.append((block, writer.submit(work.store, computed.result())))
                except Exception as error:
                    # Errors of load and compute both surface here; only those that all blocks share are raised.
                    yield [(block.index, blamed(error, block))]
                # Frees the voxels of this block before waiting for a writer.
                del computed
                while len(storing) > waiting:
                    yield [_stored(*storing.popleft())]
            while storing:
                yield [_stored(*storing.popleft())]
        finally:
            # On an error or an early close, the pools would otherwise finish every queued block before they end.
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
        return block.index, blamed(error, block)
