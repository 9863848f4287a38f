"""Breaks the tiling of a model on purpose, and counts how often that is found; and how often in whole runs.

    .venv/bin/python benchmarks/seams.py --data-root DIR [--model unet-em] [--synthetic 150] [--crops 20] [--faulty 5]

Real inference, tile by tile as the engine does it, on crops of 3 sections of 512 x 512 with tiles of 128, and on
synthetic stacks of 2 sections with tiles of 256. Each fault is made here, where the tiles are put together: none of it
is in the product. Two things are asked of each: whether a seam shows in the output (`segem.kernels.metrics.seam`), and
whether as many places as a segmentation computes anew at its end are what is stored
(`segem.stages.segmentation.recompute`). Beside each fault stands what it changes of the stored probability, in its 256
levels: what changes nothing there cannot be found.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial, reduce
from pathlib import Path
from typing import Literal

import numpy as np
from machine import provenance
from numpy.typing import NDArray
from torch.nn import Module

from segem.config import SynthConfig
from segem.geometry import ZYX, Box, Halo
from segem.io.readers import open_stack
from segem.io.tissue import Tissue
from segem.kernels.metrics.seam import Seams, SeamSums
from segem.kernels.normalize import IntensityStatistics, histogram
from segem.kernels.synth import synthesize
from segem.kernels.threshold import quantize_probability
from segem.learn.artefact import Artefact, find_model, geometry_of, load_net
from segem.learn.engine import Engine, choose_device, tile_channels
from segem.learn.predict import predict_section
from segem.plan import Block, Plan, Tile, blend_tiling, crop_tiling
from segem.records.seams import Recomputed, SeamAudit
from segem.stages.segmentation.places import choose_places
from segem.stages.segmentation.plain import PlainModel
from segem.stages.segmentation.recompute import FEWEST, FEWEST_TILED, ROUNDING, compare_place

SECTIONS, SYNTHETIC_SECTIONS = 3, 2
STACKS = ("isbi2012/train-volume.tif", "isbi2012/test-volume.tif", "vnc/stack1/raw", "vnc/stack2/raw", "snemi/ac4/raw")

AXES: tuple[Literal[1, 2], ...] = (1, 2)
Voxels = NDArray[np.uint8]
Map = NDArray[np.float32]


@dataclass(frozen=True)
class Made:
    """A stored probability, and whether its tiles show: in itself, and beside what was computed anew."""

    probability: Voxels
    audit: SeamAudit
    recomputed: Recomputed


@dataclass(frozen=True)
class Making:
    """How tiles are computed and put together; the defaults are right."""

    shorter_px: int = 0
    """Pixels that the halo lacks."""
    own_statistics: bool = False
    input_gain: float = 0.0
    """Every second tile, like the squares of a chessboard, is brighter by this share."""
    output_gain: float = 0.0
    shift_px: int = 0
    """One tile of each section lies so far to the right."""
    window: str | None = None


FAULTS: dict[str, Making] = {
    "per-tile normalisation": Making(own_statistics=True),
    "halo short by 8 px": Making(shorter_px=8),
    "halo short by 16 px": Making(shorter_px=16),
    "halo short by 32 px": Making(shorter_px=32),
    "halo short by 64 px": Making(shorter_px=64),
    "no halo": Making(shorter_px=96),
    "constant blending": Making(window="constant"),
    "shift by 1 px": Making(shift_px=1),
    "gain of 3 % before the net": Making(input_gain=0.03),
    "gain of 3 % of the probability": Making(output_gain=0.03),
}


def main() -> None:
    """Print a line for each fault, and one for the runs that are whole."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--model", default="unet-em", help="name, or path of a model's folder")
    parser.add_argument("--synthetic", type=int, default=150, help="synthetic stacks that are computed rightly")
    parser.add_argument("--crops", type=int, default=20, help="real crops that are computed rightly")
    parser.add_argument("--faulty", type=int, default=5, help="real crops that each fault is made in")
    arguments = parser.parse_args()
    artefact = find_model(arguments.model)
    print(provenance())
    print("| fault | shows | computed anew | either | ratio | off at a place, at most | changes of what is stored |")
    print("|---" * 7 + "|")
    with Engine(load_net(artefact), choose_device("cpu"), geometry_of(artefact.card).context_sections) as engine:
        bench, coarse = _Bench(engine, artefact, 128), _Bench(engine, artefact, 256)
        crops = list(_crops(arguments.data_root, arguments.crops))
        right = [bench.compute(crop, Making()) for crop in crops]
        _tell("none, tiles cropped", right)
        blended = [bench.compute(crop, Making(window="gaussian")) for crop in crops]
        _tell("none, tiles blended", blended)
        for name, making in FAULTS.items():
            made = [bench.compute(crop, making) for crop in crops[: arguments.faulty]]
            _tell(name, made, _describe_changes(made, blended if making.window else right))
        stacks = (coarse.compute(stack, Making()) for stack in _stacks(arguments.synthetic))
        _tell("none, synthetic", list(stacks))


@dataclass(frozen=True)
class _Bench:
    engine: Engine
    artefact: Artefact
    tile_px: int

    @cached_property
    def net(self) -> Module:
        """The net as it is."""
        return load_net(self.artefact)

    def compute(self, voxels: Voxels, making: Making) -> Made:
        """Return the stored probability, and where its tiles meet."""
        geometry = geometry_of(self.artefact.card)
        shape: ZYX = (voxels.shape[0], voxels.shape[1], voxels.shape[2])
        if making.window:
            tiling = blend_tiling(shape, geometry.stride_px, 2 * self.tile_px, 0.5)
        else:
            halo = Halo(geometry.context_sections // 2, geometry.halo_px or 0, geometry.halo_px or 0)
            tiling = crop_tiling(shape, shape, halo, geometry.stride_px, self.tile_px)
        plan = Plan(shape, shape, tiling)
        (block,) = plan.blocks()
        tiles = [replace(tile, read=_shorten(tile, making.shorter_px)) for tile in block.tiles]
        statistics = _measure(voxels)
        inputs = (self._see(tile, block, voxels, statistics, making) for tile in tiles)
        out, weight = np.zeros(voxels.shape, np.float32), np.zeros(voxels.shape, np.float32)
        for tile, found in zip(tiles, self.engine.averaged(inputs, geometry.stride_px), strict=True):
            part = found[tile.write.relative_to(tile.read.start).slices[1:]]
            if making.output_gain and self._is_black(tile):
                part = np.minimum(part * (1 + making.output_gain), 1)
            if making.shift_px and tile.write.start[1:] == (0, 0):
                part = np.roll(part, making.shift_px, axis=1)
            mass = _weigh(part.shape, making.window)
            out[tile.write.slices][0] += part * mass
            weight[tile.write.slices][0] += mass
        rows, columns = (tuple(border for window in plan.windows(axis) for border in window) for axis in AXES)
        seams, stored = Seams(rows, columns, stride_px=geometry.stride_px), quantize_probability(out / weight)
        sums = reduce(SeamSums.__add__, (SeamSums.count(section, seams) for section in stored))
        return Made(stored, sums.audit(seams, shape), self._recompute(voxels, stored, statistics, plan))

    def _recompute(self, voxels: Voxels, stored: Voxels, statistics: IntensityStatistics, plan: Plan) -> Recomputed:
        """Compute places anew as `segem.stages.segmentation.recompute.compare_places` does."""
        geometry, blended = geometry_of(self.artefact.card), plan.tiling.window is not None
        model = PlainModel(
            partial(predict_section, self.net),
            lambda box: Tissue(voxels[box.slices], None),
            statistics,
            geometry.context_sections,
            geometry.stride_px,
        )
        places = choose_places(plan, FEWEST_TILED if blended else FEWEST, str(statistics.mean), beyond=blended)
        found = []
        for place in places:
            box = place.box
            anew = (
                model.compute_tiled(box, plan)
                if blended
                else model.compute_whole(box, plan.shape, geometry.halo_px or 0)
            )
            found.append(compare_place(place, anew, stored[box.slices][0]))
        return Recomputed(places=tuple(found), most_levels=ROUNDING[0], most_share=ROUNDING[1])

    def _is_black(self, tile: Tile) -> bool:
        return sum(start // self.tile_px for start in tile.write.start[1:]) % 2 == 0

    def _see(
        self, tile: Tile, block: Block, voxels: Voxels, statistics: IntensityStatistics, making: Making
    ) -> NDArray[np.float32]:
        if making.own_statistics:
            statistics = _measure(voxels[tile.read.slices])
        if making.input_gain and self._is_black(tile):
            voxels = np.clip(np.rint(voxels * (1 + making.input_gain)), 0, 255).astype(np.uint8)
        return tile_channels(tile, block, voxels, statistics, self.engine.context_sections)


def _measure(voxels: Voxels) -> IntensityStatistics:
    return IntensityStatistics.from_histogram(np.sum([histogram(section) for section in voxels], axis=0))


def _shorten(tile: Tile, by_px: int) -> Box:
    """Return what a tile reads with a halo that is too short; where the volume ends there is none."""
    start = [min(write, read + by_px) for read, write in zip(tile.read.start, tile.write.start, strict=True)]
    stop = [max(write, read - by_px) for read, write in zip(tile.read.stop, tile.write.stop, strict=True)]
    return Box((tile.read.start[0], start[1], start[2]), (tile.read.stop[0], stop[1], stop[2]))


def _weigh(shape: tuple[int, ...], window: str | None) -> Map:
    """Return the weights of a tile: those of a Gaussian, or the same everywhere."""
    if window != "gaussian":
        return np.ones(shape, np.float32)
    y, x = (np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / (n / 8)) ** 2) for n in shape)
    return np.outer(y, x).astype(np.float32)


def _tell(name: str, made: list[Made], changes: str = "") -> None:
    ratios = sorted(one.audit.ratio for one in made if one.audit.ratio is not None)
    shows, off = [one.audit.shows for one in made], [bool(one.recomputed.off) for one in made]
    either = [one.audit.beside(one.recomputed).shows for one in made]
    places = [place for one in made for place in one.recomputed.places]
    worst = f"{100 * max(one.share for one in places):.2f} %, {max(one.levels for one in places)} levels"
    counts = " | ".join(f"{sum(found)} of {len(made)}" for found in (shows, off, either))
    print(f"| {name} | {counts} | {ratios[0]:.2f} to {ratios[-1]:.2f} | {worst} | {changes} |", flush=True)


def _describe_changes(made: list[Made], right: list[Made]) -> str:
    pairs = zip(made, right, strict=False)
    off = np.concatenate([np.abs(a.probability.astype(int) - b.probability).ravel() for a, b in pairs])
    return f"{100 * np.mean(off > 0):.1f} % of the voxels, {off.mean():.2f} levels on average"


def _crops(root: Path, count: int) -> Iterator[Voxels]:
    """Yield crops of real stacks, one of each stack in turn, no two of the same place."""
    stacks = [Path(root / name) for name in STACKS]
    opened = [open_stack(path) for path in stacks]
    for index in range(count):
        stack, turn = opened[index % len(opened)], index // len(opened)
        sections, height, width = stack.shape
        places = [(y, x) for y in range(0, height - 511, 512) for x in range(0, width - 511, 512)]
        y, x = places[turn % len(places)]
        first = min(SECTIONS * (turn // len(places) + (turn if len(places) == 1 else 0)), sections - SECTIONS)
        yield stack.read(Box((first, y, x), (first + SECTIONS, y + 512, x + 512)))


def _stacks(count: int) -> Iterator[Voxels]:
    for seed in range(count):
        yield synthesize(SynthConfig(shape=(SYNTHETIC_SECTIONS, 512, 512), seed=seed)).image


if __name__ == "__main__":
    main()
