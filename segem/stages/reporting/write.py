"""Writes the report of a run: a web page that needs no network, a table, a JSON file, pictures."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from segem.config.accept import Rule
from segem.errors import SegemError
from segem.io.files import disk_errors, locked, new_directory, sweep_partials, write_text
from segem.io.run import load_run
from segem.io.storage_copy import kept
from segem.io.workspace import Workspace
from segem.records.error_map import ErrorMap
from segem.records.scores import Report, VolumeScores
from segem.stages.reporting.error_maps import write_error_maps
from segem.stages.reporting.evaluate import ScoredVolume, evaluate
from segem.stages.reporting.history import look_back
from segem.stages.reporting.marks import read_marks
from segem.stages.reporting.methods import find_card, write_methods
from segem.stages.reporting.page import render_pages
from segem.stages.reporting.pictures import VolumePictures, draw_pictures
from segem.stages.reporting.read import INDEX, JSON, TABLE
from segem.stages.reporting.table import tabulate

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReportResult:
    """Where a report lies."""

    index: Path
    csv: Path
    json: Path
    failed: dict[str, str]
    """Volumes that did not finish, with the reason."""


def report(
    run: str,
    workspace: Workspace,
    rules: Sequence[Rule] | None = None,
    *,
    full: bool = False,
    scored: Mapping[str, ScoredVolume] | None = None,
) -> ReportResult:
    """Score a run and write its report; an older report is replaced as a whole.

    Parameters
    ----------
    run : str
        Name of the run.
    workspace : Workspace
        Where it lives.
    rules : sequence of Rule, optional
        What is good enough; the rules of the manifest that the run was made by when absent.
    full : bool
        Take also scores that take long, see `segem.stages.reporting.evaluate.evaluate`.
    scored : mapping, optional
        Volumes that were scored already, by name.

    Returns
    -------
    ReportResult

    Raises
    ------
    SegemError
        When there is no such run, or the disk refuses.
    """
    maps: list[ErrorMap] = []
    scores = evaluate(run, workspace, rules, full=full, keep=maps.append, scored=scored)
    marks = read_marks(run, workspace, scores.digest)
    scores = scores.model_copy(update={"marks": marks.marks if marks else ()})
    folder = workspace.report(run)
    # Two processes that write the report of one run would sweep away each other's hidden folder.
    with kept(workspace), locked(folder.with_name(".report.lock"), wait=True):
        sweep_partials(folder.parent, folder.name)
        # In one step, so that page, table and pictures are always those of the same scores.
        with new_directory(folder) as partial:
            scores = _fill(partial, scores, maps, workspace)
    _log_scores(scores)
    return ReportResult(folder / INDEX, folder / TABLE, folder / JSON, scores.failed())


def _fill(folder: Path, scores: Report, maps: Sequence[ErrorMap], workspace: Workspace) -> Report:
    """Write everything into the folder, and return the scores with what was found on the way."""
    by_name = {one.volume: one for one in maps}
    drawn = [_draw(scores.run, volume, workspace, folder, by_name.get(volume.name)) for volume in scores.volumes]
    # Drawing may have added warnings, which belong in every file of the report.
    scores = scores.model_copy(update={"volumes": tuple(volume for volume, _ in drawn)})
    pictures = {volume.name: found for volume, found in drawn}
    methods = write_methods(scores, load_run(workspace, scores.run), find_card(scores, workspace))
    write_text(folder / JSON, json.dumps(scores.model_dump(mode="json"), indent=2, allow_nan=False) + "\n")
    write_text(folder / TABLE, tabulate(scores))
    write_error_maps(folder, maps)
    for file, text in render_pages(scores, pictures, methods, look_back(scores, workspace), by_name).items():
        with disk_errors(folder / file):
            (folder / file).parent.mkdir(exist_ok=True)
        write_text(folder / file, text)
    return scores


def _log_scores(scores: Report) -> None:
    for volume in scores.volumes:
        iou = {} if volume.iou is None else volume.iou.model_dump(exclude_none=True)
        if iou:
            listed = ", ".join(f"{mask} {value:.4f}" for mask, value in iou.items())
            logger.info("%s: membrane IoU %s", volume.name, listed)


def _draw(
    run: str, volume: VolumeScores, workspace: Workspace, folder: Path, errors: ErrorMap | None
) -> tuple[VolumeScores, VolumePictures]:
    """Return the pictures of a volume; where they cannot be drawn, the volume with a warning that says so."""
    # Scores are worth more than pictures: a file that was damaged since it was scored must not cost the whole report.
    try:
        return volume, draw_pictures(run, volume, workspace, folder, errors)
    except SegemError as error:
        warning = f"no pictures: {error}"
        logger.warning("%s: %s", volume.name, warning)
        return volume.model_copy(update={"warnings": (*volume.warnings, warning)}), VolumePictures()
