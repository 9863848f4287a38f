"""Registers the deployments with the service's own server: no clone and no ``prefect deploy`` are needed.

The service runs it as ``python -m flows.launch.register WORKSPACE``, in a process of its own, since it loads every
flow and with them what computes.
"""

from __future__ import annotations

import inspect
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import ConcurrencyOptions
from prefect.client.schemas.schedules import CronSchedule
from prefect.events import DeploymentTriggerTypes
from prefect.exceptions import ObjectNotFound
from prefect.utilities.callables import parameter_schema
from prefect.workers.process import ProcessWorker
from pydantic import TypeAdapter

import segem
from flows.baseline import baseline_volume
from flows.campaign import campaign
from flows.cells import cells_of_volume
from flows.inbox import campaign_on_new_data
from flows.ingest import ingest_volume
from flows.launch.deployments import POOL, read_deployments
from flows.refine import refine_volume
from flows.report import report_run
from flows.retrain import retrain
from flows.reviewed import retrain_reviewed
from flows.segment import segment_volume
from flows.verify import verify_weekly
from segem.config.service import local_zone

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

FLOWS: dict[str, Flow[..., Any]] = {
    "flows/baseline.py:baseline_volume": baseline_volume,
    "flows/campaign.py:campaign": campaign,
    "flows/cells.py:cells_of_volume": cells_of_volume,
    "flows/inbox.py:campaign_on_new_data": campaign_on_new_data,
    "flows/ingest.py:ingest_volume": ingest_volume,
    "flows/refine.py:refine_volume": refine_volume,
    "flows/report.py:report_run": report_run,
    "flows/retrain.py:retrain": retrain,
    "flows/reviewed.py:retrain_reviewed": retrain_reviewed,
    "flows/segment.py:segment_volume": segment_volume,
    "flows/verify.py:verify_weekly": verify_weekly,
}
"""The flow of each entry point."""


def register(workspace: Path) -> None:
    """Make the work pool and the deployments, or bring them up to date; schedules stay as they are.

    Parameters
    ----------
    workspace : Path
        Root of the workspace, absolute: what deployments work in unless they are told otherwise.
    """
    with get_client(sync_client=True) as client:
        _register_pool(client, workspace)
        for described in read_deployments():
            _register_deployment(client, described, workspace)


def _register_pool(client: SyncPrefectClient, workspace: Path) -> None:
    template = ProcessWorker.get_default_base_job_template()
    variables = template["variables"]["properties"]
    # Of the pool, not of each deployment: whatever is run by this pool must hold its lease.
    variables["command"]["default"] = shlex.join([sys.executable, "-m", "flows.launch.launcher"])
    variables["working_dir"]["default"] = str(workspace)
    try:
        client.read_work_pool(POOL)
        client.update_work_pool(POOL, WorkPoolUpdate(base_job_template=template, is_paused=False))
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=POOL, type=ProcessWorker.type, base_job_template=template))


def _register_deployment(client: SyncPrefectClient, described: Mapping[str, Any], workspace: Path) -> None:
    flow = FLOWS[described["entrypoint"]]
    flow_id = client.create_flow_from_name(flow.name)
    limit = described["concurrency_limit"]
    deployment_id = client.create_deployment(
        flow_id,
        described["name"],
        version=segem.__version__,
        description=described["description"],
        tags=described["tags"],
        # By module, so that it is found wherever segem is installed.
        entrypoint=f"{flow.fn.__module__}:{flow.fn.__name__}",
        parameters={"workspace": str(workspace)},
        parameter_openapi_schema=describe_parameters(flow),
        enforce_parameter_schema=True,
        work_pool_name=POOL,
        work_queue_name=described["work_pool"]["work_queue_name"],
        job_variables=described["work_pool"]["job_variables"],
        concurrency_limit=limit["limit"],
        concurrency_options=ConcurrencyOptions(collision_strategy=limit["collision_strategy"]),
        schedules=_schedules_of(client, flow.name, described),
    )
    # Anew, since a server has no other way to change them.
    client.delete_resource_owned_automations(f"prefect.deployment.{deployment_id}")
    for one in described.get("triggers", ()):
        trigger = TypeAdapter[DeploymentTriggerTypes](DeploymentTriggerTypes).validate_python(one)
        trigger.name = trigger.name or f"{described['name']} by an event"
        trigger.set_deployment_id(deployment_id)
        client.create_automation(trigger.as_automation())


def describe_parameters(flow: Flow[..., Any]) -> dict[str, Any]:
    """Return the schema of a flow's parameters, from which Prefect's page makes a form, with what its docstring says.

    Parameters
    ----------
    flow : Flow
        With a docstring in numpydoc's format, whose descriptions Prefect by itself does not find.
    """
    schema: dict[str, Any] = parameter_schema(flow).model_dump_for_openapi()
    text = inspect.getdoc(flow.fn) or ""
    section = text.partition("Parameters\n----------\n")[2].partition("\n\n")[0]
    for names, described in re.findall(r"^(\w[\w, ]*) : .*\n((?: +.*(?:\n|\Z))+)", section, re.MULTILINE):
        for name in names.split(", "):
            schema["properties"][name].setdefault("description", " ".join(described.split()))
    return schema


def _schedules_of(client: SyncPrefectClient, flow: str, described: Mapping[str, Any]) -> list[DeploymentScheduleCreate]:
    """Return the schedules that a deployment has, because a server drops those that it is not given again."""
    try:
        deployment = client.read_deployment_by_name(f"{flow}/{described['name']}")
    except ObjectNotFound:
        # The nightly campaign of the file is an example; data that go bad unseen are every workspace's business.
        return [
            DeploymentScheduleCreate(
                schedule=CronSchedule(cron=one["cron"], timezone=local_zone()), active=True, slug=one["slug"]
            )
            for one in described.get("schedules", ())
            if flow == verify_weekly.name
        ]
    return [
        DeploymentScheduleCreate(schedule=one.schedule, active=one.active, parameters=one.parameters, slug=one.slug)
        for one in deployment.schedules
    ]


if __name__ == "__main__":
    register(Path(sys.argv[1]))
