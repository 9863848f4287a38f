"""The geometry of small line charts, as the page draws them: scores section by section, frequency by probability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from segem.records.scores import ReliabilityBin, SectionScores

WIDTH, HEIGHT = 720, 220
# On the right there is room for the longest name of a baseline, in the widest of the usual fonts.
LEFT, RIGHT, TOP, BOTTOM = 40, 156, 12, 36

# More points than pixels only make the page heavier.
_MOST_POINTS = 600


@dataclass(frozen=True)
class Line:
    """One line of the chart."""

    name: str
    kind: str
    points: tuple[tuple[float, float], ...]
    end: tuple[float, float]
    """Where its name stands."""

    @property
    def path(self) -> str:
        """The line as an SVG path."""
        return "M" + " L".join(f"{x:g},{y:g}" for x, y in self.points)


@dataclass(frozen=True)
class Chart:
    """Lines and axes in pixels of a drawing of `WIDTH` × `HEIGHT`."""

    lines: tuple[Line, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    summary: str
    """The chart in words."""
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    bottom: int = HEIGHT - BOTTOM


def lay_out_iou(sections: Sequence[SectionScores], baseline: str) -> Chart | None:
    """Lay out the IoU of the baseline and of the model over the sections; None where fewer than two were scored.

    Parameters
    ----------
    sections : sequence of SectionScores
        In order; those without a score are left out.
    baseline : str
        What people call the method of the baseline.

    Examples
    --------
    >>> one = SectionScores(
    ...     section=0, iou_baseline=0.4, iou_model=0.8, precision=1, recall=1, v_rand=1, v_info=1)
    >>> chart = lay_out_iou([one, one.model_copy(update={"section": 1, "iou_model": 0.6})], "K-means")
    >>> chart.summary
    'IoU of each section. Model: 0.600 to 0.800. K-means: 0.400 to 0.400.'
    """
    # Sections without known truth have no score.
    sections = [s for s in sections if s.iou_model is not None or s.iou_baseline is not None]
    if len(sections) < 2:
        return None
    named = (
        ("Model", "model", [s.iou_model for s in sections]),
        (baseline, "baseline", [s.iou_baseline for s in sections]),
    )
    scored = [(name, kind, [v for v in values if v is not None]) for name, kind, values in named]
    scored = [(name, kind, values) for name, kind, values in scored if len(values) == len(sections)]
    lines = []
    for name, kind, values in scored:
        step = -(-len(values) // _MOST_POINTS)
        points = [(_x(i, len(values)), _y(values[i])) for i in (*range(0, len(values) - 1, step), len(values) - 1)]
        lines.append(Line(name, kind, tuple(points), points[-1]))
    ranges = " ".join(f"{name}: {min(values):.3f} to {max(values):.3f}." for name, _, values in scored)
    return Chart(
        lines=tuple(_names_apart(lines)),
        x_ticks=tuple((_x(i, len(sections)), str(sections[i].section)) for i in _ticks(len(sections))),
        y_ticks=tuple((_y(v), f"{v:g}") for v in (0.0, 0.25, 0.5, 0.75, 1.0)),
        summary=f"IoU of each section. {ranges}",
    )


def lay_out_reliability(bins: Sequence[ReliabilityBin]) -> Chart | None:
    """Lay out the share of membrane over the probability; None where fewer than two bins hold voxels.

    Examples
    --------
    >>> bins = [ReliabilityBin(voxels=9, probability=p, membrane=p**2) for p in (0.1, 0.5, 0.9)]
    >>> chart = lay_out_reliability(bins)
    >>> [line.name for line in chart.lines]
    ['Model', 'Ideal']
    >>> chart.summary
    'Share of membrane by probability: 0.01 at 0.10, 0.25 at 0.50, 0.81 at 0.90.'
    """
    if len(bins) < 2:
        return None
    named = (
        ("Model", "model", [(one.probability, one.membrane) for one in bins]),
        ("Ideal", "ideal", [(0.0, 0.0), (1.0, 1.0)]),
    )
    lines = []
    for name, kind, values in named:
        points = tuple((_across(p), _y(share)) for p, share in values)
        lines.append(Line(name, kind, points, (_across(1), points[-1][1])))
    found = ", ".join(f"{one.membrane:.2f} at {one.probability:.2f}" for one in bins)
    return Chart(
        lines=tuple(_names_apart(lines)),
        x_ticks=tuple((_across(p / 5), f"{p / 5:g}") for p in range(6)),
        y_ticks=tuple((_y(v), f"{v:g}") for v in (0.0, 0.25, 0.5, 0.75, 1.0)),
        summary=f"Share of membrane by probability: {found}.",
    )


def _names_apart(lines: list[Line]) -> list[Line]:
    # Names closer than a line of text would overlap, so they are moved apart around their middle.
    if len(lines) < 2 or abs(lines[0].end[1] - lines[1].end[1]) >= 14:
        return lines
    upper, lower = sorted(lines, key=lambda line: line.end[1])
    middle = (upper.end[1] + lower.end[1]) / 2
    moved = {upper.kind: middle - 7, lower.kind: middle + 7}
    return [Line(line.name, line.kind, line.points, (line.end[0], moved[line.kind])) for line in lines]


def _ticks(count: int) -> list[int]:
    # Round steps (1, 2, 5, 10, ...) that give at most 12 ticks.
    step = next(s * 10**e for e in range(9) for s in (1, 2, 5) if count / (s * 10**e) <= 12)
    return list(range(0, count, step))


def _x(index: int, count: int) -> float:
    return _across(index / (count - 1))


def _across(share: float) -> float:
    return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def _y(value: float) -> float:
    return round(TOP + (1 - value) * (HEIGHT - TOP - BOTTOM), 1)
