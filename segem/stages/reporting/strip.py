"""The geometry of the strip of curves that shows the quality of each section of a volume."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from segem.records.quality import FlagKind, SectionFlag, SectionQuality

WIDTH, ROW, PLOT = 720, 70, 42
"""Pixels of the drawing, of a row with its caption, and of its curve."""
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 20, 36
_MOST_POINTS = 600


@dataclass(frozen=True)
class Mark:
    """A section that stands out, on the curve that shows it."""

    x: float
    y: float
    reason: str


@dataclass(frozen=True)
class Row:
    """The curve of one measure."""

    caption: str
    top: float
    bottom: float
    path: str
    ticks: tuple[tuple[float, str], ...]
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Strip:
    """Curves one above the other, in pixels of a drawing of `width` × `height`."""

    rows: tuple[Row, ...]
    x_ticks: tuple[tuple[float, str], ...]
    flagged: tuple[float, ...]
    """Where sections stand out, in any measure."""
    height: int
    summary: str
    """The drawing in words."""
    width: int = WIDTH
    left: int = LEFT
    right: int = WIDTH - RIGHT


Take = Callable[[SectionQuality], float | None]

_CURVES: tuple[tuple[str, Take, tuple[FlagKind, ...]], ...] = (
    ("sharpness (edges, share of the contrast a pixel)", lambda one: one.sharpness, ("blurred",)),
    ("contrast (grey levels, 5th to 95th percentile)", lambda one: one.contrast, ("contrast", "blank")),
    ("brightness (grey levels, median)", lambda one: one.brightness, ("brightness",)),
    ("noise (grey levels, standard deviation)", lambda one: one.noise, ("noise",)),
    ("shift against the section before (px)", lambda one: _length(one), ("shift",)),
    ("similarity to the section before (correlation)", lambda one: one.similarity, ("order", "copy", "inverted")),
)


def lay_out_quality(sections: Sequence[SectionQuality], flags: Sequence[SectionFlag]) -> Strip | None:
    """Lay out the measures of the sections, a row for each; None where there are fewer than two sections.

    Parameters
    ----------
    sections : sequence of SectionQuality
        In order.
    flags : sequence of SectionFlag
        The sections to mark.

    Examples
    --------
    >>> sections = [SectionQuality(section=z, contrast=90 + z, brightness=120) for z in range(3)]
    >>> strip = lay_out_quality(sections, [])
    >>> [row.caption.split(" (")[0] for row in strip.rows], strip.summary
    (['contrast', 'brightness'], 'Quality of 3 sections. None stands out.')
    """
    if len(sections) < 2:
        return None
    # Where a measure could not be taken of any section, there is no curve to show.
    shown = [(caption, [take(one) for one in sections], kinds) for caption, take, kinds in _CURVES]
    shown = [one for one in shown if sum(value is not None for value in one[1]) > 1]
    rows = tuple(
        _lay_out_row(caption, values, [flag for flag in flags if flag.kind in kinds], TOP + ROW * turn)
        for turn, (caption, values, kinds) in enumerate(shown)
    )
    if not rows:
        return None
    standing_out = sorted({flag.section for flag in flags})
    told = f"{len(standing_out)} of them stand out: {', '.join(map(str, standing_out))}." if standing_out else ""
    return Strip(
        rows=rows,
        x_ticks=tuple((_x(z, len(sections)), str(z)) for z in _choose_sections(len(sections))),
        flagged=tuple(_x(z, len(sections)) for z in standing_out),
        height=round(rows[-1].bottom) + BOTTOM,
        summary=f"Quality of {len(sections)} sections. {told or 'None stands out.'}",
    )


def choose_levels(low: float, high: float) -> tuple[float, ...]:
    """Return two or three round numbers that enclose a range.

    Examples
    --------
    >>> choose_levels(0.33, 0.72), choose_levels(118, 131), choose_levels(5, 5)
    ((0.2, 0.4, 0.6, 0.8), (110.0, 120.0, 130.0, 140.0), (4.95, 5.0, 5.05))
    """
    span = high - low or abs(high) * 0.02 or 1.0
    low, high = (low, high) if high > low else (low - span / 2, high + span / 2)
    power = 10.0 ** math.floor(math.log10(span))
    step = next(power * times for times in (0.5, 1, 2, 5, 10) if span / (power * times) <= 2)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return tuple(round(number * step, 9) for number in range(first, last + 1))


def _lay_out_row(caption: str, values: Sequence[float | None], flags: Sequence[SectionFlag], top: float) -> Row:
    known = [value for value in values if value is not None]
    levels = choose_levels(min(known), max(known))
    bottom = top + PLOT

    def y(value: float) -> float:
        return round(bottom - (value - levels[0]) / (levels[-1] - levels[0]) * PLOT, 1)

    standing_out = {flag.section for flag in flags}
    step = -(-len(values) // _MOST_POINTS)
    kept = [z for z in range(len(values)) if z % step == 0 or z in standing_out]
    parts, pen = [], "M"
    for z in kept:
        value = values[z]
        if value is not None:
            parts.append(f"{pen}{_x(z, len(values)):g},{y(value):g}")
        pen = "M" if value is None else "L"
    marks = tuple(
        Mark(
            _x(flag.section, len(values)), bottom if (value := values[flag.section]) is None else y(value), flag.reason
        )
        for flag in flags
    )
    return Row(caption, top, bottom, " ".join(parts), tuple((y(level), f"{level:g}") for level in levels), marks)


def _choose_sections(count: int) -> list[int]:
    step = next(s * 10**e for e in range(9) for s in (1, 2, 5) if count / (s * 10**e) <= 15)
    return list(range(0, count, step))


def _x(section: int, count: int) -> float:
    return round(LEFT + section / (count - 1) * (WIDTH - LEFT - RIGHT), 1)


def _length(one: SectionQuality) -> float | None:
    if one.shift_y_px is None or one.shift_x_px is None:
        return None
    return math.hypot(one.shift_y_px, one.shift_x_px)
