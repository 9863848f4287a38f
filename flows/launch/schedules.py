"""Schedules of a workspace, for people who do not know Prefect; kept by Prefect's server, whether it runs or not."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from flows.launch.history import serve_history
from flows.launch.service import Service
from segem.config.service import ScheduleConfig
from segem.errors import ConfigError, ServerError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import DeploymentSchedule, FlowRun
    from prefect.client.schemas.responses import DeploymentResponse
    from prefect.client.schemas.schedules import CronSchedule

CAMPAIGN, INBOX = "campaign/campaign", "campaign-on-new-data/campaign-on-new-data"
STARTING_SECONDS = 60.0
"""How long a service that has just been started may take to answer, and to enter its deployments."""

T = TypeVar("T")


@dataclass(frozen=True)
class Scheduled:
    """A schedule, and what it starts."""

    name: str
    cron: str
    timezone: str
    active: bool
    deployment: str
    manifest: str | None
    inbox: str | None
    next: str | None
    """When it fires next, in its time zone."""


@contextmanager
def connect(service: Service) -> Iterator[SyncPrefectClient]:
    """Return a client of the service's server; where it does not run, it is served for as long as the body takes.

    Raises
    ------
    ServerError
        When the service runs and does not answer.
    """
    service.prepare()
    if service.running() is None:
        with service.hold(), serve_history(service, passing=True) as (_, client):
            yield client
        return
    os.environ.update(service.client_environment())
    from prefect.client.orchestration import get_client
    from prefect.context import refresh_global_settings_context

    refresh_global_settings_context()
    with get_client(sync_client=True) as client:
        _ask(client.api_version, "the service runs, but does not answer", service)
        yield client


def _ask(question: Callable[[], T], silence: str, service: Service) -> T:
    """Return an answer of the service, which may still be starting."""
    ends = time.monotonic() + STARTING_SECONDS
    while True:
        try:
            return question()
        except Exception as error:
            if time.monotonic() > ends or service.running() is None:
                raise ServerError(
                    silence,
                    where=service.address(),
                    found=str(error) or type(error).__name__,
                    fix="stop the service and start it again; its logs are in the folder .service of the workspace",
                ) from error
        time.sleep(0.5)


def add_schedule(service: Service, name: str, parameters: dict[str, Any], config: ScheduleConfig) -> Scheduled:
    """Add a schedule.

    Parameters
    ----------
    service : Service
        Of the workspace that is worked in.
    name : str
        What the schedule is called by; characters other than letters and digits become hyphens.
    parameters : dict
        Of the flow, as JSON has them; with ``config``, that of an inbox, the flow is the campaign on new data.
    config : ScheduleConfig
        When it fires.

    Returns
    -------
    Scheduled

    Raises
    ------
    ConfigError
        When there is a schedule of this name, or the times cannot be read.
    """
    from prefect.client.schemas.actions import DeploymentScheduleCreate

    slug = slug_of(name)
    when = _read_times(config)
    with connect(service) as client:
        known = _find(client)
        if any(slug_of(_name_of(one)) == slug for _, one in known):
            raise ConfigError(
                "there is a schedule of this name",
                where=slug,
                fix=f"remove it first (segem schedule remove {slug}), or give another --name",
            )
        flow = INBOX if "config" in parameters else CAMPAIGN
        deployment = _ask(lambda: client.read_deployment_by_name(flow), f"the service does not know {flow}", service)
        wanted = DeploymentScheduleCreate(schedule=when, parameters=parameters, slug=slug)
        client.create_deployment_schedules(deployment.id, [wanted])
        return _describe(*_one(client, slug))


def list_schedules(service: Service) -> list[Scheduled]:
    """Return all schedules, also those that were made by Prefect's own means."""
    with connect(service) as client:
        return [_describe(deployment, one) for deployment, one in _find(client)]


def switch_schedule(service: Service, name: str, *, active: bool) -> Scheduled:
    """Pause or resume a schedule.

    Raises
    ------
    ConfigError
        When there is none of this name.
    """
    with connect(service) as client:
        deployment, found = _one(client, slug_of(name))
        with _keep_others(client, deployment, found):
            # With its parameters: the server forgets those that it is not told again.
            client.update_deployment_schedule(deployment.id, found.id, active=active, parameters=found.parameters)
        return _describe(*_one(client, slug_of(name)))


def remove_schedule(service: Service, name: str) -> Scheduled:
    """Remove a schedule, and the runs that it has planned.

    Raises
    ------
    ConfigError
        When there is none of this name.
    """
    with connect(service) as client:
        deployment, found = _one(client, slug_of(name))
        with _keep_others(client, deployment, found):
            # By itself: a deployment that is registered with an empty list of schedules keeps those that it has.
            client.delete_deployment_schedule(deployment.id, found.id)
        # The server does not remove those that were kept when another schedule was removed.
        for run in _waiting(client, deployment, datetime.now(UTC)):
            if _is_of(run, found):
                client.delete_flow_run(run.id)
        return _describe(deployment, found)


def slug_of(name: str) -> str:
    """Return a name as schedules have them.

    Examples
    --------
    >>> slug_of("ISBI vnc_2")
    'isbi-vnc-2'
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _read_times(config: ScheduleConfig) -> CronSchedule:
    """Return the times of a schedule; refuse those that never come: Prefect would plan nothing of their flow."""
    from prefect.client.schemas.schedules import CronSchedule

    where = f"--cron '{config.cron}' --timezone {config.timezone}"
    try:
        when = CronSchedule(cron=config.cron, timezone=config.timezone)
    except ValidationError as error:
        raise ConfigError(
            "these times cannot be read",
            where=where,
            found="; ".join(one["msg"].removeprefix("Value error, ") for one in error.errors()),
            fix="give minute, hour, day, month and weekday, as in --cron '0 2 * * *' --timezone Europe/Berlin",
        ) from error
    if _next(config.cron, config.timezone) is None:
        raise ConfigError(
            "these times never come",
            where=where,
            fix="give a day that the month has, as in --cron '0 2 28 2 *'",
        )
    return when


def _find(client: SyncPrefectClient) -> list[tuple[DeploymentResponse, DeploymentSchedule]]:
    return [(deployment, one) for deployment in client.read_deployments() for one in deployment.schedules]


def _one(client: SyncPrefectClient, slug: str) -> tuple[DeploymentResponse, DeploymentSchedule]:
    known = _find(client)
    for deployment, one in known:
        if slug_of(_name_of(one)) == slug:
            return deployment, one
    raise ConfigError(
        "there is no schedule of this name",
        where=slug,
        found=", ".join(sorted(_name_of(one) for _, one in known)) or "none at all",
        fix="see `segem schedule list`",
    )


def _name_of(one: DeploymentSchedule) -> str:
    """Return what a schedule is listed by; one that was made on Prefect's page may have no name."""
    return one.slug or str(one.id)


@contextmanager
def _keep_others(client: SyncPrefectClient, deployment: DeploymentResponse, but: DeploymentSchedule) -> Iterator[None]:
    """Let a deployment keep what its other schedules have planned, while one of them is changed.

    The server forgets all that the deployment has planned, even what is due and waits for its turn, and plans anew
    within a minute, from then on: what waits, or is due within that minute, would never run.
    """
    from prefect.states import Scheduled as Due

    since = datetime.now(UTC)
    waiting = [run for run in _waiting(client, deployment, since) if not _is_of(run, but)]
    yield
    for run in waiting:
        client.create_flow_run_from_deployment(
            deployment.id,
            parameters=run.parameters,
            state=Due(scheduled_time=run.next_scheduled_start_time),
            name=run.name,
            tags=run.tags,
            # By which a server plans each time once: what it has kept is not made a second time.
            idempotency_key=run.idempotency_key,
        )
    client.request(
        "POST", "/deployments/{id}/schedule", {}, {"id": deployment.id}, json={"start_time": since.isoformat()}
    ).raise_for_status()


def _waiting(client: SyncPrefectClient, deployment: DeploymentResponse, now: datetime) -> list[FlowRun]:
    """Return what a deployment's schedules have planned, is due, and was not started yet."""
    from prefect.client.schemas import filters
    from prefect.client.schemas.objects import StateType

    found = client.read_flow_runs(
        flow_run_filter=filters.FlowRunFilter(
            deployment_id=filters.FlowRunFilterDeploymentId(any_=[deployment.id]),
            state=filters.FlowRunFilterState(type=filters.FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
            next_scheduled_start_time=filters.FlowRunFilterNextScheduledStartTime(before_=now),
        )
    )
    return [run for run in found if (run.idempotency_key or "").startswith("scheduled ")]


def _is_of(run: FlowRun, schedule: DeploymentSchedule) -> bool:
    """Return whether a schedule has planned a run: the server's key is `scheduled DEPLOYMENT SCHEDULE TIME`."""
    return str(schedule.id) in str(run.idempotency_key).split()


def _describe(deployment: DeploymentResponse, one: DeploymentSchedule) -> Scheduled:
    from prefect.client.schemas.schedules import CronSchedule

    cron = one.schedule.cron if isinstance(one.schedule, CronSchedule) else None
    zone = getattr(one.schedule, "timezone", None) or "UTC"
    active = one.active and not deployment.paused
    return Scheduled(
        name=_name_of(one),
        cron=cron or f"every {getattr(one.schedule, 'interval', 'now and then')}",
        timezone=zone,
        active=active,
        deployment=deployment.name,
        manifest=one.parameters.get("manifest"),
        inbox=(one.parameters.get("config") or {}).get("inbox"),
        next=_next(cron, zone) if active and cron else None,
    )


def _next(cron: str, zone: str) -> str | None:
    from prefect.server.schemas.schedules import CronSchedule

    try:
        dates = asyncio.run(CronSchedule(cron=cron, timezone=zone).get_dates(1, start=datetime.now(ZoneInfo(zone))))
    except ValueError:  # a 30th of February, which Prefect's page takes: it is listed all the same, so as to be removed
        return None
    return dates[0].isoformat(sep=" ", timespec="minutes") if dates else None
