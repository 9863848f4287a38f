"""Counts how often the intervals of a report hold the truth, on simulated volumes whose true scores are known.

    .venv/bin/python benchmarks/intervals.py [--volumes 2000] [--pairs 1000] [--only patches]

Two simulations. Both are stacks of 50 nm sections at 32 nm a pixel, with
closed membranes that drift from section to section, and errors where the tissue is hard to read:

``patches``  tissue is hard in smooth patches some 600 nm wide, which go on for about 8 sections; there, membrane is
             lost and false membrane appears beside it, in spots that last 2 sections.
``events``   errors are events at random places: a stretch of membrane faints or thickens within 60 to 260 nm of a
             point, for 1 to 20 sections; events come in clusters, and one section in 12 is worse as a whole.

Of each simulation it prints how alike the errors of neighbouring blocks are, to be compared with real ones (see `Grid`
in segem/kernels/pieces.py: .3 to .4 at 512 nm, about .1 at 1024 nm). The true score is that of all simulated volumes
together. Runs that are compared see the same tissue, and share nine tenths of what they make of it.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from machine import provenance
from numpy.typing import NDArray

from segem.kernels.bootstrap import count_tiles
from segem.kernels.intervals import POOLED, bound_mean, bound_pooled, compare_means, compare_pooled
from segem.kernels.metrics.segmentation import SegmentationSums
from segem.kernels.pieces import Grid
from segem.records.intervals import Interval, TooFew

PIXEL_NM, SECTION_NM = 32.0, 50.0
SMALL, LARGE = (24, 64, 64), (20, 128, 128)
"""2 x 2 x 1.2 micrometres, as the stack of ISBI 2012, and 4 x 4 x 1, as 20 sections of 1024 x 1024 at 4 nm."""
FEW_SECTIONS = 8
LONGEST, REACH = 20, 24
"""Of an event, in sections; and how far it can come from, in sections or pixels."""

Shape = tuple[int, int, int]
Mask = NDArray[np.uint8]
Field = NDArray[np.float32]
Volume = tuple[Mask, Mask, Mask]
"""Truth, and the masks of two runs of which the second is worse by what was asked for."""
Simulate = Callable[[np.random.Generator, Shape, float], Volume]


def main() -> None:
    """Print coverage of the intervals, and what is found of differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volumes", type=int, default=2000)
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--only", choices=list(SIMULATIONS))
    arguments = parser.parse_args()
    print(provenance())
    for name in [arguments.only] if arguments.only else SIMULATIONS:
        for shape in (SMALL, LARGE):
            count = arguments.volumes if shape == SMALL else arguments.volumes // 4
            print(f"{name}, {count} volumes of {shape}: {cover(SIMULATIONS[name], shape, count)}", flush=True)
        for worse in (0.0, WORSE[name]):
            print(f"{name}, {arguments.pairs} pairs: {find(SIMULATIONS[name], arguments.pairs, worse)}", flush=True)


def simulate_patches(rng: np.random.Generator, shape: Shape, worse: float = 0.0) -> Volume:
    """Return a volume whose errors gather in smooth patches of hard tissue."""
    ridges = _drift(_draw_field(rng, shape, 4.5), 0.95)
    truth, beside = np.abs(ridges) < 0.35, np.abs(ridges) < 0.8
    hard = _drift(_draw_field(rng, shape, 9), 0.88)
    made = []
    for spots, threshold in zip(_draw_spots(rng, shape), (1.1, 1.1 - worse), strict=True):
        strength = (1.3 * hard + spots) / np.hypot(1.3, 1)
        made.append((truth & (strength < threshold)) | (beside & ~truth & (strength > threshold + 0.1)))
    return _as_masks(truth, *made)


def simulate_events(rng: np.random.Generator, shape: Shape, worse: float = 0.0) -> Volume:
    """Return a volume whose errors are clustered events of many sizes, and in which some sections are worse."""
    first = _drift(_draw_field(rng, shape, 6), 0.9)
    truth = np.abs(first + 0.4 * _drift(_draw_field(rng, shape, 2.5), 0.8)) < 0.3
    beside = np.abs(first) < 0.9
    spots = _draw_spots(rng, shape)
    depth, height, width = shape
    hard = np.zeros(shape, np.float32)
    y, x = np.ogrid[:height, :width]
    # Beyond the volume too, as far as an event reaches: otherwise its first sections and its borders would have fewer.
    extent = np.array(shape) + 2 * REACH
    for centre in rng.random((rng.poisson(extent.prod() / 4800), 3)) * extent - REACH:
        for _ in range(rng.geometric(0.4)):
            start, cy, cx = centre + rng.normal(0, (2, 5, 5))
            first_z, lasts, size = round(start), min(rng.geometric(0.15), LONGEST), rng.uniform(2, 8)
            sections = slice(max(0, first_z), max(0, first_z + lasts))
            hard[sections] += 1.6 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * size**2))
    hard += (rng.random((depth, 1, 1)) < 1 / 12) * 0.4
    made = []
    for spot, threshold in zip(spots, (1.9, 1.9 - worse), strict=True):
        made.append((truth & (hard + spot < threshold)) | (beside & ~truth & (hard - spot > threshold + 0.3)))
    return _as_masks(truth, *made)


SIMULATIONS: dict[str, Simulate] = {"patches": simulate_patches, "events": simulate_events}
WORSE = {"patches": 0.028, "events": 0.039}
"""What makes the second run worse by about .01 IoU."""


@dataclass
class Found:
    """What is told of one volume after the other."""

    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(3, np.int64))
    sections: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    intervals: dict[str, list[Interval | TooFew]] = field(default_factory=lambda: defaultdict(list))
    blocks: list[NDArray[np.int64]] = field(default_factory=list)


def cover(simulate: Simulate, shape: Shape, count: int) -> str:
    """Return how often the intervals of many volumes hold the true scores."""
    grid, found = Grid.cut(shape, (SECTION_NM, PIXEL_NM, PIXEL_NM)), Found()
    for seed in range(count):
        truth, mask, _ = simulate(np.random.default_rng(seed), shape, 0.0)
        blocks = _count_blocks(grid, truth, mask)
        scores = _score_sections(truth, mask)
        found.counts += blocks.sum(axis=(0, 1, 2))
        found.blocks.append(blocks)
        for name, interval in bound_pooled(blocks, grid.edge_nm).items():
            found.intervals[name].append(interval)
        for sections in (FEW_SECTIONS, len(scores)):
            found.intervals[f"v_rand of {sections} sections"].append(bound_mean(scores[:sections]))
            found.sections[sections].append(float(scores[:sections].mean()))
    true = {name: float(score(found.counts)) for name, score in POOLED.items()}
    true |= {f"v_rand of {sections} sections": float(np.mean(means)) for sections, means in found.sections.items()}
    told = [f"{name} {true[name]:.3f} {_share(found.intervals[name], true[name])}" for name in true]
    return f"{_describe_likeness(found, true['iou'])}; held: {', '.join(told)}"


def find(simulate: Simulate, count: int, worse: float) -> str:
    """Return in how many pairs of runs a difference of IoU and of V_rand is found, and how large it is."""
    grid = Grid.cut(LARGE, (SECTION_NM, PIXEL_NM, PIXEL_NM))
    pooled = [np.zeros(3, np.int64), np.zeros(3, np.int64)]
    iou: list[Interval | TooFew] = []
    v_rand: list[Interval | TooFew] = []
    for seed in range(count):
        truth, *masks = simulate(np.random.default_rng(10_000 + seed), LARGE, worse)
        first, second = (_count_blocks(grid, truth, mask) for mask in masks)
        for total, blocks in zip(pooled, (first, second), strict=True):
            total += blocks.sum(axis=(0, 1, 2))
        iou.append(compare_pooled(first, second, grid.edge_nm)["iou"])
        v_rand.append(compare_means(*(_score_sections(truth, mask) for mask in masks)))
    difference = float(POOLED["iou"](pooled[0]) - POOLED["iou"](pooled[1]))
    told = ", ".join(f"{name}: {_tell_signs(found)}" for name, found in (("IoU", iou), ("V_rand", v_rand)))
    return f"of {LARGE} that differ by {difference:.4f} IoU: found {told}; {_share(iou, difference)} hold it"


def _count_blocks(grid: Grid, truth: Mask, mask: Mask) -> NDArray[np.int64]:
    tiles = np.stack([count_tiles(a, b, grid.tile_px) for a, b in zip(truth, mask, strict=True)])
    return grid.add_up(tiles, (truth.shape[1], truth.shape[2]))


def _score_sections(truth: Mask, mask: Mask) -> NDArray[np.float64]:
    sums = (SegmentationSums.count(a, b * np.uint8(255)) for a, b in zip(truth, mask, strict=True))
    return np.array([score.value for one in sums if (score := one.best("rand"))])


def _tell_signs(intervals: list[Interval | TooFew]) -> str:
    known = _known(intervals)
    better, worse = np.mean([one.low > 0 for one in known]), np.mean([one.high < 0 for one in known])
    return f"better {better:.1%}, worse {worse:.1%}"


def _share(intervals: list[Interval | TooFew], true: float) -> str:
    known = _known(intervals)
    held = np.mean([one.low <= true <= one.high for one in known]) if known else np.nan
    width = np.mean([one.high - one.low for one in known]) if known else np.nan
    return f"{held:.1%} (width {width:.3f})"


def _known(intervals: list[Interval | TooFew]) -> list[Interval]:
    return [one for one in intervals if isinstance(one, Interval)]


def _describe_likeness(found: Found, iou: float) -> str:
    """Return the correlation of the errors of neighbouring blocks, around the true score."""
    shares = np.array([blocks[0, ..., 0] - iou * blocks[0].sum(axis=-1) for blocks in found.blocks])
    both = (shares[:, 1:] * shares[:, :-1]).mean() + (shares[..., 1:] * shares[..., :-1]).mean()
    return f"neighbouring blocks {both / 2 / (shares**2).mean():.2f}"


def _draw_field(rng: np.random.Generator, shape: Shape, length_px: float) -> Field:
    """Return a smooth random field of unit variance for each section, each by itself."""
    depth, height, width = shape
    # Half as large again, since what leaves such a field on one side comes back on the other.
    padded = (height + height // 2, width + width // 2)
    y, x = np.fft.fftfreq(padded[0])[:, np.newaxis], np.fft.rfftfreq(padded[1])
    weight = np.exp(-((np.pi * length_px) ** 2) * (y**2 + x**2))
    noise = rng.standard_normal((depth, *padded), dtype=np.float32)
    smooth = np.fft.irfft2(np.fft.rfft2(noise) * weight, s=padded)
    full = np.exp(-2 * (np.pi * length_px) ** 2 * (y**2 + np.fft.fftfreq(padded[1]) ** 2))
    drawn: Field = (smooth / np.sqrt(full.mean()))[:, :height, :width].astype(np.float32)
    return drawn


def _drift(sections: Field, alike: float) -> Field:
    """Return sections that go on from one to the next, with this correlation."""
    drifted = sections.copy()
    for z in range(1, len(drifted)):
        drifted[z] = alike * drifted[z - 1] + np.sqrt(1 - alike**2) * sections[z]
    return drifted


def _draw_spots(rng: np.random.Generator, shape: Shape) -> tuple[Field, Field]:
    shared, first, second = (_drift(_draw_field(rng, shape, 1.5), 0.5) for _ in range(3))
    return np.sqrt(0.9) * shared + np.sqrt(0.1) * first, np.sqrt(0.9) * shared + np.sqrt(0.1) * second


def _as_masks(truth: NDArray[np.bool_], first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Volume:
    return truth.astype(np.uint8), first.astype(np.uint8), second.astype(np.uint8)


if __name__ == "__main__":
    main()
