"""A dask scheduler that runs already: encrypted or refused, the same bytes as the loop, whoever dies."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest

import segem.execute.remote_scheduler as engine
from segem.config import ExecutionConfig, SegmentConfig
from segem.errors import BlockError, ConfigError, ServerError
from segem.execute.fence import Fence, fenced
from segem.execute.run import execute
from segem.execute.tasks import IN_FLIGHT_PER_WORKER, _in_worker
from segem.execute.work import BlockOutcome, Summary, Sweep
from segem.io.ledger import Ledger, LedgerRow, PhaseKey
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.plan import Block
from segem.stages.segmentation.arithmetic import segment as arithmetic
from segem.stages.segmentation.block_work import StepWork
from segem.stages.segmentation.segment import segment
from tests.clusters.dask_machines import TLS, Authority, scheduler_command, tls_cluster
from tests.faults.blockwork import GatedNoise, NoiseWork, Voxels, empty_result
from tests.integration.conftest import make_artefact, make_volume
from tests.processes import clean_environment, listening, started, wait_for

KEY = PhaseKey("v", "noise", "blocks")
BLOCKS = int(os.environ.get("SEGEM_CLUSTER_BLOCKS", "16"))
WORKERS = 2


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority") / "certificates")


@pytest.fixture(scope="module")
def cluster(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[Any]]]:
    with (
        tls_cluster(tmp_path_factory.mktemp("dask"), authority, workers=WORKERS) as started,
        dask.config.set(authority.settings()),
    ):
        await_workers(started[0])
        yield started


def await_workers(file: Path) -> None:
    with engine._connected(engine.address_of(str(file))) as client:
        client.wait_for_workers(WORKERS, timeout=120)


def tasks_of_worker(dask_worker: Any) -> int:
    return len(dask_worker.state.tasks)


def tasks_of_scheduler(dask_scheduler: Any) -> int:
    return len(dask_scheduler.tasks)


def run(folder: Path, execution: ExecutionConfig, work: NoiseWork, sweep: Sweep) -> Summary:
    with Ledger(folder / "ledger.sqlite") as ledger:
        return execute(sweep, execution, partial(ledger.record, KEY))


@pytest.mark.slow
def test_a_killed_worker_changes_no_byte(cluster: tuple[Path, list[Any]], tmp_path: Path) -> None:
    (tmp_path / "loop").mkdir()
    by_loop, plan = empty_result(tmp_path / "loop.ome.zarr", BLOCKS)
    work = NoiseWork(by_loop.path, tmp_path / "loop.log")
    run(tmp_path / "loop", ExecutionConfig(), work, Sweep(plan, work, {}, tmp_path / "loop"))

    result, _ = empty_result(tmp_path / "dask.ome.zarr", BLOCKS)
    gate = tmp_path / "gate"
    gate.touch()
    work = GatedNoise(result.path, tmp_path / "log", seconds=0.1, gate=gate, last=list(plan.blocks())[-1].index)

    def kill() -> None:
        wait_for(lambda: len(work.takers()) >= BLOCKS // 3, 60)
        os.kill(work.takers()[-1][0], signal.SIGKILL)
        gate.unlink()

    killer = threading.Thread(target=kill)
    killer.start()
    execution = ExecutionConfig(cluster=str(cluster[0]))
    summary = run(tmp_path, execution, work, Sweep(plan, work, {}, tmp_path))
    killer.join()
    assert (summary.computed, summary.failed) == (BLOCKS, {})
    assert np.array_equal(np.asarray(result.raw[:]), np.asarray(by_loop.raw[:]))
    takers = work.takers()
    assert len({pid for pid, _ in takers}) >= 2
    # One worker, two blocks in its hands or before it, and an answer on its way.
    assert len(takers) <= BLOCKS + 3
    assert not (tmp_path / ".sweep").exists()
    await_workers(cluster[0])


def model_loads(_: object = None) -> int:
    return arithmetic._open.cache_info().misses


@pytest.mark.slow
def test_a_segmentation_has_the_bytes_of_the_loop(cluster: tuple[Path, list[Any]], tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "workspace")
    workspace.prepare()
    make_artefact(workspace, seed=0)
    make_volume(workspace, tmp_path / "source", (40, 64, 64))
    config, found = SegmentConfig(model="tiny", runtime="torch"), []
    with engine._connected(engine.address_of(str(cluster[0]))) as client:
        before = client.run(model_loads)
        for run_name, execution in (
            ("loop", ExecutionConfig(device="cpu")),
            ("dask", ExecutionConfig(device="cpu", cluster=str(cluster[0]))),
        ):
            segment("noise", run_name, config, execution, workspace)
            result = Volume.open(workspace.result(run_name, "noise"))
            found.append([np.asarray(result.raw[...]), np.asarray(result.label("membrane")[...])])
        after = client.run(model_loads)
    assert all(np.array_equal(one, other) for one, other in zip(*found, strict=True))
    loads = [after[worker] - before[worker] for worker in before]
    assert max(loads) == 1, "a worker opens the model once, whatever the number of its blocks"


@pytest.mark.slow
def test_a_sweep_that_is_stopped_leaves_the_workers_idle(cluster: tuple[Path, list[Any]], tmp_path: Path) -> None:
    result, plan = empty_result(tmp_path / "v.ome.zarr", 40)
    work = NoiseWork(result.path, tmp_path / "log", seconds=0.2)
    sweep = Sweep(plan, work, {}, tmp_path)
    outcomes = engine.run_remote_scheduler(sweep, ExecutionConfig(cluster=str(cluster[0])), lambda _: None)
    finished = sum(len(next(outcomes)) for _ in range(3))
    # What Ctrl-C comes to.
    outcomes.close()
    assert not (tmp_path / ".sweep").exists()
    with engine._connected(engine.address_of(str(cluster[0]))) as client:
        # What a client knows of is not enough: a block that was taken back stays in a worker's hands until it is done.
        wait_for(lambda: client.run_on_scheduler(tasks_of_scheduler) == 0, 60)
        wait_for(lambda: not any(client.run(tasks_of_worker).values()), 60)
    assert finished <= len(work.takers()) <= finished + IN_FLIGHT_PER_WORKER * WORKERS


@pytest.mark.slow
def test_only_certificates_of_the_authority_open_the_door(
    cluster: tuple[Path, list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = engine.address_of(str(cluster[0]))
    assert address.startswith("tls://127.0.0.1:")
    assert set().union(*(listening(process.pid) for process in cluster[1])) == {"127.0.0.1"}
    monkeypatch.setattr(engine, "CONNECT_SECONDS", 2)
    with (
        dask.config.set(Authority(tmp_path / "other").settings()),
        pytest.raises(ServerError, match="cannot reach the dask scheduler"),
        ExitStack() as stack,
    ):
        stack.enter_context(engine._connected(address))
    with (
        pytest.raises(ServerError, match="cannot reach the dask scheduler"),
        ExitStack() as stack,
    ):
        stack.enter_context(engine._connected(address.replace("tls://", "tcp://")))


@pytest.mark.slow
def test_a_scheduler_that_dies_is_named(tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    result, plan = empty_result(tmp_path / "v.ome.zarr", 4)
    sweep = Sweep(plan, NoiseWork(result.path, tmp_path / "log"), {}, tmp_path)
    with started(scheduler_command(file, []), tmp_path / "log.txt", clean_environment()) as scheduler:
        wait_for(file.is_file, 60, tmp_path / "log.txt")

        def kill() -> None:
            with engine._connected(engine.address_of(str(file))) as client:
                wait_for(lambda: client.run_on_scheduler(tasks_of_scheduler) > 0, 60)
                scheduler.kill()

        killer = threading.Thread(target=kill)
        killer.start()
        outcomes = engine.run_remote_scheduler(sweep, ExecutionConfig(cluster=str(file)), lambda _: None)
        with pytest.raises(ServerError, match=r"the dask scheduler is gone.*finished blocks are kept"):
            next(outcomes)
        killer.join()


@pytest.mark.parametrize("address", ["tcp://head:8786", "tcp://192.0.2.1:8786", "tcp://[2001:db8::1]:8786"])
def test_an_open_scheduler_elsewhere_is_refused(address: str, tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    file.write_text(f'{{"address": "{address}"}}')
    for cluster in (address, str(file)):
        with pytest.raises(ConfigError, match=r"on another machine and not encrypted; expected tls://.*--protocol tls"):
            engine.address_of(ExecutionConfig(cluster=cluster).cluster or "")


@pytest.mark.parametrize("text", ["", "[]", '{"id": 1}'])
def test_what_is_no_scheduler_file_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    with pytest.raises(ConfigError, match="no scheduler file; found No such file"):
        engine.address_of(str(file))
    file.write_text(text)
    with pytest.raises(ConfigError, match="no scheduler file"):
        engine.address_of(str(file))


def test_tls_needs_certificates() -> None:
    with (
        dask.config.set({f"{TLS}.ca-file": None}),
        pytest.raises(ConfigError, match="DASK_DISTRIBUTED__COMM__TLS__CA_FILE"),
        ExitStack() as stack,
    ):
        stack.enter_context(engine._connected("tls://127.0.0.1:1"))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"cluster": "kubernetes"}, "give slurm, tls://HOST:PORT"),
        ({"cluster": "http://head:1"}, "give slurm, tls://HOST:PORT"),
        ({"cluster": "slurm", "engine": "loop"}, "a cluster needs the dask engine"),
        ({"cluster": "tls://head:1", "workers": 2}, "has its own workers"),
        ({"slurm": {"queue": "main"}}, "settings of jobs need the cluster slurm"),
        ({"cluster": "slurm", "slurm": {"queue": "main\n#SBATCH --uid=0"}}, "without spaces"),
        ({"cluster": "slurm", "slurm": {"walltime": "an hour"}}, "pattern"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ExecutionConfig(**values)


@dataclass(frozen=True)
class StoppedNoise(NoiseWork):
    """Noise whose sweep is stopped while a block is computed."""

    fence: Fence = field(kw_only=True)

    def compute(
        self, loaded: tuple[Block, LedgerRow | None], threads: int | None, on_voxels: Callable[[int], None]
    ) -> tuple[Block, LedgerRow | None, Voxels]:
        self.fence.file.unlink()
        return super().compute(loaded, threads, on_voxels)


def test_a_worker_whose_sweep_is_over_begins_nothing(tmp_path: Path) -> None:
    result, plan = empty_result(tmp_path / "v.ome.zarr", 2)
    first, second = plan.blocks()
    work = NoiseWork(result.path, tmp_path / "log")
    with fenced(tmp_path / ".sweep") as old:
        assert isinstance(_in_worker(work, first, None, 1, old), BlockOutcome)
        # Another coordinator takes over, the old one having been killed.
        with fenced(tmp_path / ".sweep"):
            outcome = _in_worker(work, second, None, 1, old)
            assert isinstance(outcome, BlockError)
            assert "is over" in str(outcome)
    assert isinstance(_in_worker(work, second, None, 1, old), BlockError)
    assert np.asarray(result.raw[:8]).any()
    assert [block for _, block in work.takers()] == [str(first.index)]


def test_a_worker_whose_sweep_ends_meanwhile_writes_nothing(tmp_path: Path) -> None:
    result, plan = empty_result(tmp_path / "v.ome.zarr", 1)
    (block,) = plan.blocks()
    with fenced(tmp_path / ".sweep") as fence:
        work = StoppedNoise(result.path, tmp_path / "log", fence=fence)
        outcome = _in_worker(work, block, None, 1, fence)
    assert isinstance(outcome, BlockError)
    assert "is over" in str(outcome)
    assert len(work.takers()) == 1
    assert not np.asarray(result.raw[:]).any()


def test_a_worker_with_other_code_computes_nothing(tmp_path: Path) -> None:
    result, plan = empty_result(tmp_path / "v.ome.zarr", 1)
    model = arithmetic.SegmentArithmetic(tmp_path, tmp_path, "digest", "cpu", plan, 0.5, "token")
    work = StepWork(model, plan, result, (), code="0" * 64)
    with pytest.raises(
        ConfigError, match=r"a worker has other code .* expected code 000000000000, found code [0-9a-f]{12}"
    ):
        work.load(next(iter(plan.blocks())), None)
