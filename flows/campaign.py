"""The main job: every volume of a manifest through every step, then one report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from uuid import UUID

from prefect import flow, get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed

from flows.baseline import baseline_step
from flows.ingest import ingest_step
from flows.report import publish, report_step
from flows.segment import segment_step
from segem.config import ExecutionConfig, VolumeEntry
from segem.errors import IncompleteError
from segem.progress import tell
from segem.stages.campaign import (
    Campaign,
    await_review,
    describe_failure,
    hold_run,
    open_campaign,
    record_failure,
    record_volumes,
)

DEFAULT_EXECUTION = ExecutionConfig()


@dataclass(frozen=True)
class CampaignOutcome:
    """The results of a campaign."""

    run: str
    volumes: tuple[str, ...]
    report: Path
    """The report's page."""


def _flow_run_name() -> str:
    given = flow_run.parameters
    return str(given["run"] or f"campaign of {Path(given['manifest']).stem}")


@flow(name="campaign", flow_run_name=_flow_run_name)
def campaign(
    manifest: Path,
    run: str | None = None,
    workspace: Path = Path("workspace"),
    data_root: Path | None = None,
    execution: ExecutionConfig = DEFAULT_EXECUTION,
    replace: bool = False,
) -> State[CampaignOutcome]:
    """Find the membranes of every volume of a manifest, and report on them.

    A volume that fails does not stop the others; the report names it and the flow fails in the end. Where the manifest
    asks for a review, the flow ends in a state of its own, AwaitingReview, until enough is reviewed: nothing is
    suspended, and nothing waits in memory.

    Parameters
    ----------
    manifest : Path
        The YAML file that names the volumes and the model.
    run : str, optional
        Name of the run; the same name resumes. Made from the manifest and the date when absent.
    workspace : Path
        Root of the workspace.
    data_root : Path, optional
        Folder that relative sources count from; the manifest's own when absent.
    execution : ExecutionConfig
        Device, engine, workers, memory.
    replace : bool
        Overwrite results of this run, and volumes of the workspace, that were made with other settings.

    Raises
    ------
    IncompleteError
        When a volume failed; the message names each one with its reason.
    WorkspaceError
        When another campaign works on the same run.
    SegemError
        When nothing could start: something is wrong with the manifest, the model or the workspace.
    """
    job = open_campaign(manifest, run, workspace, data_root, replace=replace)
    # All volumes are recorded before the first one starts, so that one which is never reached is noticed.
    with hold_run(job):
        record_volumes(job)
        failed = _find_all_membranes(job, execution)
        try:
            pages = report_step(job.run, job.workspace.root)
            publish(job.run, pages)
        except Exception:
            # Without a report too, the volumes that failed are the cause to name first.
            _raise_if_any(failed, job)
            raise
    # Scoring reads the results back from disk, so it may find damage that no step has noticed.
    found = pages.failed | failed
    _raise_if_any({name: found[name] for name in job.volumes if name in found}, job)
    outcome, waits_for = CampaignOutcome(job.run, job.volumes, pages.index), await_review(job)
    if waits_for is None:
        return Completed(data=outcome)
    tell(waits_for)
    return Completed(name="AwaitingReview", message=waits_for, data=outcome)


def _find_all_membranes(job: Campaign, execution: ExecutionConfig) -> dict[str, str]:
    """Take every volume through its steps, and return those that failed with the reason."""
    failed: dict[str, str] = {}
    for volume in _with_progress(job.manifest.volumes):
        try:
            _find_membranes(volume, job, execution)
        # Any error at all: one volume must not stop the others.
        except Exception as error:
            failed[volume.name] = describe_failure(error)
            get_run_logger().error("volume %s failed: %s", volume.name, failed[volume.name], exc_info=error)
            record_failure(volume.name, job.run, failed[volume.name], job.workspace)
    return failed


def _find_membranes(volume: VolumeEntry, job: Campaign, execution: ExecutionConfig) -> None:
    workspace = job.workspace.root
    ingest_step(volume.ingest_config(), workspace, job.replace)
    baseline_step(volume.name, job.run, job.manifest.baseline, execution, workspace, job.replace)
    segment_step(volume.name, job.run, job.manifest.segment_config(), execution, workspace, job.replace)


def _with_progress(volumes: Sequence[VolumeEntry]) -> Iterator[VolumeEntry]:
    bar = cast(UUID, create_progress_artifact(0.0, key="campaign-progress", description="Volumes done"))
    for done, volume in enumerate(volumes, start=1):
        yield volume
        update_progress_artifact(bar, 100.0 * done / len(volumes))


def _raise_if_any(failed: dict[str, str], job: Campaign) -> None:
    if failed:
        raise IncompleteError(
            f"{len(failed)} of {len(job.manifest.volumes)} volumes failed",
            where=job.run,
            found="; ".join(f"{name} ({reason})" for name, reason in failed.items()),
            fix=f"fix what is named and repeat with --run {job.run}; what is finished is kept",
        )
