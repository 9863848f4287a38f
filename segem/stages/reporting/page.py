"""The web pages of a report: they hold their styles, charts and thumbnails, and ask no network for anything."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from segem.kernels.pictures import FOUND, INVENTED, MISSED, OVERLAID, UNLABELLED, Colour
from segem.records.error_map import ErrorMap
from segem.records.intervals import Interval, TooFew
from segem.records.scores import LayerScores, Report, VolumeScores
from segem.records.verdict import STATE_WORDS
from segem.stages.reporting.charts import draw_volume, say_seen
from segem.stages.reporting.drawing import Chart, Reading
from segem.stages.reporting.error_chart import draw_error_map
from segem.stages.reporting.gain import say_gain, tabulate_gain
from segem.stages.reporting.history import History, draw_history
from segem.stages.reporting.methods import METHODS
from segem.stages.reporting.opening import (
    list_cautions,
    list_estimates,
    list_reasons,
    name_baseline,
    say_expected,
    summarise,
)
from segem.stages.reporting.overview import draw_volumes
from segem.stages.reporting.pictures import VolumePictures, name_leaf
from segem.stages.reporting.read import INDEX
from segem.stages.reporting.reviewed import list_findings
from segem.stages.reporting.standing import draw_standing, list_too_few, say_interval
from segem.stages.reporting.strip import draw_quality
from segem.stages.reporting.verdict import NO_RULES
from segem.stages.reporting.words import TIMES, begin_sentence, count, say_ratio, say_score, say_share

MOST_ELEMENTS, MOST_BYTES = 4800, 8_000_000
"""Of the first page: where the parts of the volumes would make it heavier, each gets a page of its own."""
SCORES = {"iou": "IoU", "precision": "Precision", "recall": "Recall", "v_rand": "V_rand", "v_info": "V_info"}
MORE_SCORES = {
    "dice": "Dice",
    "mean_iou": "Mean IoU",
    "iou_outside_band": "IoU off borders",
    "boundary_f1": "Boundary F1",
    "cl_dice": "clDice",
    "adapted_rand_error": "Rand error",
    "voi_split": "VOI split",
    "voi_merge": "VOI merge",
    "merges": "Mergers",
    "splits": "Splits",
    "warping_error": "Warping error",
}
"""What readers call a score; the second ones stand in a table of their own."""
_TAG = re.compile(r"<[a-zA-Z]")
_PICTURES = Reading(
    shown="The same tissue as the microscope, the truth and the methods have it. Click a picture to see it large.",
    good="Dark lines of the mask follow every membrane, closed and about as thick as in the truth.",
    bad="Orange where there is no membrane, blue where one is missed, above all gaps: they merge cells.",
    do="If the worst section or region is damaged or labelled wrongly, correct that. If not, label tissue like it.",
)
_UNLABELLED = Reading(
    shown="Image, probability and mask. There is no truth to compare them with. Click a picture to see it large.",
    good="Lines follow every membrane and close around cells; organelles are left out.",
    bad="Lines that end nowhere, cells that run together, organelles or texture outlined.",
    do="Mark good and bad sections below, and label a few: without truth no number here says how good the mask is.",
)


@dataclass(frozen=True)
class Part:
    """What the page says of one volume."""

    volume: VolumeScores
    pictures: VolumePictures
    charts: tuple[Chart, ...]

    @property
    def leaves(self) -> list[tuple[int, str]]:
        """The sections that can be leafed through, with their files."""
        return [(z, name_leaf(self.volume.name, z)) for z in self.pictures.leafed]

    @property
    def reading(self) -> Reading:
        """How the pictures are to be read."""
        return _PICTURES if self.volume.measured else _UNLABELLED


def render_pages(
    report: Report,
    pictures: Mapping[str, VolumePictures],
    methods: str,
    history: History | None,
    maps: Mapping[str, ErrorMap],
) -> dict[str, str]:
    """Return the web pages of a report.

    Parameters
    ----------
    report : Report
        The scores.
    pictures : mapping
        The pictures of each volume, by its name.
    methods : str
        The paragraph for authors.
    history : History or None
        Of the volumes in earlier runs.
    maps : mapping
        The error maps of volumes, by their names.

    Returns
    -------
    dict of str to str
        HTML by file: the first page, and where it would be too heavy a page for each volume.
    """
    shared = {"report": report, "methods": methods, "page": PAGE}
    volume_page = load_template("volume.html.j2")
    parts = [
        Part(volume, pictures.get(volume.name, VolumePictures()), tuple(_draw(volume, maps.get(volume.name))))
        for volume in report.volumes
    ]
    inside = _render_inside(parts, shared)
    first = load_template("report.html.j2")
    told = shared | {
        "headline": summarise(report),
        "reasons": list_reasons(report),
        "estimates": list(list_estimates(report)),
        "cautions": list(list_cautions(report)),
        "findings": list(list_findings(report.reviewing)),
        "baseline": name_baseline(report) or "baseline",
        "does": {v.baseline.title: METHODS[v.baseline.method][0] for v in report.volumes if v.baseline},
        "overview": draw_volumes(report),
        "gain_words": say_gain(report.gain) if report.gain else "",
        "gain_table": tabulate_gain(report.gain) if report.gain else None,
        "history": draw_history(history) if history else None,
        "runs": history.runs if history else (),
        "parts": parts,
    }
    if inside is not None and _is_light(whole := first.render(told, inside=inside)):
        return {INDEX: whole}
    pages = {name_page(part.volume): volume_page.render(shared, part=part, up="../") for part in parts}
    return {INDEX: first.render(told, inside=None)} | pages


def _render_inside(parts: Sequence[Part], shared: Mapping[str, object]) -> list[Markup] | None:
    """Return what the first page has of each volume; None as soon as that is too much for one page."""
    template, found = load_template("part.html.j2"), Markup("")
    inside = []
    for part in parts:
        inside.append(Markup(template.render(shared, part=part, up="")))  # noqa: S704 - rendered, hence escaped
        found += inside[-1]
        if not _is_light(found):
            return None
    return inside


def _is_light(page: str) -> bool:
    return len(page) <= MOST_BYTES and len(_TAG.findall(page)) <= MOST_ELEMENTS


def name_page(volume: VolumeScores) -> str:
    """Return the file of a volume's own page."""
    return f"volumes/{volume.name}.html"


def _draw(volume: VolumeScores, errors: ErrorMap | None) -> Iterator[Chart]:
    if volume.state == "complete":
        found = [
            draw_standing(volume),
            *draw_volume(volume),
            None if errors is None else draw_error_map(errors),
            draw_quality(volume),
        ]
        yield from (chart for chart in found if chart is not None)


def _list_facts(volume: VolumeScores) -> list[tuple[str, str]]:
    facts = []
    if volume.shape and volume.voxel_nm:
        facts.append(("Shape (z, y, x)", TIMES.join(str(n) for n in volume.shape)))
        facts.append(("Voxel size", TIMES.join(f"{n:g}" for n in volume.voxel_nm) + " nm"))
        extent = TIMES.join(f"{n * size / 1000:.3g}" for n, size in zip(volume.shape, volume.voxel_nm, strict=True))
        facts.append(("Extent", f"{extent} µm"))
        facts.append(("Data type", volume.dtype or ""))
    if volume.outside_fraction:
        facts.append(("No tissue", f"{say_share(volume.outside_fraction)} of the volume"))
    if volume.model is not None:
        facts.append(("Model", f"{volume.model.name} ({volume.model.digest[:12]})"))
    if volume.threshold is not None:
        facts.append(("Threshold", f"{volume.threshold:.3g}"))
    return facts


def _list_layers(volume: VolumeScores) -> list[tuple[str, LayerScores, Mapping[str, Interval | TooFew]]]:
    layers = [
        ("Model", volume.scores.model, volume.intervals),
        ("Model, closed", volume.scores.closed, volume.closed_intervals),
        (volume.baseline.title if volume.baseline else "", volume.scores.baseline, volume.baseline_intervals),
    ]
    return [(name, layer, intervals) for name, layer, intervals in layers if layer is not None]


def _list_reasons(volume: VolumeScores) -> list[str]:
    """Return why scores are not defined, each reason once with the scores it is of."""
    shown = SCORES | MORE_SCORES | {"rand": SCORES["v_rand"], "information": SCORES["v_info"]}
    reasons: dict[tuple[str, str], list[str]] = {}
    for mask, layer, _ in _list_layers(volume):
        for score, why in layer.undefined.items():
            if score in shown:
                reasons.setdefault((mask, why), []).append(shown[score])
    return [f"{', '.join(scores)} of {mask}: {why}" for (mask, why), scores in reasons.items()]


def _list_marks(report: Report, volume: VolumeScores) -> str:
    return json.dumps([one.model_dump() for one in report.marks if one.volume == volume.name])


def _format_colour(colour: Colour) -> str:
    return "rgb({}, {}, {})".format(*colour)


def _embed(chart: Chart) -> Markup:
    # Drawn here, its text escaped by the writer of the SVG.
    opened = Markup('<svg role="img" aria-label="{}" ').format(chart.summary)
    return opened + Markup(chart.svg.removeprefix("<svg "))  # noqa: S704


@dataclass(frozen=True)
class Page:
    """What every page has in its head: style, script and the policy that allows them and nothing else."""

    style: Markup
    script: Markup

    @property
    def policy(self) -> str:
        """The content security policy: the script by its digest, pictures beside the page, no network."""
        digest = base64.b64encode(hashlib.sha256(self.script.encode()).digest()).decode()
        allowed = f"script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src 'self' data: file:"
        return f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"


def _read(file: str) -> Markup:
    templates = resources.files("segem.stages.reporting").joinpath("templates")
    return Markup(templates.joinpath(file).read_text(encoding="utf-8"))  # noqa: S704 - our own file


PAGE = Page(_read("report.css"), _read("report.js"))


@cache
def load_template(template: str) -> Template:
    """Return a template of the report, compiled once."""
    # Names and reasons come from users' files, so everything is escaped: none of it can become markup. An undefined
    # name is an error, so that a renamed field does not leave a gap.
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=PackageLoader("segem.stages.reporting"),
    )
    environment.filters |= {
        "score": say_score,
        "ratio": say_ratio,
        "sentence": begin_sentence,
        "interval": say_interval,
        "share": say_share,
        "rgb": _format_colour,
        "embed": _embed,
    }
    environment.globals |= {
        "facts": _list_facts,
        "layers": _list_layers,
        "marks_of": _list_marks,
        "name_page": name_page,
        "say_seen": say_seen,
        "say_expected": say_expected,
        "state_words": STATE_WORDS,
        "no_rules": NO_RULES,
        "too_few": list_too_few,
        "score_names": SCORES,
        "more_names": MORE_SCORES,
        "reasons": _list_reasons,
        "count": count,
        "colours": {
            "found": FOUND,
            "invented": INVENTED,
            "missed": MISSED,
            "overlaid": OVERLAID,
            "unlabelled": UNLABELLED,
        },
    }
    return environment.get_template(template)
