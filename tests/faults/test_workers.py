"""Workers that are killed cost time; a block that kills its workers fails alone."""

from __future__ import annotations

import os
import random
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

import segem.execute.local_cluster
import segem.execute.tasks
from segem.config import ExecutionConfig
from segem.execute.run import execute
from segem.execute.work import Summary, Sweep
from segem.geometry import ZYX
from segem.io.ledger import Ledger, LedgerRow, PhaseKey
from segem.io.volume import Volume
from segem.plan import Block, Plan
from tests.faults.blockwork import NoiseWork, empty_result

LOOP = ExecutionConfig()
DASK = ExecutionConfig(engine="dask", workers=2)
BLOCKS = 80
KEY = PhaseKey("v", "noise", "blocks")
KILLS = 8
BLOCKS_BETWEEN_KILLS = 6


def run(
    plan: Plan, work: NoiseWork, config: ExecutionConfig, folder: Path, disturb: Callable[[], None] = lambda: None
) -> tuple[Summary, int]:
    """Return how a plan went, and how many blocks the ledger holds then; `disturb` is called as it grows."""
    with Ledger(folder / "ledger.sqlite") as ledger:

        def record(rows: Mapping[ZYX, LedgerRow]) -> None:
            ledger.record(KEY, rows)
            disturb()

        sweep = Sweep(plan, work, ledger.rows(KEY), folder)
        summary = execute(sweep, config, record)
        return summary, len(ledger.rows(KEY))


def voxels(volume: Volume) -> np.ndarray:
    return np.asarray(volume.raw[:])


class Killer:
    """Kills the processes that take blocks, in step with the work, whose coordinator calls it."""

    def __init__(self, work: NoiseWork) -> None:
        self.work, self.killed, self.due = work, set[int](), BLOCKS_BETWEEN_KILLS
        self.rng = random.Random(0)

    def __call__(self) -> None:
        if len(self.killed) >= KILLS or len(self.work.takers()) < self.due:
            return
        # At any moment of the blocks that the workers hold.
        time.sleep(self.rng.uniform(0, 0.1))
        living = sorted({pid for pid, _ in self.work.takers()} - self.killed)
        # One by one at first; then all at once, so that nothing is left of what the workers hold.
        for pid in self.rng.sample(living, min(1, len(living))) if len(self.killed) < KILLS // 2 else living:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                self.killed.add(pid)
        self.due = len(self.work.takers()) + BLOCKS_BETWEEN_KILLS


@pytest.mark.slow
def test_killed_workers_lose_no_block(tmp_path: Path) -> None:
    by_loop, plan = empty_result(tmp_path / "loop.ome.zarr", BLOCKS)
    (tmp_path / "loop").mkdir()
    run(plan, NoiseWork(by_loop.path, tmp_path / "loop.log"), LOOP, tmp_path / "loop")

    by_dask, _ = empty_result(tmp_path / "dask.ome.zarr", BLOCKS)
    work = NoiseWork(by_dask.path, tmp_path / "dask.log", seconds=0.05)
    killer = Killer(work)
    summary, recorded = run(plan, work, DASK, tmp_path, killer)

    assert len(killer.killed) >= KILLS
    assert summary.failed == {}
    assert (summary.computed, recorded) == (BLOCKS, BLOCKS)
    assert np.array_equal(voxels(by_dask), voxels(by_loop))
    # A worker takes with it what it holds: the block in its hands, those that wait, an answer on its way.
    assert len(work.takers()) <= BLOCKS + 3 * len(killer.killed)


@pytest.mark.slow
def test_a_block_that_kills_its_worker_fails_alone(tmp_path: Path) -> None:
    result, plan = empty_result(tmp_path / "v.ome.zarr", 40)
    poisoned = NoiseWork(result.path, tmp_path / "log", poison=(17, 0, 0))
    summary, recorded = run(plan, poisoned, DASK, tmp_path)
    assert list(summary.failed) == [(17, 0, 0)]
    assert "block (17, 0, 0)" in summary.failed[17, 0, 0]
    assert "the worker died" in summary.failed[17, 0, 0]
    assert (summary.computed, recorded) == (39, 39)
    taken = Counter(block for _, block in poisoned.takers())
    assert taken["(17, 0, 0)"] > 1, "a death may be the fault of the worker, so it is tried again"

    healthy = NoiseWork(result.path, tmp_path / "log")
    summary, recorded = run(plan, healthy, LOOP, tmp_path)
    assert (summary.computed, summary.skipped, recorded) == (1, 39, 40)
    assert np.asarray(result.raw[17 * 8 : 18 * 8]).any()


@pytest.mark.slow
def test_nothing_of_the_cluster_can_be_reached_from_outside(tmp_path: Path) -> None:
    with segem.execute.local_cluster._cluster(1, tmp_path) as client:
        address = client.cluster.dashboard_link.removesuffix("/status")
        assert urllib.request.urlopen(f"{address}/health", timeout=60).read() == b"ok"
        listening = {
            connection.laddr.ip
            for process in (psutil.Process(), *psutil.Process().children(recursive=True))
            for connection in process.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
    assert listening == {"127.0.0.1"}


@pytest.mark.slow
def test_a_worker_that_never_answers_is_not_asked_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: Counter[str] = Counter()

    def silent(client: object, futures: list[object], given_out: list[tuple[Block, int]]) -> list[None]:
        asked.update(str(block.index) for block, _ in given_out)
        return [None for _ in futures]

    monkeypatch.setattr(segem.execute.tasks, "_outcomes", silent)
    volume, plan = empty_result(tmp_path / "v.ome.zarr", 3)
    summary, recorded = run(plan, NoiseWork(volume.path, tmp_path / "log"), DASK, tmp_path)
    assert set(asked.values()) == {segem.execute.tasks.ATTEMPTS}
    assert len(summary.failed) == 3
    assert all("no worker has answered for this block in 5 attempts" in str(why) for why in summary.failed.values())
    assert recorded == 0
