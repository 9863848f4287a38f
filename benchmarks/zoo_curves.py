"""Draws learning curves as SVG: who has learned what after which minute, and who was still learning."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

WIDTH, HEIGHT, LEFT, TOP, NAMES = 900, 520, 60, 20, 240
COLOURS = ("#1b6ca8", "#d1495b", "#2e933c", "#8e5ea2", "#c77d0a", "#3c3c3c", "#12908e", "#a23b72")
DASHES = ("", "7 3", "2 3")
TICKS = (1, 2, 5, 10, 20, 40, 90)


def draw_curves(curves: Mapping[str, Sequence[tuple[float, int, float]]]) -> str:
    """Return learning curves as an SVG image.

    Parameters
    ----------
    curves : mapping of str to sequence of (minutes, steps, IoU)
        Of each net, in the order of time.

    Returns
    -------
    str

    Examples
    --------
    >>> drawn = draw_curves({"unet": [(0.5, 10, 0.2), (20, 400, 0.7)]})
    >>> drawn.count("<polyline"), "unet 0.700" in drawn
    (1, True)
    """
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif"'
        ' font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
    ]
    right, bottom = WIDTH - NAMES, HEIGHT - 50
    for tick in TICKS:
        x = _across(tick, right)
        lines.append(f'<path d="M{x:.0f} {TOP}V{bottom}" stroke="#e4e4e4"/>')
        lines.append(f'<text x="{x:.0f}" y="{bottom + 18}" text-anchor="middle">{tick}</text>')
    for tenth in range(8):
        y = _down(tenth / 10, bottom)
        lines.append(f'<path d="M{LEFT} {y:.0f}H{right}" stroke="#e4e4e4"/>')
        lines.append(f'<text x="{LEFT - 8}" y="{y + 4:.0f}" text-anchor="end">{tenth / 10:.1f}</text>')
    middle = (LEFT + right) / 2
    lines.append(f'<text x="{middle:.0f}" y="{HEIGHT - 10}" text-anchor="middle">minutes of one core</text>')
    lines.append(f'<text x="{LEFT + 6}" y="{TOP + 12}">IoU on the validation sections</text>')
    # Best first, so that the names stand roughly where the curves end.
    for place, name in enumerate(sorted(curves, key=lambda name: -curves[name][-1][2])):
        colour, dash = COLOURS[place % len(COLOURS)], DASHES[place // len(COLOURS) % len(DASHES)]
        stroke = f'stroke="{colour}" stroke-width="1.8" stroke-dasharray="{dash}"'
        points = " ".join(f"{_across(m, right):.1f},{_down(iou, bottom):.1f}" for m, _, iou in curves[name])
        lines.append(f'<polyline points="{points}" fill="none" {stroke}/>')
        # Nothing is known between two looks.
        lines += [
            f'<circle cx="{x}" cy="{y}" r="2" fill="{colour}"/>' for x, y in (p.split(",") for p in points.split())
        ]
        y = TOP + 14 + 22 * place
        lines.append(f'<path d="M{right + 14} {y - 4}h24" {stroke}/>')
        lines.append(f'<text x="{right + 44}" y="{y}">{name} {curves[name][-1][2]:.3f}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def _across(minutes: float, right: int) -> float:
    """Return where a minute lies; equal steps across are equal factors of time, from half a minute on."""
    share = math.log(max(minutes, 0.5) / 0.5) / math.log(TICKS[-1] / 0.5)
    return LEFT + min(share, 1.0) * (right - LEFT)


def _down(iou: float, bottom: int) -> float:
    return bottom - min(iou, 0.8) / 0.8 * (bottom - TOP)
