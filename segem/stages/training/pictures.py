"""A training in one picture: a section, its truth and what the net finds there, above the curve of what it reached."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from segem.kernels.pictures import grey, membrane_picture, reduction
from segem.learn.sections import LabelledSection
from segem.learn.watch import Point

PANEL_PX, CURVE_PX, MARGIN_PX = 400, 160, 24
LOSS, IOU = (150, 150, 150), (0, 110, 230)


def training_picture(section: LabelledSection, probability: NDArray[np.float32], points: Sequence[Point]) -> bytes:
    """Draw a validation section beside its truth and what is found there, and below how the training went.

    Parameters
    ----------
    section : LabelledSection
        A section that validates.
    probability : (H, W) float32
        What the net finds there.
    points : sequence of Point
        What was reached so far.

    Returns
    -------
    bytes
        A PNG.
    """
    factor = reduction(section.truth.shape, PANEL_PX)
    panels = (
        # Z-scores beyond 2.5 are rare, and black or white here.
        grey(_levels(section.image[len(section.image) // 2], -2.5, 2.5), 0, 255, factor),
        membrane_picture(section.truth, factor),
        grey(_levels(-probability, -1, 0), 0, 255, factor),
    )
    height, width = panels[0].shape
    picture = Image.new("RGB", (3 * width + 2, height + CURVE_PX + 2 * MARGIN_PX), "white")
    for turn, panel in enumerate(panels):
        picture.paste(Image.fromarray(panel), (turn * (width + 1), 0))
    draw = ImageDraw.Draw(picture)
    top, right = height + MARGIN_PX, picture.width - MARGIN_PX
    draw.rectangle((MARGIN_PX, top, right, top + CURVE_PX), outline=(220, 220, 220))
    if points:
        last, highest = points[-1], max(point.loss for point in points) or 1.0
        curves = (
            (LOSS, f"loss {last.loss:.3f}", [point.loss / highest for point in points]),
            (IOU, f"validation IoU {last.validation_iou:.3f}", [point.validation_iou for point in points]),
        )
        for turn, (colour, name, values) in enumerate(curves):
            ends = [
                (
                    MARGIN_PX + (right - MARGIN_PX) * point.seconds / (last.seconds or 1.0),
                    top + CURVE_PX * (1 - value),
                )
                for point, value in zip(points, values, strict=True)
            ]
            draw.line([*ends, ends[-1]], fill=colour, width=2)
            draw.text((MARGIN_PX + turn * width, top - 16), name, fill=colour)
        draw.text((MARGIN_PX, top + CURVE_PX + 4), f"step {last.step}, {last.seconds / 60:.1f} min", fill=(60, 60, 60))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def _levels(values: NDArray[np.float32], low: float, high: float) -> NDArray[np.uint8]:
    levels: NDArray[np.uint8] = np.rint(255 * np.clip((values - low) / (high - low), 0, 1)).astype(np.uint8)
    return levels
