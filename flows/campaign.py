"""The main job: every volume of a manifest through every step, then one report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed

from flows.baseline import baseline_step
from flows.ingest import ingest_step
from flows.links import RUN_LABEL, is_watched
from flows.notices import told_when_red
from flows.pages import label_run, show_bar
from flows.report import Scored, publish, report_step, score_step, show_scores, show_status
from flows.segment import segment_step
from flows.side_by_side import carry_out
from segem.config import ExecutionConfig
from segem.errors import IncompleteError
from segem.progress import tell
from segem.stages.campaign import (
    Campaign,
    await_review,
    describe_failure,
    hold_run,
    open_board,
    open_campaign,
    place_steps,
    record_failure,
    record_volumes,
)
from segem.stages.side_by_side import Course, StepName
from segem.stages.status import StatusBoard

DEFAULT_EXECUTION = ExecutionConfig()
PROGRESS = "campaign-progress"


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
    restarts: int = 0,  # noqa: ARG001 - for the reaper of the service, which reads it from the parameters of the run
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
    restarts : int
        How often the service starts the campaign again when its process died; finished blocks are kept.

    Raises
    ------
    IncompleteError
        When a volume failed; the message names each one with its reason.
    WorkspaceError
        When another campaign works on the same run.
    SegemError
        When nothing could start: something is wrong with the manifest, the model or the workspace.
    """
    with told_when_red(workspace, run or manifest.stem) as told:
        job = open_campaign(manifest, run, workspace, data_root, replace=replace)
        # By the name that the run has now, so that who is told finds it.
        told.name = job.run
        if run is None and is_watched():
            # The name was made of today's date: who starts the campaign again may do so tomorrow.
            label_run(RUN_LABEL, job.run)
        return _take_campaign(job, execution)


def _take_campaign(job: Campaign, execution: ExecutionConfig) -> State[CampaignOutcome]:
    # All volumes are recorded before the first one starts, so that one which is never reached is noticed.
    with hold_run(job), open_board(job, execution) as board:
        record_volumes(job)
        failed, scored = _find_all_membranes(job, execution, board)
        try:
            pages = report_step(job.run, job.workspace.root, scored)
            publish(job.run, pages)
            # Scoring reads the results back from disk, so it may find damage that no step has noticed. Volumes of
            # another manifest, which the run may hold too, are no business of this campaign.
            found = {name: why for name, why in (pages.failed | failed).items() if name in job.volumes}
            board.fail(found)
        except Exception:
            # Without a report too, the volumes that failed are the cause to name first.
            _raise_if_any(failed, job)
            raise
    _raise_if_any(found, job)
    outcome, waits_for = CampaignOutcome(job.run, job.volumes, pages.index), await_review(job)
    if waits_for is None:
        return Completed(data=outcome)
    tell(waits_for)
    return Completed(name="AwaitingReview", message=waits_for, data=outcome)


def _find_all_membranes(job: Campaign, execution: ExecutionConfig, board: StatusBoard) -> tuple[dict[str, str], Scored]:
    """Take every volume through its steps, and return those that failed with the reason, and the scores of others."""
    failed: dict[str, str] = {}
    scored = Scored()
    places, execution = place_steps(job, execution)
    bar = show_bar(PROGRESS, None, 0.0, "Volumes done")

    def note(courses: Sequence[Course], course: Course, error: Exception | None) -> None:
        nonlocal bar
        if course.running:
            board.begin(course.volume, course.ahead[0])
            return
        if error is not None:
            failed[course.volume] = describe_failure(error)
            get_run_logger().error("volume %s failed: %s", course.volume, failed[course.volume], exc_info=error)
            record_failure(course.volume, job.run, failed[course.volume], job.workspace)
        board.end(course.volume, failed.get(course.volume))
        show_status(board.status())
        if not course.ahead:
            show_scores(job.run, [one.scores for one in scored.volumes.values()], passing=True)
        bar = show_bar(PROGRESS, bar, sum(not each.ahead for each in courses) / len(courses), "Volumes done")

    courses = [Course(volume.name, volume.priority) for volume in job.manifest.volumes]
    carry_out(courses, places, lambda volume, step: _take_step(step, volume, job, execution, scored), note)
    return failed, scored


def _take_step(step: StepName, name: str, job: Campaign, execution: ExecutionConfig, scored: Scored) -> None:
    workspace, manifest = job.workspace.root, job.manifest
    match step:
        case "ingest":
            (volume,) = (volume for volume in manifest.volumes if volume.name == name)
            ingest_step(volume.ingest_config(), workspace, job.replace)
        case "baseline":
            baseline_step(name, job.run, manifest.baseline, execution, workspace, job.replace)
        case "segment":
            segment_step(name, job.run, manifest.segment_config(), execution, workspace, job.replace)
        case "score":
            score_step(name, job.run, workspace, scored)


def _raise_if_any(failed: dict[str, str], job: Campaign) -> None:
    if failed:
        raise IncompleteError(
            f"{len(failed)} of {len(job.manifest.volumes)} volumes failed",
            where=job.run,
            found="; ".join(f"{name} ({reason})" for name, reason in failed.items()),
            fix=f"fix what is named and repeat with --run {job.run}; what is finished is kept",
        )
