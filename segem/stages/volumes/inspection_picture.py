"""The picture of `segem inspect`: the first, middle and last section side by side, with labels or membrane."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from segem.kernels.pictures import draw_outlines, draw_overlay, find_shrink_factor, stretch_contrast
from segem.kernels.truth import is_membrane

PANEL_PX = 512
MARGIN_PX, LINE_PX = 12, 20
INK = (60, 64, 72)
FONT = ImageFont.load_default(size=13)


@dataclass(frozen=True)
class ShownSection:
    """A section to show."""

    name: str
    z: int
    raw: NDArray[Any]
    labels: NDArray[Any] | None
    as_truth: bool = False
    """Whether the labels are truth by now: 1 on membrane."""


def draw_inspection(sections: Sequence[ShownSection], black: float, white: float) -> bytes:
    """Draw sections side by side, all with one contrast.

    Parameters
    ----------
    sections : sequence of ShownSection
        At least one.
    black, white : float
        Intensities that are drawn so: the 1st and the 99th percentile.

    Returns
    -------
    bytes
        A PNG.
    """
    panels = [_draw_panel(one, black, white) for one in sections]
    # Small sections are enlarged, so that their captions fit.
    times = max(1, round(PANEL_PX / max(panels[0].shape[:2])))
    height, width = (n * times for n in panels[0].shape[:2])
    column = max(width, PANEL_PX // 2)
    picture = Image.new(
        "RGB", (len(panels) * (column + MARGIN_PX) + MARGIN_PX, height + 2 * LINE_PX + 2 * MARGIN_PX), "white"
    )
    draw = ImageDraw.Draw(picture)
    for turn, (one, panel) in enumerate(zip(sections, panels, strict=True)):
        left = MARGIN_PX + turn * (column + MARGIN_PX)
        draw.text((left, MARGIN_PX), _fit(f"z {one.z}: {Path(one.name).name}", column), fill=INK, font=FONT)
        enlarged = np.repeat(np.repeat(panel, times, axis=0), times, axis=1)
        picture.paste(Image.fromarray(enlarged).convert("RGB"), (left, MARGIN_PX + LINE_PX))
    what = "black is the 1st percentile of the intensities, white the 99th"
    if any(one.labels is not None for one in sections):
        what += "; teal: membrane by the labels" if sections[0].as_truth else "; orange: borders of the labels"
    draw.text((MARGIN_PX, MARGIN_PX + LINE_PX + height + 4), what, fill=INK, font=FONT)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def _draw_panel(one: ShownSection, black: float, white: float) -> NDArray[np.uint8]:
    factor = find_shrink_factor(one.raw.shape, PANEL_PX)
    grey = stretch_contrast(one.raw, black, white, factor)
    if one.labels is None:
        return grey
    # Outlines are alike whichever side is membrane: where it is known, the side is shown.
    return (
        draw_overlay(grey, is_membrane(one.labels), factor) if one.as_truth else draw_outlines(grey, one.labels, factor)
    )


def _fit(text: str, width: int) -> str:
    while len(text) > 1 and FONT.getlength(text) > width:
        text = text[:-2].rstrip("…") + "…"
    return text
