"""The figures of what the nets are made of, and of what judges them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sheet import BLUE, GREEN, GREY, ORANGE, PALE, PURPLE, RED, SKY, Sheet, mixed
from torch.nn import functional as F

from segem.kernels.metrics.contingency import Contingency
from segem.kernels.metrics.iou import Confusion
from segem.kernels.metrics.rand import rand_score
from segem.kernels.metrics.segments import label_cells, thin_segments
from segem.learn.models import upsampling
from segem.learn.models.deeplab_v2 import RATES
from segem.learn.models.patchnet import PATCH_PX, PatchNet
from segem.learn.models.receptive_field import Window


def window() -> Sheet:
    """Draw patches one by one beside the whole section at once."""
    patch = PatchNet()
    maps = [PATCH_PX]
    for convolution in patch.convolutions:
        maps.append((maps[-1] - convolution.kernel_size[0] + 1) // 2)  # type: ignore[union-attr, operator]
    s = Sheet(880, 330, "Sliding window beside dense evaluation")
    s.text(215, 24, "patch by patch", 15, bold=True)
    s.box(20, 50, 170, 170, PALE)
    for shift, colour in ((0, BLUE), (9, RED)):
        s.box(62 + shift, 88, 62, 62, mixed(colour, 0.5), colour, 0.45)
        s.box(91 + shift, 117, 4, 4, colour, colour)
    s.text(105, 240, "section of 512 x 512 pixels", 12)
    s.arrow((200, 135), (240, 135))
    s.label(245, 105, 165, 60, "the net", " → ".join(map(str, [*maps, 1])), fill=mixed(SKY, 0.35), size=12)
    s.arrow((327, 165), (327, 196))
    s.text(327, 214, "one label", 12)
    s.text(215, 272, "262,144 times a window of 95 x 95", 13)
    s.text(215, 292, "two neighbours share 98.9 % of what they read,", 12, fill=GREY)
    s.text(215, 308, "and compute all of it twice", 12, fill=GREY)
    s.text(660, 24, "all pixels at once", 15, bold=True)
    s.box(462, 35, 200, 200, mixed(GREEN, 0.2), GREY)
    s.box(477, 50, 170, 170, PALE)
    s.text(562, 140, "section", 12)
    s.text(562, 255, "with 47 mirrored pixels on each side", 12)
    s.arrow((667, 135), (692, 135))
    s.label(697, 105, 70, 60, "the net,", "once", fill=mixed(SKY, 0.35))
    s.arrow((767, 135), (790, 135))
    s.box(795, 92, 70, 86, mixed(BLUE, 0.4))
    s.text(830, 140, "512 x 512", 12)
    s.text(660, 292, "every convolution is computed once for a pixel;", 12, fill=GREY)
    s.text(660, 308, "same weights, same labels", 12, fill=GREY)
    return s


def fragments() -> Sheet:
    """Draw pooling in one dimension: strided, without stride and with gaps, and as fragments."""
    s = Sheet(880, 330, "Three ways to pool along a row of pixels")
    row = [2, 7, 1, 5, 3, 6, 4, 8, 0]
    x = torch.tensor([[[float(v) for v in row]]])
    dense = [int(v) for v in F.max_pool1d(x, 2, 1)[0, 0]]
    halves = [[int(v) for v in F.max_pool1d(x[..., shift:], 2)[0, 0]] for shift in (0, 1)]
    cell = 27
    pair = (mixed(BLUE, 0.45), mixed(ORANGE, 0.55))

    def line(left: float, top: float, values: Sequence[int], fills: Sequence[str]) -> None:
        s.grid(left, top, cell, [fills], [values])

    panels = (
        ("one window: stride 2", 20),
        ("gaps: stride 1, later kernels skip", 315),
        ("fragments: both starts", 610),
    )
    for title, left in panels:
        s.text(left + 4.5 * cell, 26, title, 14, bold=True)
        line(left, 45, row, [PALE] * 9)
        s.text(left + 4.5 * cell, 92, "max of 2", 12, fill=GREY)
    line(20 + cell / 2, 105, halves[0], [pair[0]] * 4)
    s.text(141, 165, "the pixels in between have no value", 12)
    line(315 + cell / 2, 105, dense, [pair[i % 2] for i in range(8)])
    for i in (1, 3, 5):
        at = 315 + cell / 2 + (i + 0.5) * cell
        s.arrow((at, 134), (315 + cell / 2 + 3.5 * cell, 176))
    s.label(315 + cell / 2 + 2.5 * cell, 180, 2 * cell, 26, "3 taps", size=12)
    s.text(436, 232, "the next kernel takes every second value,", 12)
    s.text(436, 249, "the one after the next pooling every fourth", 12)
    line(610, 105, halves[0], [pair[0]] * 4)
    line(610 + 5 * cell, 105, halves[1], [pair[1]] * 4)
    s.text(731, 165, "two short rows, each an image of its own:", 12)
    s.text(731, 182, "plain kernels, 4 images after one pooling", 12)
    s.text(731, 199, "in the plane, 256 after four;", 12)
    s.text(731, 216, "interleaved again at the end", 12)
    s.text(440, 292, "Blue: what windows at even pixels see. Orange: what those at odd pixels see.", 12, fill=GREY)
    s.text(
        440,
        310,
        "Both dense ways hold the same numbers; one interleaves them at once, the other at the end.",
        12,
        fill=GREY,
    )
    return s


def five_upsamplings() -> Sheet:
    """Draw the matrices that the five ways make of the same four values."""
    small = torch.tensor([[[[4.0, 2.0], [1.0, 5.0]]]])
    pooled = torch.tensor([[[[3.0, 8, 1, 5], [7, 5, 6, 0], [7, 0, 4, 2], [8, 9, 6, 4]]]])
    _, indices = upsampling.max_pool(pooled)
    learned = upsampling.transposed(1, 1)
    learned.weight.data, learned.bias.data = torch.eye(2)[None, None], torch.zeros(1)  # type: ignore[union-attr]
    with torch.no_grad():
        made = [
            ("nearest", upsampling.nearest(small), "every value fills a square"),
            ("bed of nails", upsampling.bed_of_nails(small), "value, then zeros"),
            ("bilinear", upsampling.bilinear(small), "weighted by distance"),
            ("max-unpooling", upsampling.max_unpool(small, indices), "where the maximum was"),
            ("transposed convolution", learned(small), "kernel [[1, 0], [0, 1]], learned"),
        ]
    s = Sheet(900, 470, "Five ways of up-sampling")
    colours = [mixed(c, 0.45) for c in (BLUE, ORANGE, GREEN, PURPLE)]
    s.text(150, 28, "the small map", 14, bold=True)
    s.grid(110, 70, 40, [colours[:2], colours[2:]], [["4", "2"], ["1", "5"]])
    for (title, larger, words), (left, top) in zip(
        made, [(320, 40), (620, 40), (20, 270), (320, 270), (620, 270)], strict=True
    ):
        values = larger[0, 0].tolist()
        plain = title == "bilinear"
        fills = [
            ["white" if v == 0 else (PALE if plain else colours[2 * (i // 2) + j // 2]) for j, v in enumerate(r)]
            for i, r in enumerate(values)
        ]
        s.text(left + 130, top - 12, title, 14, bold=True)
        s.grid(left + 54, top, 38, fills, [[f"{v:g}" for v in r] for r in values])
        s.text(left + 130, top + 172, words, 12, fill=GREY)
    return s


def atrous() -> Sheet:
    """Draw kernels of 3x3 with gaps, and how far they extend."""
    s = Sheet(880, 330, "Dilated kernels")
    left = 20.0
    for rate, cell in ((1, 26), (2, 26), (3, 26)):
        extent = Window(3, dilation=rate).extent
        fills = [
            [mixed(BLUE, 0.8) if i % rate == j % rate == 0 else "white" for j in range(extent)] for i in range(extent)
        ]
        s.text(left + extent * cell / 2, 28, f"r = {rate}", 14, bold=True)
        s.grid(left, 45, cell, fills)
        s.text(left + extent * cell / 2, 62 + extent * cell, f"{extent} x {extent}", 13)
        left += extent * cell + 45
    s.text(690, 50, "k_eff = k + (k - 1)(r - 1)", 16, bold=True)
    s.text(690, 78, "always 9 weights for k = 3", 13, fill=GREY)
    for row, rate in enumerate((*RATES["L"],)):
        extent = Window(3, dilation=rate).extent
        s.text(580, 117 + 36 * row, f"r = {rate}", 13, "end")
        s.box(595, 103 + 36 * row, 4.2 * extent, 20, mixed(ORANGE, 0.6))
        s.text(603 + 4.2 * extent, 118 + 36 * row, f"{extent}", 13, "start")
    s.text(690, 268, "the four dilations of the pyramid of DeepLab v2", 13)
    s.text(690, 286, "(one cell of the map is 8 pixels of the image)", 12, fill=GREY)
    return s


def crf() -> Sheet:
    """Draw what one pixel is told by all others, by either kernel."""
    size, centre = 13, 6
    y, x = np.mgrid[:size, :size]
    image = np.where(np.abs(x - y - 3) < 2, 60.0, 190.0) + 12 * np.sin(3.1 * x + 5.3 * y)
    far = (x - centre) ** 2 + (y - centre) ** 2
    like = np.exp(-far / (2 * 5.0**2) - (image - image[centre, centre]) ** 2 / (2 * 20.0**2))
    near = np.exp(-far / (2 * 1.5**2))
    s = Sheet(880, 330, "The two kernels of the fully connected CRF")
    panels: list[tuple[str, str, NDArray[np.float64], Callable[[float], str]]] = [
        ("the section", "dark: membrane; red: pixel i", image, lambda v: mixed("#000000", 1 - v / 255)),
        ("near and alike: weight w1", "skips the membrane, not what lies beyond", like, lambda v: mixed(BLUE, v)),
        ("near: weight w2", "does not look at the section", near, lambda v: mixed(ORANGE, v)),
    ]
    for number, (title, words, values, colour) in enumerate(panels):
        left = 25 + 290 * number
        s.text(left + 124, 26, title, 14, bold=True)
        s.grid(left, 40, 19, [[colour(float(v)) for v in row] for row in values])
        s.box(left + 19 * centre, 40 + 19 * centre, 19, 19, "none", RED, thick=2.5)
        s.text(left + 124, 308, words, 12, fill=GREY)
    return s


def metric() -> Sheet:
    """Draw a thick wall and a leak: what IoU says and what V_rand says."""
    truth = np.ones((13, 13), np.uint8)
    truth[6, :] = truth[:, 6] = 0
    thick, leaky = truth.copy(), truth.copy()
    thick[5:8, :] = thick[:, 5:8] = 0
    leaky[3, 6] = 1
    s = Sheet(880, 350, "IoU beside V_rand")
    colours = ["#333333", *(mixed(c, 0.45) for c in (BLUE, ORANGE, GREEN, PURPLE))]
    for number, (title, cell) in enumerate(
        (("truth", truth), ("walls too thick", thick), ("one pixel missing", leaky))
    ):
        left = 30 + 290 * number
        segments, cells = label_cells(cell), label_cells(truth)
        # A segment has the colour of the first true cell in it.
        first = [0, *(min(cells[(segments == k) & (cells > 0)]) for k in range(1, segments.max() + 1))]
        s.text(left + 124, 26, title, 14, bold=True)
        s.grid(left, 40, 19, [[colours[first[v]] for v in row] for row in segments.tolist()])
        if number:
            iou = Confusion.count(1 - truth, 1 - cell).iou
            rand = rand_score(Contingency.count(label_cells(truth), thin_segments(cell))).value
            s.text(left + 124, 312, f"IoU {iou:.3f}, V_rand {rand:.3f}", 14, bold=True)
        else:
            s.text(left + 124, 312, "four cells, walls of one pixel", 12, fill=GREY)
    s.text(600, 338, "cells of the same colour are one segment", 12, fill=GREY)
    return s
