"""Computes places of a run's probability anew, in one piece where tiles met, and compares them with what is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segem.config import Device, SegmentConfig, parse
from segem.errors import ModelError
from segem.geometry import ZYX, Box, Halo
from segem.io.blocks import read_block
from segem.io.run import load_run
from segem.io.tissue import Tissue, read_tissue
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.normalize import IntensityStatistics
from segem.kernels.threshold import quantize_probability
from segem.learn.artefact import Artefact, find_model
from segem.learn.engine import Engine, choose_device, tile_channels
from segem.learn.runtimes.choice import choose_runtime
from segem.learn.scale import Scale, geometry_at, net_at
from segem.plan import Block, Plan, Tile
from segem.progress import track
from segem.records.run import SegmentFacts, StepRecord
from segem.stages.segmentation.verify import Fault, plan_of

PLACE_PX = 128
"""About the edge of a place, with the corner of a tile in its middle."""
MOST_LEVELS, MOST_SHARE = 1, 0.002
"""By how many of the 256 levels, and in what share of its voxels, a sound place may differ: sums of floats depend on
the shape of what is computed at once, and now and then one falls on the other side of a half."""


@dataclass(frozen=True)
class Difference:
    """How what is stored at a place differs from what the model gives there in one piece."""

    box: Box
    share: float
    """Of the voxels that differ at all."""
    levels: int
    """The most that any differs by, of 256."""

    @property
    def sound(self) -> bool:
        """Whether that is no more than rounding."""
        return self.levels <= MOST_LEVELS and self.share <= MOST_SHARE

    def describe(self) -> str:
        """Return in words where and how much."""
        (z, y, x), (_, bottom, right) = self.box.start, self.box.stop
        return (
            f"section {z}, rows {y} to {bottom - 1}, columns {x} to {right - 1}: {self.share:.2%} of the probability "
            f"is not what the model gives there in one piece, by up to {self.levels} of 256 levels"
        )


@dataclass(frozen=True)
class Recomputer:
    """Computes the probability of a place as if there were no tiles."""

    engine: Engine
    halo: Halo
    """What the net sees around a voxel; a larger one changes nothing."""
    stride_px: int
    read: Callable[[Box], Tissue]
    statistics: IntensityStatistics

    def compute(self, place: Box, shape: ZYX) -> NDArray[np.uint8]:
        """Return the probability of a place in one section, as it would be stored."""
        seen = place.grow(self.halo, Box.of_shape(shape))
        # From a point of the lattice of the net's poolings, as tiles do.
        _, y, x = (start // self.stride_px * self.stride_px for start in seen.start)
        seen = Box((seen.start[0], y, x), seen.stop)
        tissue, z = self.read(seen), place.start[0]
        tile = Tile(Box((z, y, x), (z + 1, *seen.stop[1:])), place)
        block = Block((0, 0, 0), place, seen, (tile,))
        channels = tile_channels(tile, block, tissue.image, self.statistics, self.engine.context_sections)
        (found,) = self.engine.averaged([channels], self.stride_px)
        stored = quantize_probability(found[place.relative_to(tile.read.start).slices[1:]])
        if tissue.outside is not None:
            stored[tissue.outside[place.relative_to(seen.start).slices][0] != 0] = 0
        return stored

    def compare(self, place: Box, shape: ZYX, stored: NDArray[np.uint8]) -> Difference:
        """Compare what is stored at a place, shape (y, x), with what the model gives there."""
        off = np.abs(self.compute(place, shape).astype(np.int16) - stored)
        return Difference(place, float(np.mean(off > 0)), int(off.max(initial=0)))


def choose_places(plan: Plan, count: int) -> list[Box]:
    """Return places around corners of tiles, spread over a volume; around its middle where there is but one tile.

    Examples
    --------
    >>> from segem.plan import crop_tiling
    >>> plan = Plan((4, 512, 512), (1, 512, 512), crop_tiling((4, 512, 512), (1, 512, 512), Halo(0, 96, 96), 16, 128))
    >>> [str(place) for place in choose_places(plan, 2)]
    ['[1:2, 320:448, 192:320]', '[3:4, 192:320, 64:192]']
    """
    rows, columns = (_list_borders(plan, axis) for axis in (1, 2))
    places = []
    for k in range(count):
        z = (2 * k + 1) * plan.shape[0] // (2 * count)
        # Steps of the R2 sequence, see `segem.stages.segmentation.quantize.sample_tiles`.
        middles = (
            lines[int(len(lines) * ((k + 1) * ratio % 1))] for lines, ratio in ((rows, 0.7549), (columns, 0.5698))
        )
        (top, left), (bottom, right) = zip(
            *(
                (max(0, middle - PLACE_PX // 2), min(size, middle + PLACE_PX // 2))
                for middle, size in zip(middles, plan.shape[1:], strict=True)
            ),
            strict=True,
        )
        places.append(Box((z, top, left), (z + 1, bottom, right)))
    return list(dict.fromkeys(places))


def _list_borders(plan: Plan, axis: int) -> list[int]:
    """Return where tiles and blocks begin along y (1) or x (2); the middle where none begins inside."""
    size, block = plan.shape[axis], plan.write_block[axis]
    starts = {start for start, _ in plan.windows(1 if axis == 1 else 2)} | {*range(0, size, block)}
    return sorted(starts - {0}) or [size // 2]


def recompute(run: str, workspace: Workspace, places: int, device: Device = "auto") -> list[Fault]:
    """Compute places of every segmented volume of a run anew, and return those that differ from what is stored.

    Tiles that are cropped exactly give what the whole section would, whichever way they are laid. What breaks that (a
    halo that is too short, statistics of a tile's own, tiles that were moved or scaled) shows here, however little it
    changes, and also where the seam audit of a report cannot see it.

    Parameters
    ----------
    run : str
        Name of the run.
    workspace : Workspace
        Where it lives.
    places : int
        How many places of a volume.
    device : {"auto", "cpu", "cuda"}
        What computes.

    Returns
    -------
    list of Fault
        Empty where nothing differs by more than rounding, and for volumes whose tiles are blended or whose net was
        quantised: there the sum of its parts is no whole.

    Raises
    ------
    SegemError
        When there is no such run, or something of it cannot be read.
    """
    return [
        Fault(name, difference.describe())
        for name, entry in load_run(workspace, run).volumes.items()
        if (step := entry.steps.get("segment")) is not None and entry.membrane is step and step.state == "complete"
        for difference in _recompute_volume(name, run, step, workspace, (places, device))
        if not difference.sound
    ]


def _recompute_volume(
    name: str, run: str, step: StepRecord, workspace: Workspace, how: tuple[int, Device]
) -> Iterator[Difference]:
    count, device_name = how
    result = Volume.open(workspace.result(run, name))
    plan, config = plan_of(step.phases[-1], result.shape), parse(SegmentConfig, dict(step.config), where=run)
    if not isinstance(step.facts, SegmentFacts) or not _is_exact(plan, step.facts):
        return
    artefact, source = _find_same_model(config.model, step, workspace), Volume.open(workspace.volume(name))
    scale, device = Scale(*step.facts.resampled), choose_device(device_name)
    geometry = geometry_at(artefact.card, scale)
    # A shorter halo that somebody asked for is no fault; one that came about otherwise is.
    if geometry.halo_px is None or (config.halo_px is not None and config.halo_px < geometry.halo_px):
        return
    runtime = choose_runtime(config.runtime, device)
    with Engine(
        net_at(artefact, scale), device, geometry.context_sections, views=config.views, runtime=runtime
    ) as engine:
        halo = Halo(geometry.context_sections // 2, geometry.halo_px, geometry.halo_px)
        computer = Recomputer(engine, halo, geometry.stride_px, lambda box: read_tissue(source, box), source.statistics)
        chosen: Sequence[Box] = choose_places(plan, count)
        with track(f"recompute {name}", len(chosen), "place") as advance:
            for place in chosen:
                stored = read_block(result.raw, place, f"see `segem verify {run}`, then run again")
                yield computer.compare(place, result.shape, stored[0])
                advance(1)


def _is_exact(plan: Plan, facts: SegmentFacts) -> bool:
    return plan.tiling.mode == "crop" and (facts.int8 is None or not facts.int8.used)


def _find_same_model(name: str, step: StepRecord, workspace: Workspace) -> Artefact:
    artefact = find_model(name, workspace)
    if step.model is None or artefact.digest != step.model.digest:
        raise ModelError(
            "the model is not the one that the run was made by, so its places cannot be computed anew",
            where=name,
            expected=step.model.digest[:12] if step.model else None,
            found=artefact.digest[:12],
            fix="verify without --recompute, or put back that version of the model",
        )
    return artefact
