"""The web page of a report: one file that holds its styles and pictures and asks no network for anything."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from importlib import resources

from jinja2 import Environment, StrictUndefined

from segem.config.baseline import BASELINE_NAMES
from segem.kernels.pictures import FOUND, INVENTED, MISSED, OVERLAID, UNLABELLED, Colour
from segem.stages.reporting.charts import line_chart, reliability_chart
from segem.stages.reporting.evaluate import Evaluation, VolumeScores

TIMES = " \N{MULTIPLICATION SIGN} "
NOTHING = "\N{EN DASH}"


@dataclass(frozen=True)
class Picture:
    """One picture of the page: its caption, what it shows in words, and the file that holds it."""

    caption: str
    alt: str
    file: str
    data: bytes
    width: int
    height: int
    large: bool = False
    """Whether it is the one to look at closely."""

    @property
    def uri(self) -> str:
        """The picture itself, so that the page needs no other file."""
        return f"data:image/png;base64,{base64.b64encode(self.data).decode()}"


@dataclass(frozen=True)
class SectionPictures:
    """The pictures of one section, and why this section was chosen."""

    section: int
    why: str
    pictures: tuple[Picture, ...]


def page(evaluation: Evaluation, pictures: dict[str, list[SectionPictures]]) -> str:
    """Return the web page of a report.

    Parameters
    ----------
    evaluation : Evaluation
        The scores.
    pictures : dict
        The pictures of each volume, by its name.

    Returns
    -------
    str
        HTML that names no other file: styles and pictures are inside.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"score": _score, "ratio": _ratio, "rgb": _rgb}
    template = (
        resources.files("segem.stages.reporting").joinpath("templates/report.html.j2").read_text(encoding="utf-8")
    )
    return environment.from_string(template).render(
        evaluation=evaluation,
        headline=headline(evaluation),
        baseline=baseline_of(evaluation),
        facts=_facts,
        pictures=pictures,
        charts={volume.name: line_chart(volume.per_section, volume.baseline) for volume in evaluation.volumes},
        reliability={volume.name: reliability_chart(volume.reliability) for volume in evaluation.volumes},
        colours={
            "found": FOUND,
            "invented": INVENTED,
            "missed": MISSED,
            "overlaid": OVERLAID,
            "unlabelled": UNLABELLED,
        },
    )


def headline(evaluation: Evaluation) -> str:
    """Return in one or two sentences what a reader wants to know first."""
    measured = [volume for volume in evaluation.volumes if volume.measured]
    failed = sum(v.state == "failed" for v in evaluation.volumes)
    blind = sum(v.note is not None for v in evaluation.volumes)
    parts = [_reached(measured, baseline_of(evaluation))] if measured else []
    if blind:
        parts.append(f"{_count(blind, 'volume')} could not be measured, as there is no ground truth.")
    if failed:
        parts.append(f"{_count(failed, 'volume')} failed.")
    return " ".join(parts) or "Nothing was measured in this run."


def _reached(measured: list[VolumeScores], baseline: str) -> str:
    compared = [(v.model.iou, v.kmeans.iou) for v in measured if v.model and v.kmeans]
    who, ious = "the model", [v.model.iou for v in measured if v.model]
    if not ious:
        who, ious = baseline, [v.kmeans.iou for v in measured if v.kmeans]
    if len(measured) == 1:
        beside = f", {baseline} {compared[0][1]:.3f}" if compared else ""
        return f"On {measured[0].name} {who} reaches a membrane IoU of {ious[0]:.3f}{beside}."
    if compared:
        better = sum(model > other for model, other in compared)
        return f"The model finds membrane better than {baseline} on {better} of {len(compared)} volumes with both."
    reached = f"reaches a membrane IoU of {min(ious):.3f} to {max(ious):.3f} on {len(ious)} volumes with truth."
    return f"{who[0].upper()}{who[1:]} {reached}"


def baseline_of(evaluation: Evaluation) -> str:
    """Return what found the baseline's masks of a run, or that it was several methods."""
    names = {volume.baseline for volume in evaluation.volumes if volume.clustered}
    return names.pop() if len(names) == 1 else "the baseline" if names else BASELINE_NAMES["kmeans"]


def _facts(volume: VolumeScores) -> list[tuple[str, str]]:
    facts = []
    if volume.shape and volume.voxel_nm:
        facts.append(("Shape (z, y, x)", TIMES.join(str(n) for n in volume.shape)))
        facts.append(("Voxel size", TIMES.join(f"{n:g}" for n in volume.voxel_nm) + " nm"))
        extent = TIMES.join(f"{n * size / 1000:.3g}" for n, size in zip(volume.shape, volume.voxel_nm, strict=True))
        facts.append(("Extent", f"{extent} µm"))
        facts.append(("Intensities", volume.dtype or ""))
    if volume.weights is not None:
        facts.append(("Model", f"{volume.weights.name} ({volume.weights.digest[:12]})"))
    if volume.threshold is not None:
        facts.append(("Membrane from probability", f"{volume.threshold:.3g}"))
    return facts


def _score(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3f}"


def _ratio(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2f}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _rgb(colour: Colour) -> str:
    return "rgb({}, {}, {})".format(*colour)
