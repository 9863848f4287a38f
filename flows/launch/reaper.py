"""Finds flow runs whose processes are gone, closes them, and starts them again where that was asked for.

It looks at leases alone (`flows.launch.lease`). A run without a lease was never picked up here: it may wait for its
slot, or belong to somebody else, and is never touched.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    TaskRunFilter,
    TaskRunFilterState,
    TaskRunFilterStateType,
)
from prefect.client.schemas.objects import State, StateType
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import Cancelled, Crashed

from flows.launch.lease import Lease, expired, leases_in
from flows.links import RUN_LABEL

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

UNFINISHED = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
RESTARTS = "restarts"
"""Parameter of a flow that says how often a run of it is started again when its process died."""
ATTEMPT, FIRST = "segem.attempt", "segem.first-run"
"""Labels of a run that was started in place of a dead one."""
DIED = "its process ended unexpectedly"
STOPPED = "it was cancelled, and its process has ended"
LATE_SECONDS = 60.0
"""How long a request may still reach the server of a process that is dead by then."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reaped:
    """What was done about one lease that nobody holds."""

    flow_run: str
    name: str
    stopped: bool
    """Whether somebody had cancelled it; if not, it has crashed."""
    again: str | None = None
    """Id of the run that was started in its place."""
    run: str | None = None
    """The run of the workspace that it worked on, where that is known."""


def reap(folder: Path, client: SyncPrefectClient) -> list[Reaped]:
    """Look at every lease once; one that cannot be looked at is logged, and keeps no other from it.

    Parameters
    ----------
    folder : Path
        Where leases lie.
    client : SyncPrefectClient
        Of the server that the runs belong to.

    Returns
    -------
    list of Reaped
        The runs whose processes are gone.
    """
    return list(_reap(folder, client))


def _reap(folder: Path, client: SyncPrefectClient) -> Iterator[Reaped]:
    for lease in leases_in(folder):
        try:
            with expired(lease) as dead:
                if not dead:
                    _help_to_cancel(lease, client)
                    continue
                found = _look_at(lease, client)
        # The server may be busy: there is another look soon, but what was found of others is told now or never.
        except Exception as error:
            logger.warning("flow run %s could not be looked at: %s", lease.flow_run, error)
            continue
        if found is not None:
            yield found


def _look_at(lease: Lease, client: SyncPrefectClient) -> Reaped | None:
    """Close the run of a lease that nobody holds; None where nothing was amiss, or what was amiss is told already."""
    try:
        run = client.read_flow_run(UUID(lease.flow_run))
        state = run.state.type if run.state else None
        closed, late = lease.is_closed(), lease.age_seconds() < LATE_SECONDS
        if closed and state in UNFINISHED:
            # The last request of its process has arrived after all.
            _end(run, client)
        elif not closed and (state in UNFINISHED or state == StateType.CRASHED):
            stopped = _end(run, client)
            again = None if stopped else _start_again(run, client)
            # Last of all: killed before this line, the reaper does the same once more.
            lease.close()
            return Reaped(str(run.id), run.name, stopped, again, _run_of(run))
        # The server may be about to hear that the run is pending or runs, from a process that was killed meanwhile.
        if late and (closed or state == StateType.SCHEDULED):
            return None
    except ObjectNotFound:
        pass  # somebody deleted the run
    lease.path.unlink(missing_ok=True)
    return None


def _end(run: FlowRun, client: SyncPrefectClient) -> bool:
    """Bring a run to its end whose process is gone, and return whether somebody had stopped it."""
    # By its history: a process that is told to stop may have called itself crashed.
    stopped = any(one.type == StateType.CANCELLING for one in client.read_flow_run_states(run.id))
    if stopped or run.state is None or run.state.type in UNFINISHED:
        end: State[Any] = Cancelled(message=STOPPED) if stopped else Crashed(message=DIED)
        client.set_flow_run_state(run.id, end, force=True)
    _close_tasks(run, client)
    return stopped


def _close_tasks(run: FlowRun, client: SyncPrefectClient) -> None:
    unfinished = client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id])),
        task_run_filter=TaskRunFilter(state=TaskRunFilterState(type=TaskRunFilterStateType(any_=UNFINISHED))),
    )
    for task in unfinished:
        client.set_task_run_state(task.id, Crashed(message=DIED), force=True)


def _start_again(run: FlowRun, client: SyncPrefectClient) -> str | None:
    """Start a run in place of a dead one, if its parameters allow another; the ledger knows what is finished."""
    labels = run.labels or {}
    attempt, first = int(labels.get(ATTEMPT, 1)), str(labels.get(FIRST, run.id))
    if run.deployment_id is None or attempt > int(run.parameters.get(RESTARTS) or 0):
        return None
    # Under the name that it had: one that is made of the date would be another after midnight, and begin anew.
    named = {"run": labels[RUN_LABEL]} if RUN_LABEL in labels else {}
    try:
        again = client.create_flow_run_from_deployment(
            run.deployment_id,
            parameters={**run.parameters, **named},
            tags=run.tags,
            # One run for each attempt, however often this is called.
            idempotency_key=f"{first}/{attempt + 1}",
            labels={ATTEMPT: attempt + 1, FIRST: first},
        )
    except PrefectHTTPStatusError as error:
        if not error.response.is_client_error:
            raise
        # The deployment is gone, or takes other parameters since an upgrade: no later look would start it either.
        logger.warning("flow run %s cannot be started again: %s", run.name, error)
        return None
    return str(again.id)


def _run_of(run: FlowRun) -> str | None:
    """Return the run of the workspace that a flow run works on, by what its campaign or its parameters have named."""
    named = (run.labels or {}).get(RUN_LABEL) or run.parameters.get("run")
    return str(named) if named else None


def _help_to_cancel(lease: Lease, client: SyncPrefectClient) -> None:
    """Stop the process of a run that shall be cancelled and whose worker, which would do it, is gone."""
    if lease.worker_lives():
        return
    process = lease.process()
    if process is None:
        return
    try:
        run = client.read_flow_run(UUID(lease.flow_run))
    except ObjectNotFound:
        return
    if run.state is not None and run.state.type == StateType.CANCELLING:
        os.kill(process.pid, signal.SIGTERM)
