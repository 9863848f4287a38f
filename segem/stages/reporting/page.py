"""The web page of a report: one file that holds its styles and pictures and asks no network for anything."""

from __future__ import annotations

import base64
from collections import Counter
from dataclasses import dataclass
from importlib import resources

from jinja2 import Environment, StrictUndefined

from segem.config.baseline import BaselineMethod
from segem.kernels.pictures import FOUND, INVENTED, MISSED, OVERLAID, UNLABELLED, Colour
from segem.records.scores import LayerScores, Report, VolumeScores
from segem.stages.reporting.charts import Chart, lay_out_iou, lay_out_reliability
from segem.stages.reporting.strip import lay_out_quality

TIMES = " \N{MULTIPLICATION SIGN} "
NOTHING = "\N{EN DASH}"
METHODS: dict[BaselineMethod, str] = {
    "kmeans": "Pixels are split into a dark and a bright group by intensity alone; the dark one is taken for membrane.",
    "kmeans-features": "Pixels are grouped by intensity, edges and ridges around them; the darkest group is taken for "
    "membrane.",
    "watershed": "Bright basins are flooded until they meet; the dark lines along which they meet are taken for "
    "membrane.",
    "ncut": "Regions are cut apart where the image is dark between them; their borders are taken for membrane.",
}
"""What the methods of the baseline do, in one sentence. None of them needs labels."""


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


def render_page(report: Report, pictures: dict[str, list[SectionPictures]]) -> str:
    """Return the web page of a report.

    Parameters
    ----------
    report : Report
        The scores.
    pictures : dict
        The pictures of each volume, by its name.

    Returns
    -------
    str
        HTML that names no other file: styles and pictures are inside.
    """
    # Names and reasons come from users' files, so everything is escaped: none of it can become markup. An undefined
    # name is an error, so that a renamed field does not leave a gap.
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"score": _format_score, "ratio": _format_ratio, "rgb": _format_colour}
    template = (
        resources.files("segem.stages.reporting").joinpath("templates/report.html.j2").read_text(encoding="utf-8")
    )
    return environment.from_string(template).render(
        report=report,
        headline=summarise(report),
        baseline=name_baseline(report) or "baseline",
        methods={one.baseline.title: METHODS[one.baseline.method] for one in report.volumes if one.baseline},
        facts=_list_facts,
        layers=_list_layers,
        pictures=pictures,
        charts={volume.name: _chart_sections(volume) for volume in report.volumes},
        reliability={volume.name: lay_out_reliability(volume.reliability) for volume in report.volumes},
        strips={volume.name: lay_out_quality(volume.quality, volume.flags) for volume in report.volumes},
        colours={
            "found": FOUND,
            "invented": INVENTED,
            "missed": MISSED,
            "overlaid": OVERLAID,
            "unlabelled": UNLABELLED,
        },
    )


def summarise(report: Report) -> str:
    """Return in one or two sentences what a reader wants to know first."""
    measured = [volume for volume in report.volumes if volume.measured]
    failed = sum(v.state == "failed" for v in report.volumes)
    blind = Counter(v.note.partition(": ")[2] for v in report.volumes if v.note is not None)
    parts = [_compare(measured, name_baseline(report) or "the baseline")] if measured else []
    parts += [f"{_count(volumes, 'volume')} could not be measured: {why}." for why, volumes in blind.items()]
    if failed:
        parts.append(f"{_count(failed, 'volume')} failed.")
    return " ".join(parts) or "Nothing was measured in this run."


def _compare(measured: list[VolumeScores], baseline: str) -> str:
    ious = [volume.iou for volume in measured if volume.iou]
    # Volumes may have only one of the two scores; those do not enter the comparison.
    compared = [(iou.model, iou.baseline) for iou in ious if iou.model is not None and iou.baseline is not None]
    who, reached = "the model", [iou.model for iou in ious if iou.model is not None]
    if not reached:
        who, reached = baseline, [iou.baseline for iou in ious if iou.baseline is not None]
    if len(measured) == 1:
        beside = f" ({baseline}: {compared[0][1]:.3f})" if compared else ""
        return f"On {measured[0].name}, {who} reaches a membrane IoU of {reached[0]:.3f}{beside}."
    if compared:
        better = sum(model > other for model, other in compared)
        of = f"{better} of {_count(len(compared), 'volume')}{' with both' if len(compared) < len(measured) else ''}"
        return f"The model reaches a higher membrane IoU than {baseline} on {of}."
    span = f"{min(reached):.3f} to {max(reached):.3f}"
    return f"{who[0].upper()}{who[1:]} reaches a membrane IoU of {span} on {len(reached)} labelled volumes."


def name_baseline(report: Report) -> str | None:
    """Return what people call the method of the baseline of a run; None where there was none, or several."""
    names = {volume.baseline.name for volume in report.volumes if volume.baseline}
    return names.pop() if len(names) == 1 else None


def _chart_sections(volume: VolumeScores) -> Chart | None:
    return lay_out_iou(volume.per_section, volume.baseline.title if volume.baseline else "Baseline")


def _list_facts(volume: VolumeScores) -> list[tuple[str, str]]:
    facts = []
    if volume.shape and volume.voxel_nm:
        facts.append(("Shape (z, y, x)", TIMES.join(str(n) for n in volume.shape)))
        facts.append(("Voxel size", TIMES.join(f"{n:g}" for n in volume.voxel_nm) + " nm"))
        extent = TIMES.join(f"{n * size / 1000:.3g}" for n, size in zip(volume.shape, volume.voxel_nm, strict=True))
        facts.append(("Extent", f"{extent} µm"))
        facts.append(("Data type", volume.dtype or ""))
    if volume.outside_fraction:
        facts.append(("No tissue", f"{volume.outside_fraction:.1%} of the volume".replace("%", " %")))
    if volume.model is not None:
        facts.append(("Model", f"{volume.model.name} ({volume.model.digest[:12]})"))
    if volume.threshold is not None:
        facts.append(("Threshold", f"{volume.threshold:.3g}"))
    return facts


def _list_layers(volume: VolumeScores) -> list[tuple[str, LayerScores]]:
    layers = [
        ("Model", volume.scores.model),
        (volume.baseline.title if volume.baseline else "", volume.scores.baseline),
    ]
    return [(name, layer) for name, layer in layers if layer is not None]


def _format_score(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3f}"


def _format_ratio(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2f}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _format_colour(colour: Colour) -> str:
    return "rgb({}, {}, {})".format(*colour)
