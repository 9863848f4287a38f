"""The charts of a volume: scores section by section, at other thresholds, and what its probabilities are worth."""

from __future__ import annotations

import math
from collections.abc import Sequence

from segem.geometry import name_sections
from segem.records.scores import SeenSections, SeenUse, VolumeScores
from segem.stages.reporting.drawing import (
    BASELINE,
    GRID,
    INK,
    MODEL,
    WARN,
    Chart,
    Key,
    LineStyle,
    Reading,
    Table,
    drawn,
    name_lines,
    number_sections,
    thin,
)
from segem.stages.reporting.words import say_score, say_share

HEIGHT_PX = 220
USED: dict[SeenUse, str] = {
    "training": "was trained on",
    "validation": "has its threshold from",
    "calibration": "has its calibration from",
}
_IOU = Reading(
    shown="Membrane IoU of each section, of the model and of the baseline. Circled: the lowest. "
    "Grey: sections that the model has used.",
    good="The model's line lies well above the baseline's, level, and as high outside the grey as in it.",
    bad="Single sections that drop, a slope along the stack, or a line that is high in the grey alone.",
    do="Look at the pictures of the lowest section. Label such sections and retrain if many are low; ingest again "
    "without the section if it is damaged.",
)
_THRESHOLDS = Reading(
    shown="What the mask would score if the probability were cut elsewhere. The upright line is the threshold in use.",
    good="The IoU is flat around the upright line: the choice hardly matters.",
    bad="The top of the curve lies far from the line, or the curve is a narrow peak.",
    do="If the top lies elsewhere on sections the model never used, calibrate the model on a few labelled sections "
    "(segem models calibrate --choose-threshold). Do not choose a threshold here and report the score at it.",
)
_RELIABILITY = Reading(
    shown="How often voxels of a probability are membrane. Dotted: as often as the probability says.",
    good="The line follows the dotted one: the probability can be taken at its word.",
    bad="Below the dotted line the model is too sure of membrane, above it not sure enough.",
    do="Calibrate the model on a few labelled sections of this tissue (segem models calibrate).",
)


def draw_volume(volume: VolumeScores) -> list[Chart]:
    """Return the charts of what was measured against truth; those with nothing to show are left out."""
    charts = (draw_iou(volume), draw_thresholds(volume), draw_reliability(volume))
    return [chart for chart in charts if chart is not None]


def draw_iou(volume: VolumeScores) -> Chart | None:
    """Draw the IoU of the model and of the baseline over the sections; None where fewer than two were scored.

    A section without a score is a gap in the line.

    Examples
    --------
    >>> from segem.records.scores import SectionScores
    >>> one = SectionScores(
    ...     section=0, iou_baseline=None, iou_model=0.8, precision=1, recall=1, v_rand=1, v_info=None)
    >>> rows = (one, one.model_copy(update={"section": 1, "iou_model": 0.6}))
    >>> chart = draw_iou(VolumeScores(name="a", state="complete", per_section=rows))
    >>> chart.summary
    'Membrane IoU of each section. Model: 0.600 to 0.800.'
    >>> chart.table.rows[1]
    ('1', 'not defined', '0.600', '1.000', '1.000', '1.000', 'not defined')
    """
    sections = volume.per_section
    name = volume.baseline.title if volume.baseline else "Baseline"
    both: tuple[tuple[str, str, LineStyle, list[float | None]], ...] = (
        ("Model", MODEL, "-", [one.iou_model for one in sections]),
        (name, BASELINE, "--", [one.iou_baseline for one in sections]),
    )
    lines = [line for line in both if sum(value is not None for value in line[3]) > 1]
    if not lines:
        return None
    worst = min((one for one in lines[0][3] if one is not None), default=None)
    with drawn(f"{volume.name}-iou", HEIGHT_PX) as ((axes,), svg):
        for one in volume.seen:
            for first, stop in one.sections:
                axes.axvspan(first - 0.5, stop - 0.5, color=GRID, alpha=0.55, linewidth=0)
        at = [lines[0][3].index(worst)] if worst is not None else []
        kept = thin(len(sections), at)
        for _, colour, style, values in lines:
            y = [math.nan if (value := values[i]) is None else value for i in kept]
            # A dot for each section where they are few: a section between two gaps is no line.
            dots = "o" if len(kept) <= 60 else ""
            axes.plot([sections[i].section for i in kept], y, style, color=colour, marker=dots, markersize=3.5)
        if worst is not None:
            axes.plot([sections[at[0]].section], [worst], "o", markersize=9, fillstyle="none", color=WARN)
        axes.set_ylim(-0.03, 1.03)
        number_sections(axes, sections[0].section, sections[-1].section)
        name_lines(axes, [Key(*line[:3]) for line in lines])
    ranges = " ".join(
        f"{label}: {min(known):.3f} to {max(known):.3f}."
        for label, _, _, values in lines
        if (known := [value for value in values if value is not None])
    )
    return Chart(
        "iou",
        "IoU along z",
        f"Membrane IoU of each section. {ranges}",
        svg[0],
        _IOU,
        tabulate_sections(volume),
        say_seen(volume.seen),
    )


def tabulate_sections(volume: VolumeScores) -> Table:
    """Return the scores of every section, those that are not defined in words."""
    name = volume.baseline.name if volume.baseline else "baseline"
    head = ("Section", f"IoU {name}", "IoU model", "Precision", "Recall", "V_rand", "V_info")
    rows = []
    for one in volume.per_section:
        scores = (one.iou_baseline, one.iou_model, one.precision, one.recall, one.v_rand, one.v_info)
        rows.append((str(one.section), *(say_score(value) for value in scores)))
    return Table(head, tuple(rows))


def draw_thresholds(volume: VolumeScores) -> Chart | None:
    """Draw IoU, precision and recall over the threshold; None where they are not known."""
    points = volume.threshold_curve
    if not points:
        return None
    best = max(points, key=lambda one: one.iou)
    across = [one.threshold for one in points]
    with drawn(f"{volume.name}-thresholds", HEIGHT_PX) as ((axes,), svg):
        if volume.threshold is not None:
            axes.axvline(volume.threshold, color=INK, linewidth=1.2)
        found = [math.nan if one.precision is None else one.precision for one in points]
        axes.plot(across, found, ":", color=INK)
        axes.plot(across, [one.recall for one in points], "--", color=BASELINE)
        axes.plot(across, [one.iou for one in points], "-", color=MODEL)
        axes.plot([best.threshold], [best.iou], "o", color=MODEL, markersize=5)
        axes.set_ylim(0, 1.02)
        axes.set_xlim(0, 1)
        axes.set_xlabel("threshold on the probability")
        name_lines(axes, [Key("IoU", MODEL), Key("precision", INK, ":"), Key("recall", BASELINE, "--")])
    used = "" if volume.threshold is None else f" The threshold in use is {volume.threshold:.2f}."
    rows = tuple((f"{p.threshold:.2f}", say_score(p.iou), say_score(p.precision), say_score(p.recall)) for p in points)
    return Chart(
        "thresholds",
        "Scores at other thresholds",
        f"IoU is highest, {best.iou:.3f}, at a threshold of {best.threshold:.2f}.{used}",
        svg[0],
        _THRESHOLDS,
        Table(("Threshold", "IoU", "Precision", "Recall"), rows),
        say_seen(volume.seen),
    )


def draw_reliability(volume: VolumeScores) -> Chart | None:
    """Draw the share of membrane over the probability; None where fewer than two bins hold voxels."""
    bins = volume.reliability
    if len(bins) < 2:
        return None
    with drawn(f"{volume.name}-reliability", HEIGHT_PX) as ((axes,), svg):
        axes.plot([0, 1], [0, 1], ":", color=INK)
        axes.plot([one.probability for one in bins], [one.membrane for one in bins], "-o", color=MODEL, markersize=3.5)
        axes.set_ylim(0, 1.02)
        axes.set_xlim(0, 1.02)
        axes.set_xlabel("probability of membrane")
        name_lines(axes, [Key("share that is membrane", MODEL), Key("ideal", INK, ":")])
    voxels = sum(one.voxels for one in bins)
    rows = tuple((f"{one.probability:.3f}", f"{one.membrane:.3f}", say_share(one.voxels / voxels)) for one in bins)
    found = "not defined" if volume.ece is None else f"{volume.ece:.3f}"
    return Chart(
        "reliability",
        "Are the probabilities right?",
        f"Expected calibration error (ECE): {found}.",
        svg[0],
        _RELIABILITY,
        Table(("Mean probability", "Share that is membrane", "Share of the voxels"), rows),
        say_seen(volume.seen),
    )


def say_seen(seen: Sequence[SeenSections]) -> str:
    """Return in one sentence which of the sections behind a number the model has used; empty where none.

    Examples
    --------
    >>> say_seen([SeenSections(use="training", sections=((0, 3),))])
    'Includes sections that the model was trained on (sections 0 to 2).'
    """
    if not seen:
        return ""
    parts = [f"{USED[one.use]} ({name_sections(one.sections)})" for one in seen]
    return f"Includes sections that the model {', '.join(parts)}."
