"""Writes what a run found for people to read: one web page without a network, one table, one JSON file, pictures."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segem.errors import SegemError
from segem.io.files import locked, new_directory, sweep_partials, write_bytes, write_text
from segem.io.layers import Layers, read_section
from segem.io.workspace import Workspace
from segem.kernels.pictures import error_picture, grey, membrane_picture, overlay_picture, reduction
from segem.progress import track
from segem.stages.reporting.evaluate import Evaluation, SectionScores, VolumeScores, evaluate
from segem.stages.reporting.page import Picture, SectionPictures, page

PICTURE_PX = 512
CSV_COLUMNS = ("iou_model", "precision", "recall", "v_rand", "v_info")


@dataclass(frozen=True)
class ReportResult:
    """Where a report lies."""

    index: Path
    csv: Path
    json: Path
    failed: dict[str, str]
    """Volumes that did not finish, with the reason."""


def report(run: str, workspace: Workspace) -> ReportResult:
    """Score a run and write its report; an older report is replaced as a whole.

    Parameters
    ----------
    run : str
        Name of the run.
    workspace : Workspace
        Where it lives.

    Returns
    -------
    ReportResult

    Raises
    ------
    SegemError
        When there is no such run, or the disk refuses.
    """
    evaluation = evaluate(run, workspace)
    folder = workspace.report(run)
    drawn = [_drawn(run, volume, workspace) for volume in evaluation.volumes]
    evaluation = evaluation.model_copy(update={"volumes": tuple(volume for volume, _ in drawn)})
    pictures = {volume.name: sections for volume, sections in drawn}
    with locked(folder.with_name(".report.lock"), wait=True):
        sweep_partials(folder.parent, folder.name)
        _write(folder, evaluation, pictures)
    return ReportResult(folder / "index.html", folder / "iou.csv", folder / "report.json", evaluation.failed())


def report_values(evaluation: Evaluation) -> dict[str, Any]:
    """Return the content of ``report.json``."""
    return {
        "run": evaluation.run,
        "model": evaluation.model.model_dump() if evaluation.model else None,
        "created": evaluation.created,
        "segem_version": evaluation.segem_version,
        "environment": evaluation.environment,
        "volumes": [_volume_values(volume) for volume in evaluation.volumes],
    }


def iou_table(evaluation: Evaluation) -> str:
    """Return the content of ``iou.csv``: a row for each volume and each of its sections, empty where not measured.

    The IoU of a baseline stands in a column of its method, ``iou_kmeans`` or another.
    """
    text = io.StringIO()
    baselines = sorted({_iou_key(volume) for volume in evaluation.volumes if volume.clustered}) or ["iou_kmeans"]
    columns = ("volume", "section", "sections", *baselines, *CSV_COLUMNS)
    table = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    table.writeheader()
    for volume in evaluation.volumes:
        iou = {
            key: layer.iou
            for key, layer in ((_iou_key(volume), volume.kmeans), ("iou_model", volume.model))
            if layer is not None
        }
        table.writerow(_row(volume=volume.name, section="all", sections=volume.sections, **iou, **_model(volume)))
        for section in volume.per_section:
            table.writerow(_row(volume=volume.name, sections=1, **_section_values(volume, section)))
    return text.getvalue()


def chosen_sections(volume: VolumeScores) -> dict[int, str]:
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


def _write(folder: Path, evaluation: Evaluation, pictures: dict[str, list[SectionPictures]]) -> None:
    with new_directory(folder) as partial:
        for picture in (p for sections in pictures.values() for section in sections for p in section.pictures):
            write_bytes(partial / picture.file, picture.data)
        write_text(partial / "report.json", json.dumps(report_values(evaluation), indent=2, allow_nan=False) + "\n")
        write_text(partial / "iou.csv", iou_table(evaluation))
        write_text(partial / "index.html", page(evaluation, pictures))


def _drawn(run: str, volume: VolumeScores, workspace: Workspace) -> tuple[VolumeScores, list[SectionPictures]]:
    """Return the pictures of a volume; where they cannot be drawn, the volume with a warning that says so."""
    try:
        return volume, list(_section_pictures(run, volume, workspace))
    except SegemError as error:
        return volume.model_copy(update={"warnings": (*volume.warnings, f"no pictures: {error}")}), []


def _section_pictures(run: str, volume: VolumeScores, workspace: Workspace) -> Iterator[SectionPictures]:
    if volume.state != "complete":
        return
    layers = Layers.open(run, volume.name, workspace, segmented=volume.segmented, clustered=volume.clustered)
    chosen = chosen_sections(volume)
    with track(f"pictures {volume.name}", len(chosen), "section") as advance:
        for z, why in chosen.items():
            yield SectionPictures(z, why, tuple(_pictures(volume, layers, z)))
            advance(1)


def _pictures(volume: VolumeScores, layers: Layers, z: int) -> Iterator[Picture]:
    name, baseline = volume.name, volume.baseline
    factor = reduction(layers.source.shape[1:], PICTURE_PX)
    contrast = layers.source.statistics.percentiles
    raw = grey(read_section(layers.source.raw, z), contrast["1"], contrast["99"], factor)
    yield _picture(name, z, "raw", "Raw", "raw image", raw)
    masks = {
        kind: read_section(array, z)
        for kind, array in (("truth", layers.truth), (volume.method, layers.baseline), ("model", layers.membrane))
        if array is not None
    }
    captions = {"truth": "Truth", volume.method: baseline[0].upper() + baseline[1:], "model": "Model"}
    for kind, mask in masks.items():
        picture = membrane_picture(mask, factor)
        yield _picture(name, z, kind, captions[kind], f"membrane by {captions[kind]}, dark on white", picture)
    if "model" not in masks:
        return
    if "truth" in masks:
        kind, caption = "errors", "Errors of the model"
        what = "membrane found, invented and missed by the model, in colour over the raw image"
        pixels = error_picture(raw, masks["truth"], masks["model"], factor)
    else:
        kind, caption, what = "overlay", "Model over raw", "membrane of the model in colour over the raw image"
        pixels = overlay_picture(raw, masks["model"], factor)
    yield replace(_picture(name, z, kind, caption, what, pixels), large=True)


def _picture(name: str, z: int, kind: str, caption: str, what: str, pixels: NDArray[np.uint8]) -> Picture:
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


def _volume_values(volume: VolumeScores) -> dict[str, Any]:
    facts = {
        "name",
        "state",
        "reason",
        "note",
        "sections",
        "shape",
        "dtype",
        "voxel_nm",
        "threshold",
        "seam_ratio",
    }
    return {
        **volume.model_dump(mode="json", include=facts),
        "iou": _iou(volume),
        "baseline": _baseline(volume),
        "expected_iou": None,
        **_model(volume),
        "ece": volume.ece,
        "reliability": [one.model_dump() for one in volume.reliability],
        "warnings": list(volume.warnings),
        "scores": {
            kind: layer.model_dump(mode="json") if layer else None
            for kind, layer in (("model", volume.model), (volume.method, volume.kmeans))
        },
        "per_section": [_section_values(volume, section) for section in volume.per_section],
    }


def _iou(volume: VolumeScores) -> dict[str, float | None] | None:
    if not volume.measured:
        return None
    kmeans = volume.kmeans if volume.method == "kmeans" else None
    return {kind: layer.iou if layer else None for kind, layer in (("model", volume.model), ("kmeans", kmeans))}


def _baseline(volume: VolumeScores) -> dict[str, Any] | None:
    if not volume.clustered:
        return None
    return {"method": volume.method, "name": volume.baseline, "iou": volume.kmeans.iou if volume.kmeans else None}


def _iou_key(volume: VolumeScores) -> str:
    return f"iou_{volume.method.replace('-', '_')}"


def _section_values(volume: VolumeScores, section: SectionScores) -> dict[str, Any]:
    key = {"iou_kmeans": _iou_key(volume)}
    return {key.get(name, name): value for name, value in section.model_dump(mode="json").items()}


def _model(volume: VolumeScores) -> dict[str, float | None]:
    return {key: getattr(volume.model, key, None) for key in ("precision", "recall", "v_rand", "v_info")}


def _row(**values: Any) -> dict[str, Any]:
    return {key: f"{value:.6f}" if isinstance(value, float) else value for key, value in values.items()}
