"""The picture of a learning curve: an SVG file that any browser shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log2

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 56, 24, 44, 52
COLOURS = ("#0062cc", "#b04a00", "#1a7f37", "#8250df")


@dataclass(frozen=True)
class Series:
    """What is drawn in one colour."""

    name: str
    points: tuple[tuple[int, float], ...]
    """Number of sections and IoU of each training."""
    line: tuple[tuple[float, float, float, float], ...]
    """Number of sections, IoU, and the ends of its interval; nothing where no curve could be fitted."""


def draw(series: Sequence[Series]) -> str:
    """Return the picture of some series, each with its points, its curve and the interval of the curve.

    The number of sections is drawn on a scale on which doubling is a step.

    Examples
    --------
    >>> text = draw([Series("scratch", ((1, 0.5), (2, 0.6)), ())])
    >>> text.count("<circle"), "scratch" in text
    (2, True)
    """
    most = max([n for one in series for n, _ in one.points] + [row[0] for one in series for row in one.line])
    values = [iou for one in series for _, iou in one.points] + [
        v for one in series for row in one.line for v in row[2:]
    ]
    low, high = floor(max(0.0, min(values)) * 20) / 20, ceil(min(1.0, max(values)) * 20) / 20
    high = max(high, low + 0.05)

    def x(sections: float) -> float:
        return round(LEFT + log2(sections) / max(log2(most), 1) * (WIDTH - LEFT - RIGHT), 1)

    def y(iou: float) -> float:
        return round(TOP + (high - min(max(iou, low), high)) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="system-ui, DejaVu Sans, sans-serif" font-size="13" fill="#59616e" role="img">',
        "<title>Membrane IoU on the test sections by the number of sections learned from</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
    ]
    steps = round((high - low) * 20)
    for step in range(0, steps + 1, max(1, ceil(steps / 8))):
        value = low + step / 20
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value)}" y2="{y(value)}" stroke="#dde1e7"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(value) + 4}" text-anchor="end">{value:.2f}</text>')
    parts += [
        f'<text x="{x(2**power)}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{2**power}</text>'
        for power in range(floor(log2(most)) + 1)
    ]
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 10}" text-anchor="middle">sections learned from</text>')
    parts.append(f'<text x="8" y="{TOP - 14}">membrane IoU</text>')
    for turn, one in enumerate(series):
        colour = COLOURS[turn % len(COLOURS)]
        if one.line:
            there = " ".join(f"{x(n)},{y(above)}" for n, _, _, above in one.line)
            back = " ".join(f"{x(n)},{y(below)}" for n, _, below, _ in reversed(one.line))
            curve = " ".join(f"{x(n)},{y(value)}" for n, value, _, _ in one.line)
            parts.append(f'<polygon points="{there} {back}" fill="{colour}" opacity="0.15"/>')
            parts.append(f'<polyline points="{curve}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x(n)}" cy="{y(iou)}" r="3.5" fill="{colour}"/>' for n, iou in one.points]
        # Curves rise to the right, so there is room below them.
        name_y = HEIGHT - BOTTOM - 12 - 18 * (len(series) - 1 - turn)
        parts.append(
            f'<text x="{WIDTH - RIGHT - 8}" y="{name_y}" text-anchor="end" fill="{colour}" font-weight="600">'
            f"{escape(one.name)}</text>"
        )
    return "\n".join([*parts, "</svg>", ""])
