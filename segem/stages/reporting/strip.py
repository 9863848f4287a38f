"""The strip of curves that shows the quality of each section of a volume, and which sections stand out."""

from __future__ import annotations

import math
from collections.abc import Callable

from segem.records.quality import FlagKind, SectionQuality
from segem.records.scores import VolumeScores
from segem.stages.reporting.drawing import GRID, MODEL, WARN, Chart, Reading, Table, drawn, number_sections, thin

Take = Callable[[SectionQuality], float | None]

_ROW_PX, _AROUND_PX = 64, 68
_CURVES: tuple[tuple[str, str, Take, tuple[FlagKind, ...]], ...] = (
    ("Sharpness", "edges, share of the contrast a pixel", lambda one: one.sharpness, ("blurred",)),
    ("Contrast", "grey levels, 5th to 95th percentile", lambda one: one.contrast, ("contrast", "blank")),
    ("Brightness", "grey levels, median", lambda one: one.brightness, ("brightness",)),
    ("Noise", "grey levels, standard deviation", lambda one: one.noise, ("noise",)),
    ("Shift", "px, against the section before", lambda one: _length(one), ("shift",)),
    ("Similarity", "correlation with the section before", lambda one: one.similarity, ("order", "copy", "inverted")),
)
_READING = Reading(
    shown="What was measured in the middle of each section at ingest. Circles: sections that stand out.",
    good="Level curves. Slow changes along a stack are usual.",
    bad="Jumps of a single section, above all in shift and similarity: it may be blurred, damaged or out of place.",
    do="Look at the circled sections. Align the stack, replace the section or leave it out (segem ingest --missing).",
)


def draw_quality(volume: VolumeScores) -> Chart | None:
    """Draw the measures of the sections, a curve for each; None where there are fewer than two sections.

    Examples
    --------
    >>> sections = tuple(SectionQuality(section=z, contrast=90 + z, brightness=120) for z in range(3))
    >>> chart = draw_quality(VolumeScores(name="a", state="complete", quality=sections))
    >>> chart.summary, chart.table.head
    ('Quality of 3 sections. None stands out.', ('Section', 'Contrast', 'Brightness', 'Stands out'))
    """
    sections = volume.quality
    # Where a measure could not be taken of any section, there is no curve to show.
    curves = [(name, unit, [take(one) for one in sections], kinds) for name, unit, take, kinds in _CURVES]
    curves = [one for one in curves if sum(value is not None for value in one[2]) > 1]
    if not curves:
        return None
    with drawn(f"{volume.name}-quality", _AROUND_PX + _ROW_PX * len(curves), rows=len(curves), left_px=50) as (
        rows,
        svg,
    ):
        for axes, (name, unit, values, kinds) in zip(rows, curves, strict=True):
            flagged = sorted({flag.section for flag in volume.flags if flag.kind in kinds})
            kept = thin(len(values), flagged)
            axes.plot(kept, [math.nan if (value := values[z]) is None else value for z in kept], color=MODEL)
            known = {z: value for z in flagged if (value := values[z]) is not None}
            axes.plot(list(known), list(known.values()), "o", markersize=8, fillstyle="none", color=WARN)
            for z in flagged:
                axes.axvline(z, color=GRID, linewidth=1, linestyle=":")
            axes.set_title(f"{name} ({unit})", loc="left", fontsize="medium", pad=4)
            axes.locator_params(axis="y", nbins=2)
            axes.margins(y=0.15)
            axes.tick_params(labelbottom=axes is rows[-1])
        number_sections(rows[-1], 0, len(sections) - 1)
    found = sorted({flag.section for flag in volume.flags})
    listed = ", ".join(map(str, found))
    told = f"{len(found)} {'stands' if len(found) == 1 else 'stand'} out: {listed}." if found else "None stands out."
    return Chart(
        "quality",
        "Quality section by section",
        f"Quality of {len(sections)} sections. {told}",
        svg[0],
        _READING,
        _tabulate(volume, [(name, values) for name, _, values, _ in curves]),
    )


def _tabulate(volume: VolumeScores, curves: list[tuple[str, list[float | None]]]) -> Table:
    kinds: dict[int, list[str]] = {}
    for flag in volume.flags:
        kinds.setdefault(flag.section, []).append(flag.kind)
    rows = (
        (
            str(one.section),
            *("not measured" if values[z] is None else f"{values[z]:.4g}" for _, values in curves),
            ", ".join(kinds.get(one.section, [])) or "no",
        )
        for z, one in enumerate(volume.quality)
    )
    return Table(("Section", *(name for name, _ in curves), "Stands out"), tuple(rows))


def _length(one: SectionQuality) -> float | None:
    if one.shift_y_px is None or one.shift_x_px is None:
        return None
    return math.hypot(one.shift_y_px, one.shift_x_px)
