"""All volumes of a run in one chart."""

from __future__ import annotations

from segem.records.scores import Report
from segem.stages.reporting.drawing import (
    BASELINE,
    GRID,
    MODEL,
    Chart,
    Key,
    Reading,
    Table,
    drawn,
    name_lines,
    plot_marks,
)
from segem.stages.reporting.words import say_score

_ROW_PX = 19
_KINDS = {
    "model": Key("Model", MODEL, "none", "o"),
    "baseline": Key("Baseline", BASELINE, "none", "s", hollow=True),
}
_LONGEST = 20
_READING = Reading(
    shown="Membrane IoU of each labelled volume: the model's, and the baseline's that needed no labels.",
    good="The model's dots lie to the right, close together, and far from the baseline's.",
    bad="A volume far to the left of the others, or one where the baseline is as good as the model.",
    do="Open that volume below and look at its lowest section. Label some of its sections and retrain (segem retrain).",
)


def draw_volumes(report: Report) -> Chart | None:
    """Draw the IoU of every measured volume; None where fewer than two were measured."""
    volumes = [volume for volume in report.volumes if volume.iou is not None]
    if len(volumes) < 2:
        return None
    longest = max(len(_shorten(volume.name)) for volume in volumes)
    height = 74 + _ROW_PX * len(volumes)
    with drawn("volumes", height, left_px=14 + 6.6 * longest) as ((axes,), svg):
        axes.grid(visible=False, axis="y")
        axes.grid(axis="x")
        kinds: list[Key] = []
        places = range(len(volumes))
        for kind, key in _KINDS.items():
            values = [getattr(volume.iou, kind) for volume in volumes]
            known = [(value, place) for place, value in zip(places, values, strict=True) if value is not None]
            if known:
                plot_marks(axes, [value for value, _ in known], [place for _, place in known], key)
                kinds.append(key)
        for place in places:
            axes.axhline(place, color=GRID, linewidth=0.8, zorder=0)
        axes.set_xlim(0, 1)
        axes.set_ylim(len(volumes) - 0.5, -0.5)
        axes.set_yticks(list(places), [_shorten(volume.name) for volume in volumes])
        axes.set_xlabel("membrane IoU")
        name_lines(axes, kinds)
    rows = tuple(
        (volume.name, say_score(volume.iou.model), say_score(volume.iou.baseline)) for volume in volumes if volume.iou
    )
    ranked = sorted(
        (volume.iou.model, volume.name) for volume in volumes if volume.iou and volume.iou.model is not None
    )
    told = (
        f" of the model: {ranked[0][0]:.3f} ({ranked[0][1]}) to {ranked[-1][0]:.3f} ({ranked[-1][1]})" if ranked else ""
    )
    return Chart(
        "volumes",
        "All volumes",
        f"Membrane IoU{told}.",
        svg[0],
        _READING,
        Table(("Volume", "IoU model", "IoU baseline"), rows),
        _say_seen(report),
    )


def _say_seen(report: Report) -> str:
    used = [volume.name for volume in report.volumes if volume.measured and volume.seen]
    return f"The model has used sections of {', '.join(used)}: see there." if used else ""


def _shorten(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
