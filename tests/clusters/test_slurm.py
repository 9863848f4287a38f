"""Jobs of a real SLURM: cancelled, out of time, their node dead, and the volume is whole by itself."""

from __future__ import annotations

import os
import threading
import traceback
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import segem.execute.slurm as engine
from segem.config import ExecutionConfig, SlurmConfig
from segem.errors import ConfigError
from segem.execute.run import execute
from segem.execute.work import Sweep
from segem.io.ledger import Ledger, PhaseKey
from segem.plan import Plan
from tests.clusters.slurm_machine import Slurm
from tests.faults.blockwork import GatedNoise, NoiseWork, empty_result
from tests.processes import listening, wait_for

KEY = PhaseKey("v", "noise", "blocks")
BLOCKS = int(os.environ.get("SEGEM_CLUSTER_BLOCKS", "24"))
JOBS = SlurmConfig(queue="main", walltime="00:10:00", interface="lo", cores=2, job_memory="1GB")
"""All cores of a node each, so that two jobs are on two nodes."""


class Disturber(threading.Thread):
    """Cancels two jobs, lets the time of one run out and kills the node of one, each as soon as work goes on."""

    def __init__(self, machine: Slurm, work: GatedNoise) -> None:
        super().__init__(daemon=True)
        self.machine, self.work = machine, work
        self.ended: dict[str, str] = {}
        self.addresses: set[str] = set()
        self.nodes: set[str] = set()
        self.failure = ""

    def run(self) -> None:
        try:
            for disturb in (self._cancel, self._cancel, self._run_out, self._kill_node):
                self._wait_for_work(len(self.work.takers()) + 2)
                disturb()
            self.addresses = listening(os.getpid()).union(*(listening(pid) for pid, _ in self.work.takers()))
        except Exception:
            self.failure = traceback.format_exc()
        finally:
            self.work.gate.unlink()

    def _wait_for_work(self, taken: int) -> None:
        wait_for(lambda: len(self.work.takers()) >= min(taken, BLOCKS), 90)

    def _running(self) -> str:
        return self.machine.running()[0]

    def _cancel(self) -> None:
        job = self._running()
        self.machine.run("scancel", job)
        self._note(job, "CANCELLED")

    def _run_out(self) -> None:
        job = self._running()
        self.machine.run("scontrol", "update", f"JobId={job}", "EndTime=now+1")
        self._note(job, "TIMEOUT")

    def _kill_node(self) -> None:
        jobs = self.machine.running(2)
        self.nodes = {self.machine.node_of(job) for job in jobs}
        self.machine.kill_node(self.machine.node_of(jobs[0]))

    def _note(self, job: str, state: str) -> None:
        wait_for(lambda: self.machine.state(job) == state, 90)
        self.ended[job] = state


@pytest.mark.slow
def test_jobs_that_end_are_replaced_and_no_byte_changes(
    slurm_machine: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "LOOK_SECONDS", 1.0)
    by_loop, plan = empty_result(tmp_path / "loop.ome.zarr", BLOCKS)
    reference = NoiseWork(by_loop.path, tmp_path / "loop.log")
    execute(Sweep(plan, reference, {}, tmp_path), ExecutionConfig(), lambda *_: None)

    result, _ = empty_result(tmp_path / "v.ome.zarr", BLOCKS)
    gate = tmp_path / "gate"
    gate.touch()
    work = GatedNoise(result.path, tmp_path / "log", 0.2, gate=gate, last=last_of(plan))
    disturber = Disturber(slurm_machine, work)
    disturber.start()
    (tmp_path / "run").mkdir()
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        sweep = Sweep(plan, work, {}, tmp_path / "run")
        execution = ExecutionConfig(cluster="slurm", workers=2, slurm=JOBS)
        summary = execute(sweep, execution, partial(ledger.record, KEY))
        rows = ledger.rows(KEY)
    disturber.join()

    assert disturber.failure == ""
    assert sorted(disturber.ended.values()) == ["CANCELLED", "CANCELLED", "TIMEOUT"]
    assert disturber.nodes == {"n1", "n2"}
    assert (summary.computed, summary.failed, len(rows)) == (BLOCKS, {}, BLOCKS)
    assert np.array_equal(np.asarray(result.raw[:]), np.asarray(by_loop.raw[:]))
    assert len({pid for pid, _ in work.takers()}) >= 4
    assert disturber.addresses == {"127.0.0.1"}
    assert not [path for path in (tmp_path / "run").iterdir() if path.name.startswith(".dask-")], (
        "certificates are gone"
    )
    wait_for(lambda: slurm_machine.jobs("running,pending") == [], 90)


def last_of(plan: Plan) -> Any:
    return list(plan.blocks())[-1].index


def test_jobs_are_described_by_settings_then_by_dasks_configuration() -> None:
    configured = {"interface": "ib0", "cores": 4, "queue": "short", "job-extra-directives": ["--constraint=avx2"]}

    def setting(name: str, default: Any = None) -> Any:
        return configured.get(name.removeprefix("jobqueue.slurm."), default)

    given = engine.job_options(
        ExecutionConfig(cluster="slurm", workers=9, memory="6GB", slurm=SlurmConfig(walltime="4:00:00", gpus=2)),
        setting,
    )
    assert given["interface"] == "ib0"
    assert (given["cores"], given["memory"], given["processes"]) == (4, "8000000000", 1)
    # Left to dask-jobqueue, which reads it from there.
    assert "queue" not in given
    assert given["walltime"] == "4:00:00"
    assert given["job_extra_directives"] == ["--constraint=avx2", "--no-requeue", "--gres=gpu:2"]
    assert given["protocol"] == "tls://"


def test_jobs_need_an_interface() -> None:
    with pytest.raises(ConfigError, match=r"no network interface .*found interfaces here: .*lo"):
        engine.job_options(ExecutionConfig(cluster="slurm"), lambda _, default: default)


def test_without_sbatch_it_is_said_where_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match="no sbatch on PATH"):
        engine._require_slurm()
