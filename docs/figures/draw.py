"""Draws the figures of docs/explanation/zoo.md from the nets themselves.

    .venv/bin/python docs/figures/draw.py

Sizes of maps, numbers of channels, dilations, matrices and scores are asked of segem's own code; nets are built without
weights, so it takes seconds. A test fails when a figure here is not what this script draws.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ideas import atrous, crf, five_upsamplings, fragments, metric, window
from nets import aspp, convolutional, fcn, unet, v3_head
from sheet import Sheet

FIGURES: dict[str, Callable[[], Sheet]] = {
    "window": window,
    "fragments": fragments,
    "upsampling": five_upsamplings,
    "unet": unet,
    "convolutional": convolutional,
    "fcn": fcn,
    "atrous": atrous,
    "aspp": aspp,
    "v3": v3_head,
    "crf": crf,
    "metric": metric,
}

if __name__ == "__main__":
    for name, draw in FIGURES.items():
        (Path(__file__).parent / f"{name}.svg").write_text(draw().svg(), encoding="utf-8")
