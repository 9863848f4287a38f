"""Pictures of trainings: how one is going, and what more labelled sections bring."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log2
from textwrap import wrap

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from segem.kernels.pictures import draw_membrane, find_shrink_factor, stretch_contrast
from segem.learn.sections import LabelledSection
from segem.learn.watch import Snapshot

PANEL_PX, CHART_PX = 400, 220
"""Of `draw_training`: edge of a panel and height of the chart."""
MARGIN_PX, AXIS_PX, GAP_PX, LINE_PX = 16, 56, 8, 20
"""Room around all, for the numbers of an axis, between panels, and for a line of text."""
LOSS, IOU, INK, GRID = (176, 74, 0), (0, 98, 204), (60, 64, 72), (221, 225, 231)
FONT = ImageFont.load_default(size=13)
WHY_A_LOSS_RISES = (
    "Loss: running average over about 50 steps of random, augmented crops, in which thin membranes count more. It "
    "rises for a while when harder crops are drawn, and in the first half of a fine-tuning, while the learning rate is "
    "high. IoU: of the averaged weights, at the threshold that suits best; it says how good the model is. If it keeps "
    "falling while the loss rises, try a lower --learning-rate."
)

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 56, 24, 44, 52
COLOURS = ("#0062cc", "#b04a00", "#1a7f37", "#8250df")
"""Of `draw_learning_curve`."""


def draw_training(section: LabelledSection, probability: NDArray[np.float32], history: Sequence[Snapshot]) -> bytes:
    """Draw a validation section beside its truth and what is found there, and below how the training went.

    Parameters
    ----------
    section : LabelledSection
        A section that validates.
    probability : (H, W) float32
        What the net finds there.
    history : sequence of Snapshot
        What was reached so far.

    Returns
    -------
    bytes
        A PNG.
    """
    factor = find_shrink_factor(section.truth.shape, PANEL_PX)
    # Z-scores beyond 2.5 are rare, and black or white here.
    image = stretch_contrast(_levels(section.image[len(section.image) // 2], -2.5, 2.5), 0, 255, factor)
    panels = [
        (f"validation section of {section.volume}", image),
        ("its labels: membrane black", draw_membrane(section.truth, factor)),
        ("membrane found: black = certain", stretch_contrast(_levels(-probability, -1, 0), 0, 255, factor)),
    ]
    # Small sections are enlarged, so that their captions fit.
    times = max(1, round(PANEL_PX / max(image.shape)))
    height, width = (n * times for n in image.shape)
    width = max(width, PANEL_PX // 2)
    inner = 3 * width + 2 * GAP_PX
    caption = wrap(WHY_A_LOSS_RISES, width=max(40, int(inner / 6.6)))
    chart_top = MARGIN_PX + LINE_PX + height + GAP_PX + LINE_PX
    caption_top = chart_top + CHART_PX + 2 * LINE_PX + GAP_PX
    picture = Image.new("RGB", (inner + 2 * MARGIN_PX, caption_top + LINE_PX * len(caption) + MARGIN_PX), "white")
    draw = ImageDraw.Draw(picture)
    for turn, (title, panel) in enumerate(panels):
        left = MARGIN_PX + turn * (width + GAP_PX)
        draw.text((left, MARGIN_PX), _fit(title, width), fill=INK, font=FONT)
        enlarged = Image.fromarray(np.repeat(np.repeat(panel, times, axis=0), times, axis=1))
        picture.paste(enlarged, (left, MARGIN_PX + LINE_PX))
    if history:
        frame = (MARGIN_PX + AXIS_PX, chart_top, picture.width - MARGIN_PX - AXIS_PX, chart_top + CHART_PX)
        _draw_history(draw, frame, history)
    for turn, line in enumerate(caption):
        draw.text((MARGIN_PX, caption_top + turn * LINE_PX), line, fill=INK, font=FONT)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def choose_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return round numbers from at or below `low` to at or above `high`, at least two and about as many as asked for.

    Examples
    --------
    >>> choose_ticks(0.33, 0.72), choose_ticks(0, 47)
    ([0.3, 0.4, 0.5, 0.6, 0.7, 0.8], [0.0, 10.0, 20.0, 30.0, 40.0, 50.0])
    """
    # A curve of one point, or one that is flat to the digits that are shown, still needs an axis.
    span = high - low if high - low > 1e-5 else 0.1
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * times for times in (1, 2, 5, 10) if span / (power * times) <= most)
    first, last = math.floor(low / step + 1e-6), math.ceil((low + span) / step - 1e-6)
    return [round(number * step, 6) for number in range(first, last + 1)]


def _draw_history(draw: ImageDraw.ImageDraw, frame: tuple[int, int, int, int], history: Sequence[Snapshot]) -> None:
    """Draw loss and validation IoU over the minutes, each with an axis of its own, into a frame (x0, y0, x1, y1)."""
    left, top, right, bottom = frame
    last = history[-1]
    minutes = [one.seconds / 60 for one in history]
    losses, ious = [one.loss for one in history], [one.validation_iou for one in history]
    across = choose_ticks(0, max(minutes))

    def x(value: float) -> float:
        return left + (right - left) * value / across[-1]

    draw.rectangle(frame, outline=GRID)
    for tick in across:
        draw.text((x(tick), bottom + 4), f"{tick:g}", fill=INK, font=FONT, anchor="ma")
    draw.text(
        ((left + right) / 2, bottom + LINE_PX),
        f"minutes of training (step {last.step:,})",
        fill=INK,
        font=FONT,
        anchor="ma",
    )
    axes = (
        (LOSS, losses, f"loss, {last.loss:.3f} now", left - 6, "rm", left, "ls"),
        (IOU, ious, f"validation IoU, {last.validation_iou:.3f} now", right + 6, "lm", right, "rs"),
    )
    for colour, values, name, tick_x, tick_anchor, name_x, name_anchor in axes:
        ticks = choose_ticks(min(values), max(values), 5)

        def y(value: float, ticks: list[float] = ticks) -> float:
            return bottom - (bottom - top) * (value - ticks[0]) / (ticks[-1] - ticks[0])

        for tick in ticks:
            draw.text((tick_x, y(tick)), f"{tick:.4g}", fill=colour, font=FONT, anchor=tick_anchor)
            if colour == IOU:
                draw.line([(left, y(tick)), (right, y(tick))], fill=GRID)
        draw.text((name_x, top - 6), name, fill=colour, font=FONT, anchor=name_anchor)
        points = [(x(at), y(value)) for at, value in zip(minutes, values, strict=True)]
        draw.line([*points, points[-1]], fill=colour, width=2)
        for at in points:
            draw.ellipse((at[0] - 2, at[1] - 2, at[0] + 2, at[1] + 2), fill=colour)


def _fit(text: str, width: int) -> str:
    """Return a text, cut where it is wider than so many pixels."""
    while len(text) > 1 and FONT.getlength(text) > width:
        text = text[:-2].rstrip("…") + "…"
    return text


def _levels(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.uint8]:
    levels: NDArray[np.uint8] = np.rint(255 * np.clip((values - low) / (high - low), 0, 1)).astype(np.uint8)
    return levels


@dataclass(frozen=True)
class Series:
    """What is drawn in one colour."""

    name: str
    points: tuple[tuple[int, float], ...]
    """Number of sections and IoU of each training."""
    line: tuple[tuple[float, float, float, float], ...]
    """Number of sections, IoU, and the ends of its interval; nothing where no curve could be fitted."""


def draw_learning_curve(series: Sequence[Series]) -> str:
    """Return the picture of some series, each with its points, its curve and the interval of the curve.

    The number of sections is drawn on a scale on which doubling is a step.

    Examples
    --------
    >>> text = draw_learning_curve([Series("scratch", ((1, 0.5), (2, 0.6)), ())])
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
