"""Writes the report of a run and reads it back: a web page that needs no network, a table, a JSON file, pictures."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from segem.config.accept import Rule
from segem.errors import SegemError, WorkspaceError
from segem.io.files import disk_errors, locked, new_directory, sweep_partials, write_bytes, write_text
from segem.io.layers import Layers, read_section
from segem.io.workspace import Workspace
from segem.kernels.pictures import draw_errors, draw_membrane, draw_overlay, find_shrink_factor, stretch_contrast
from segem.progress import track
from segem.records.error_map import ErrorMap
from segem.records.scores import IoU, Report, VolumeScores
from segem.stages.reporting.error_maps import write_error_maps
from segem.stages.reporting.evaluate import evaluate
from segem.stages.reporting.page import Picture, SectionPictures, render_page

logger = logging.getLogger(__name__)

PICTURE_PX = 512
INDEX, TABLE, JSON = "index.html", "iou.csv", "report.json"
"""The files of a report, beside its pictures."""
MEASURES = ("precision", "recall", "v_rand", "v_info")
"""Scores of the model that stand beside the volume, and those that stand in its `LayerScores`."""
MORE_MEASURES = (
    "mean_iou", "dice", "iou_outside_band", "boundary_f1", "cl_dice", "adapted_rand_error", "voi_split", "voi_merge",
    "merges", "splits",
)  # fmt: skip
CSV_COLUMNS = (
    "volume", "section", "sections", "baseline_method", "iou_baseline", "iou_model", *MEASURES, *MORE_MEASURES
)  # fmt: skip


@dataclass(frozen=True)
class ReportResult:
    """Where a report lies."""

    index: Path
    csv: Path
    json: Path
    failed: dict[str, str]
    """Volumes that did not finish, with the reason."""


def report(run: str, workspace: Workspace, rules: Sequence[Rule] | None = None, *, full: bool = False) -> ReportResult:
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

    Returns
    -------
    ReportResult

    Raises
    ------
    SegemError
        When there is no such run, or the disk refuses.
    """
    maps: list[ErrorMap] = []
    scores = evaluate(run, workspace, rules, full=full, keep=maps.append)
    folder = workspace.report(run)
    drawn = [_draw(run, volume, workspace) for volume in scores.volumes]
    # Drawing may have added warnings, which belong in every file of the report.
    scores = scores.model_copy(update={"volumes": tuple(volume for volume, _ in drawn)})
    pictures = {volume.name: sections for volume, sections in drawn}
    # Two processes that write the report of one run would sweep away each other's hidden folder.
    with locked(folder.with_name(".report.lock"), wait=True):
        sweep_partials(folder.parent, folder.name)
        _write(folder, scores, pictures, maps)
    _log_scores(scores)
    return ReportResult(folder / INDEX, folder / TABLE, folder / JSON, scores.failed())


def read_report(folder: Path) -> Report:
    """Read the scores of a run back from the folder of its report.

    Raises
    ------
    WorkspaceError
        When there is no report, it is damaged, or another version of segem wrote it.
    """
    path = folder / JSON
    with disk_errors(path):
        text = path.read_text(encoding="utf-8")
    try:
        return Report.model_validate_json(text)
    except ValidationError as error:
        raise WorkspaceError(
            "the report is damaged, or of another version of segem",
            where=path,
            found=error.errors()[0]["msg"],
            fix=f"write it again: `segem report {folder.parent.name}`",
        ) from None


def tabulate(scores: Report) -> str:
    """Return the content of ``iou.csv``: a row for each volume and each of its sections, empty where not measured."""
    text = io.StringIO()
    table = csv.DictWriter(text, CSV_COLUMNS, restval="", lineterminator="\n")
    table.writeheader()
    for volume in scores.volumes:
        same: dict[str, object] = {
            "volume": volume.name,
            "baseline_method": volume.baseline.method if volume.baseline else None,
        }
        iou = volume.iou or IoU()
        whole = {"iou_baseline": iou.baseline, "iou_model": iou.model} | volume.model_dump(include=set(MEASURES))
        if volume.scores.model:
            whole |= volume.scores.model.model_dump(include=set(MORE_MEASURES))
        table.writerow(_format_row(same | {"section": "all", "sections": volume.sections} | whole))
        for section in volume.per_section:
            found = section.model_dump(include=set(CSV_COLUMNS) - {"sections"})
            table.writerow(_format_row(same | {"sections": 1} | found))
    return text.getvalue()


def choose_sections(volume: VolumeScores) -> dict[int, str]:
    """Return which sections a reader should see, and why: the first, the worst by model IoU, the last.

    Without scores the middle one stands in for the worst.
    """
    if volume.sections is None:
        return {}
    last = volume.sections - 1
    chosen: dict[int, list[str]] = {0: ["first"]}
    scored = [(s.iou_model, s.section) for s in volume.per_section if s.iou_model is not None]
    if scored:
        chosen.setdefault(min(scored)[1], []).append("lowest IoU of the model")
    else:
        chosen.setdefault(last // 2, []).append("middle")
    chosen.setdefault(last, []).append("last")
    return {z: ", ".join(why) for z, why in sorted(chosen.items())}


def _log_scores(scores: Report) -> None:
    for volume in scores.volumes:
        iou = {} if volume.iou is None else volume.iou.model_dump(exclude_none=True)
        if iou:
            listed = ", ".join(f"{mask} {value:.4f}" for mask, value in iou.items())
            logger.info("%s: membrane IoU %s", volume.name, listed)


def _write(folder: Path, scores: Report, pictures: dict[str, list[SectionPictures]], maps: Sequence[ErrorMap]) -> None:
    # In one step, so that page, table and pictures are always those of the same scores.
    with new_directory(folder) as partial:
        for picture in (p for sections in pictures.values() for section in sections for p in section.pictures):
            write_bytes(partial / picture.file, picture.data)
        write_text(partial / JSON, json.dumps(scores.model_dump(mode="json"), indent=2, allow_nan=False) + "\n")
        write_text(partial / TABLE, tabulate(scores))
        write_error_maps(partial, maps)
        write_text(partial / INDEX, render_page(scores, pictures))


def _draw(run: str, volume: VolumeScores, workspace: Workspace) -> tuple[VolumeScores, list[SectionPictures]]:
    """Return the pictures of a volume; where they cannot be drawn, the volume with a warning that says so."""
    # Scores are worth more than pictures: a file that was damaged since it was scored must not cost the whole report.
    try:
        return volume, list(_draw_sections(run, volume, workspace))
    except SegemError as error:
        warning = f"no pictures: {error}"
        logger.warning("%s: %s", volume.name, warning)
        return volume.model_copy(update={"warnings": (*volume.warnings, warning)}), []


def _draw_sections(run: str, volume: VolumeScores, workspace: Workspace) -> Iterator[SectionPictures]:
    if volume.state != "complete":
        return
    there = {"segmented": volume.model is not None, "clustered": volume.baseline is not None}
    layers = Layers.open(run, volume.name, workspace, **there)
    chosen = choose_sections(volume)
    with track(f"pictures {volume.name}", len(chosen), "section") as advance:
        for z, why in chosen.items():
            yield SectionPictures(z, why, tuple(_draw_section(volume, layers, z)))
            advance(1)


def _draw_section(volume: VolumeScores, layers: Layers, z: int) -> Iterator[Picture]:
    name = volume.name
    factor = find_shrink_factor(layers.source.shape[1:], PICTURE_PX)
    contrast = layers.source.statistics.percentiles
    raw = stretch_contrast(read_section(layers.source.raw, z), contrast["1"], contrast["99"], factor)
    yield _encode(name, z, "raw", "Raw", "raw image", raw)
    masks = {
        kind: read_section(array, z)
        for kind, array in (("truth", layers.truth), ("baseline", layers.baseline), ("model", layers.membrane))
        if array is not None
    }
    captions = {"truth": "Truth", "baseline": volume.baseline.title if volume.baseline else "", "model": "Model"}
    for kind, mask in masks.items():
        picture = draw_membrane(mask, factor)
        yield _encode(name, z, kind, captions[kind], f"membrane by {captions[kind]}, dark on white", picture)
    if "model" not in masks:
        return
    if "truth" in masks:
        kind, caption = "errors", "Errors of the model"
        what = "membrane found, invented and missed by the model, in colour over the raw image"
        pixels = draw_errors(raw, masks["truth"], masks["model"], factor)
    else:
        kind, caption, what = "overlay", "Model over raw", "membrane of the model in colour over the raw image"
        pixels = draw_overlay(raw, masks["model"], factor)
    yield replace(_encode(name, z, kind, caption, what, pixels), large=True)


def _encode(name: str, z: int, kind: str, caption: str, what: str, pixels: NDArray[np.uint8]) -> Picture:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return Picture(
        caption=caption,
        alt=f"{name}, section {z}: {what}",
        file=f"{name}-{z:04d}-{kind}.png",
        data=buffer.getvalue(),
        width=pixels.shape[1],
        height=pixels.shape[0],
    )


def _format_row(values: dict[str, object]) -> dict[str, object]:
    # Six digits are more than any score is worth.
    return {key: f"{value:.6f}" if isinstance(value, float) else value for key, value in values.items()}
