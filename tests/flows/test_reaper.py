"""What the reaper does to flow runs, on a real server: the dead are closed, all others are left alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import flow, task
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import ConcurrencyOptions, FlowRun, State, StateType
from prefect.states import Cancelling, Completed, Crashed, Failed, Paused, Pending, Running, Scheduled

from flows.launch.lease import Lease, join, leases_in, take
from flows.launch.reaper import ATTEMPT, LATE_SECONDS, reap
from flows.links import RUN_LABEL

pytestmark = pytest.mark.usefixtures("prefect_server")


@flow
def sleeper(restarts: int = 0) -> None:
    """Do nothing: only its runs are looked at."""


@task
def nap() -> None:
    """Do nothing either."""


@pytest.fixture
def client() -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as opened:
        yield opened


@pytest.fixture
def deployment(client: SyncPrefectClient) -> UUID:
    """Return a deployment that runs once at a time."""
    return client.create_deployment(
        client.create_flow_from_name(sleeper.name),
        f"sleeper-{uuid4()}",
        concurrency_limit=1,
        concurrency_options=ConcurrencyOptions(collision_strategy="ENQUEUE"),
    )


def begin(client: SyncPrefectClient, deployment: UUID, *states: State[Any], **parameters: object) -> FlowRun:
    run = client.create_flow_run_from_deployment(deployment, parameters=parameters)
    for state in states:
        client.set_flow_run_state(run.id, state)
    return client.read_flow_run(run.id)


def state_of(client: SyncPrefectClient, run: FlowRun) -> StateType:
    return client.read_flow_run(run.id).state.type


def runs_beside(client: SyncPrefectClient, run: FlowRun) -> list[str]:
    runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(not_any_=[run.id])))
    return [str(one.id) for one in runs if one.deployment_id == run.deployment_id]


@contextmanager
def held(folder: Path, run: FlowRun) -> Iterator[None]:
    descriptor = take(folder, str(run.id))
    try:
        yield
    finally:
        os.close(descriptor)


def make_older(folder: Path, seconds: float) -> None:
    for lease in leases_in(folder):
        taken = lease.path.stat().st_mtime - seconds
        os.utime(lease.path, (taken, taken))


@pytest.mark.parametrize("states", [(Pending(),), (Pending(), Running())], ids=["pending", "running"])
def test_a_run_whose_lease_expired_is_crashed_and_its_slot_comes_back(
    client: SyncPrefectClient, deployment: UUID, tmp_path: Path, states: tuple[State[Any], ...]
) -> None:
    run = begin(client, deployment, *states)
    task_run = client.create_task_run(nap, run.id, "0", state=Running())
    with held(tmp_path, run):
        assert reap(tmp_path, client) == []
        assert state_of(client, run) == states[-1].type
        waiting = begin(client, deployment, Pending())
        assert state_of(client, waiting) == StateType.SCHEDULED, "the slot is taken"

    (found,) = reap(tmp_path, client)
    assert (found.flow_run, found.stopped, found.again) == (str(run.id), False, None)
    assert state_of(client, run) == StateType.CRASHED
    assert client.read_task_run(task_run.id).state.type == StateType.CRASHED
    client.set_flow_run_state(waiting.id, Pending())
    assert state_of(client, waiting) == StateType.PENDING, "the slot is free"
    assert reap(tmp_path, client) == []


def test_a_run_that_nobody_picked_up_is_never_dead(client: SyncPrefectClient, deployment: UUID, tmp_path: Path) -> None:
    run = begin(client, deployment, Pending())
    assert reap(tmp_path, client) == []
    assert state_of(client, run) == StateType.PENDING


@pytest.mark.parametrize(
    "end",
    [Completed(), Failed(), Completed(name="KeptAside"), Scheduled(), Paused(timeout_seconds=3600)],
    ids=["completed", "failed", "of a name of its own", "waiting again", "paused"],
)
def test_what_is_over_or_waits_is_not_touched(
    client: SyncPrefectClient, deployment: UUID, tmp_path: Path, end: State[Any]
) -> None:
    run = begin(client, deployment, Pending(), Running())
    client.set_flow_run_state(run.id, end, force=True)
    before = client.read_flow_run(run.id).state
    with held(tmp_path, run):
        pass
    make_older(tmp_path, LATE_SECONDS)
    assert reap(tmp_path, client) == []
    assert client.read_flow_run(run.id).state.id == before.id
    assert leases_in(tmp_path) == [], "its lease is of no use any more"


def test_a_worker_that_is_killed_while_it_tells_the_server_leaves_no_run_pending(
    client: SyncPrefectClient, deployment: UUID, tmp_path: Path
) -> None:
    run = begin(client, deployment)
    with held(tmp_path, run):
        pass
    assert reap(tmp_path, client) == [], "its request may be on the way"
    client.set_flow_run_state(run.id, Pending())
    (found,) = reap(tmp_path, client)
    assert found.flow_run == str(run.id)
    assert state_of(client, run) == StateType.CRASHED


@pytest.mark.parametrize("last", [Pending(), Running()], ids=["pending", "running"])
@pytest.mark.parametrize("stopped", [False, True], ids=["killed", "stopped"])
def test_a_request_that_arrives_after_its_process_was_found_dead_opens_no_run_for_good(
    client: SyncPrefectClient, deployment: UUID, tmp_path: Path, last: State[Any], stopped: bool
) -> None:
    run = begin(client, deployment, Pending(), restarts=1)
    if stopped:
        client.set_flow_run_state(run.id, Cancelling(), force=True)
    with held(tmp_path, run):
        pass
    (found,) = reap(tmp_path, client)
    end = state_of(client, run)
    assert end == (StateType.CANCELLED if stopped else StateType.CRASHED)
    client.set_flow_run_state(run.id, last, force=True)
    task_run = client.create_task_run(nap, run.id, "0", state=Running())
    assert join(leases_in(tmp_path)[0].path) is None, "nobody may work on what was closed"

    assert reap(tmp_path, client) == [], "it is told, and started again, once"
    assert state_of(client, run) == end
    assert client.read_task_run(task_run.id).state.type == StateType.CRASHED
    assert runs_beside(client, run) == [found.again] * (not stopped)
    make_older(tmp_path, LATE_SECONDS)
    client.set_flow_run_state(run.id, last, force=True)
    assert reap(tmp_path, client) == []
    assert state_of(client, run) == end, "it is looked at once more when the time is over"
    assert leases_in(tmp_path) == []


def test_a_closed_run_that_somebody_starts_again_is_one_like_any_other(
    client: SyncPrefectClient, deployment: UUID, tmp_path: Path
) -> None:
    run = begin(client, deployment, Pending(), Running())
    for _ in range(2):
        with held(tmp_path, run):
            assert reap(tmp_path, client) == []
            assert state_of(client, run) == StateType.RUNNING
        (found,) = reap(tmp_path, client)
        assert (found.flow_run, state_of(client, run)) == (str(run.id), StateType.CRASHED)
        again: tuple[State[Any], ...] = (Scheduled(), Pending(), Running())
        for state in again:
            assert reap(tmp_path, client) == []
            client.set_flow_run_state(run.id, state)


@pytest.mark.parametrize("ends_by_itself", [False, True], ids=["killed", "told to stop"])
def test_a_run_that_was_being_cancelled_is_cancelled(
    client: SyncPrefectClient, deployment: UUID, tmp_path: Path, ends_by_itself: bool
) -> None:
    run = begin(client, deployment, Pending(), Running(), restarts=3)
    client.set_flow_run_state(run.id, Cancelling(), force=True)
    with held(tmp_path, run):
        assert reap(tmp_path, client) == []
        assert state_of(client, run) == StateType.CANCELLING
    if ends_by_itself:
        client.set_flow_run_state(run.id, Crashed(message="terminated"), force=True)
    (found,) = reap(tmp_path, client)
    assert state_of(client, run) == StateType.CANCELLED
    assert found.stopped
    assert found.again is None, "what somebody has stopped is not started again"


def test_a_dead_run_is_started_again_as_often_as_it_asks_for(
    client: SyncPrefectClient, deployment: UUID, tmp_path: Path
) -> None:
    run = begin(client, deployment, Pending(), Running(), restarts=2)
    seen = [run.id]
    for attempt in (2, 3):
        with held(tmp_path, run):
            pass
        (found,) = reap(tmp_path, client)
        run = client.read_flow_run(UUID(found.again))
        assert run.parameters == {"restarts": 2}
        assert run.labels[ATTEMPT] == attempt
        assert run.id not in seen
        seen.append(run.id)
        client.set_flow_run_state(run.id, Pending())
        client.set_flow_run_state(run.id, Running())
    with held(tmp_path, run):
        pass
    (found,) = reap(tmp_path, client)
    assert found.again is None
    assert {state_of(client, client.read_flow_run(one)) for one in seen} == {StateType.CRASHED}


def test_a_run_that_was_named_by_the_date_keeps_its_name(
    client: SyncPrefectClient, deployment: UUID, tmp_path: Path
) -> None:
    run = begin(client, deployment, Pending(), Running(), restarts=1)
    client.update_flow_run_labels(run.id, {RUN_LABEL: "tiny-20261128"})
    with held(tmp_path, run):
        pass
    (found,) = reap(tmp_path, client)
    assert client.read_flow_run(UUID(found.again)).parameters == {"restarts": 1, "run": "tiny-20261128"}


def test_a_run_that_cannot_be_looked_at_or_started_again_keeps_no_other_waiting(
    client: SyncPrefectClient, deployment: UUID, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Without its deployment a run cannot be started again; where that had slots, the server does not even end it.
    free = client.create_deployment(client.create_flow_from_name(sleeper.name), f"sleeper-{uuid4()}")
    limited = client.create_deployment(
        client.create_flow_from_name(sleeper.name), f"sleeper-{uuid4()}", concurrency_limit=1
    )
    runs = [begin(client, one, Pending(), Running(), restarts=1, run="monday") for one in (limited, free, deployment)]
    for run in runs:
        with held(tmp_path, run):
            pass
    for gone in (limited, free):
        client.delete_deployment(gone)
    found = {one.flow_run: one for one in reap(tmp_path, client)}
    stuck, lost, other = (str(run.id) for run in runs)
    assert set(found) == {lost, other}
    assert (found[lost].again, found[lost].run) == (None, "monday")
    assert found[other].again is not None
    assert f"flow run {stuck} could not be looked at" in caplog.text


def test_a_reaper_that_was_killed_halfway_starts_nothing_twice(
    client: SyncPrefectClient, deployment: UUID, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin(client, deployment, Pending(), Running(), restarts=1)
    with held(tmp_path, run):
        pass
    with monkeypatch.context() as killed:

        def die(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        killed.setattr(Lease, "close", die)
        with pytest.raises(KeyboardInterrupt):
            reap(tmp_path, client)
    assert state_of(client, run) == StateType.CRASHED
    (found,) = reap(tmp_path, client)
    assert runs_beside(client, run) == [found.again]


def test_what_the_worker_has_found_dead_is_started_again_too(
    client: SyncPrefectClient, deployment: UUID, tmp_path: Path
) -> None:
    run = begin(client, deployment, Pending(), Running(), restarts=1)
    task_run = client.create_task_run(nap, run.id, "0", state=Running())
    with held(tmp_path, run):
        pass
    client.set_flow_run_state(run.id, Crashed(message="exit code -9"), force=True)
    (found,) = reap(tmp_path, client)
    assert found.again is not None
    assert client.read_task_run(task_run.id).state.type == StateType.CRASHED
    assert client.read_flow_run(run.id).state.message == "exit code -9"


def test_a_run_that_was_deleted_leaves_nothing(client: SyncPrefectClient, tmp_path: Path) -> None:
    os.close(take(tmp_path, str(uuid4())))
    assert reap(tmp_path, client) == []
    assert leases_in(tmp_path) == []
