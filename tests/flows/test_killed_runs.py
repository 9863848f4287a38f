"""Flow runs of a real service whose processes are killed: the dead are found, the living are left alone.

SEGEM_FLOW_KILLS is the number of kills of each kind, SEGEM_HEALTHY_RUNS that of runs that nobody kills.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from flows.launch.lease import Lease
from tests.flows.conftest import ENDS, NAP, RunningService, make_gate
from tests.processes import wait_for

pytestmark = [pytest.mark.server, pytest.mark.slow]

KILLS = int(os.environ.get("SEGEM_FLOW_KILLS", "1"))
HEALTHY = int(os.environ.get("SEGEM_HEALTHY_RUNS", "2"))
LONG = 600.0


@pytest.fixture(scope="module", autouse=True)
def napping(service: RunningService) -> None:
    """Deploy the flow that sleeps, once at a time: a slot that is lost stops all that follows."""
    service.deploy_napping()


def lease_of(service: RunningService, flow_run: str) -> Lease:
    return Lease(service.service.leases / f"{flow_run}.lease")


def worker_of(service: RunningService) -> psutil.Process | None:
    children = psutil.Process(service.process.pid).children()
    return next((child for child in children if "flows.launch.worker" in child.cmdline()), None)


def start_until(service: RunningService, moment: str) -> str:
    """Start a run of which a process is there, and return it when it is running, or held while it is still pending."""
    for _ in range(10):
        flow_run = service.start(NAP, seconds=LONG)
        if moment == "running":
            service.wait(flow_run, "RUNNING")
            return flow_run
        lease = lease_of(service, flow_run)
        wait_for(lambda lease=lease: lease.process() is not None, 240, service.service.worker_log)  # type: ignore[misc]
        os.kill(lease.process().pid, signal.SIGSTOP)
        if service.state(flow_run) == "PENDING":
            return flow_run
        # This machine was busy, and the run was sooner.
        os.kill(lease.process().pid, signal.SIGKILL)
        service.wait(flow_run, *ENDS)
    raise AssertionError("no run was found pending")


def kill_worker(service: RunningService) -> None:
    worker = worker_of(service)
    assert worker is not None
    worker.kill()


def history(service: RunningService, flow_run: str) -> list[str]:
    states = service.api("GET", f"/flow_run_states/?flow_run_id={flow_run}")
    return [state["type"] for state in sorted(states, key=lambda one: one["timestamp"])]


@pytest.mark.parametrize("moment", ["pending", "running"])
@pytest.mark.parametrize("victim", ["flow", "flow and worker"])
def test_a_killed_run_is_crashed_and_the_next_one_starts(service: RunningService, moment: str, victim: str) -> None:
    for _ in range(KILLS):
        flow_run = start_until(service, moment)
        process = lease_of(service, flow_run).process()
        if victim == "flow and worker":
            kill_worker(service)
        os.kill(process.pid, signal.SIGKILL)
        service.wait(flow_run, *ENDS)
        assert service.state(flow_run) == "CRASHED"
        lease = lease_of(service, flow_run)
        wait_for(lambda lease=lease: lease.is_closed() or not lease.path.exists(), 120)  # type: ignore[misc]
        tasks = service.api("POST", "/task_runs/filter", {"flow_runs": {"id": {"any_": [flow_run]}}})
        assert {one["state_type"] for one in tasks} <= {"CRASHED"}


def test_a_worker_killed_as_it_picks_a_run_up_leaves_none_behind(service: RunningService) -> None:
    for _ in range(KILLS):
        flow_run = service.start(NAP, seconds=0)
        lease = lease_of(service, flow_run)
        wait_for(lambda lease=lease: lease.holders() != [], 240, service.service.worker_log)  # type: ignore[misc]
        kill_worker(service)
        # Its process had begun, and ends well; or it had not, and never will.
        service.wait(flow_run, "COMPLETED", "CRASHED")


def test_a_run_outlives_its_worker(service: RunningService, tmp_path: Path) -> None:
    gate, said = make_gate(tmp_path), "the worker ended with code -9 and is started again"
    flow_run, before = service.start(NAP, gate=str(gate)), service.log.read_text().count(said)
    service.wait(flow_run, "RUNNING")
    kill_worker(service)
    wait_for(lambda: service.log.read_text().count(said) > before, 60, service.log)
    gate.unlink()
    service.wait(flow_run, *ENDS)
    assert service.state(flow_run) == "COMPLETED"
    assert "CRASHED" not in history(service, flow_run)


def test_a_run_that_is_cancelled_when_its_worker_is_gone_is_stopped(service: RunningService) -> None:
    flow_run = service.start(NAP, seconds=LONG, restarts=3)
    service.wait(flow_run, "RUNNING")
    process = lease_of(service, flow_run).process()
    kill_worker(service)
    service.api("POST", f"/flow_runs/{flow_run}/set_state", {"state": {"type": "CANCELLING"}, "force": True})
    service.wait(flow_run, *ENDS)
    assert not process.lives()
    service.wait(flow_run, "CANCELLED")


def test_a_dead_run_that_asks_for_it_is_started_again(service: RunningService, tmp_path: Path) -> None:
    gate = make_gate(tmp_path)
    flow_run = service.start(NAP, gate=str(gate), restarts=1)
    service.wait(flow_run, "RUNNING")
    os.kill(lease_of(service, flow_run).process().pid, signal.SIGKILL)
    service.wait(flow_run, "CRASHED")
    gate.unlink()

    wait_for(lambda: service.runs_in_place_of(flow_run) == ["COMPLETED"], 240, service.service.flows_log)


def test_runs_that_nobody_kills_are_never_called_dead(service: RunningService) -> None:
    runs = [service.start(NAP, seconds=0.1) for _ in range(HEALTHY)]
    for flow_run in runs:
        service.wait(flow_run, *ENDS, seconds=240 + 30 * HEALTHY)
    assert {tuple(history(service, one))[-1] for one in runs} == {"COMPLETED"}
    assert not [one for one in runs if "CRASHED" in history(service, one)]
