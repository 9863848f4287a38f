"""The report of one run, and what of it the Prefect pages show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prefect import flow

from flows.links import link_to_report
from flows.pages import show_link, show_table
from flows.steps import step
from segem.io.workspace import open_workspace
from segem.records.scores import IoU, VolumeScores
from segem.records.status import CampaignStatus
from segem.stages.reporting.evaluate import ScoredVolume, score_volume
from segem.stages.reporting.read import read_report
from segem.stages.reporting.write import ReportResult, report


class Scored:
    """The volumes of a campaign that were scored so far, by name.

    A class of its own, since Prefect searches what it knows, such as a mapping, for tasks to wait for, down to the last
    number of a score.
    """

    def __init__(self) -> None:
        self.volumes: dict[str, ScoredVolume] = {}


@step("score", "score {volume}")
def score_step(volume: str, run: str, workspace: Path, scored: Scored) -> None:
    """Score one volume as soon as it is segmented, while others are worked on."""
    scored.volumes[volume] = score_volume(run, volume, open_workspace(workspace))


@step("report", "report {run}")
def report_step(run: str, workspace: Path, scored: Scored | None = None) -> ReportResult:
    """Write the report of a run, and score those of its volumes that were not scored yet."""
    return report(run, open_workspace(workspace), scored=scored.volumes if scored else None)


@flow(name="report-run", flow_run_name="report {run}")
def report_run(run: str, workspace: Path = Path("workspace")) -> ReportResult:
    """Score every volume of a run and write its report.

    Parameters
    ----------
    run : str
        Name of the run.
    workspace : Path
        Root of the workspace.
    """
    pages = report_step(run, workspace)
    publish(run, pages)
    return pages


def publish(run: str, pages: ReportResult) -> None:
    """Put the scores of a run and a link to its report on the page of the flow run."""
    show_scores(run, read_report(pages.index.parent).volumes)
    show_link("report", link_to_report(run, pages.index), f"Report of {run}", str(pages.index))


def show_status(status: CampaignStatus) -> None:
    """Put on the page of the flow run how each step of each volume fares."""
    rows = [
        {"volume": volume.name, **{name: step.state for name, step in volume.steps.items()}, "why": volume.reason or ""}
        for volume in status.volumes
    ]
    show_table("status", rows, f"{status.run}: volumes and steps, {status.changed}", passing=True)


def show_scores(run: str, volumes: Sequence[VolumeScores], *, passing: bool = False) -> None:
    """Put the scores of the volumes that have any so far on the page of the flow run."""
    rows = [_row_of(volume) for volume in volumes]
    show_table("iou-of-volumes", rows, f"Membrane IoU of each volume of {run}", passing=passing)


def _row_of(volume: VolumeScores) -> dict[str, str]:
    iou = volume.iou or IoU()
    return {
        "volume": volume.name,
        "IoU of the model": _number(iou.model),
        "IoU of the baseline": _number(iou.baseline),
        "remarks": "; ".join(filter(None, [volume.reason, *volume.warnings])),
    }


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
