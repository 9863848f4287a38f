"""Computes places of a run's probability anew, the plainest way there is, and compares them with what is stored."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segem.config import Device, SegmentConfig, parse
from segem.errors import ModelError, WorkspaceError
from segem.io.blocks import read_block
from segem.io.ledger import PhaseKey, blocks_digest
from segem.io.run import load_run
from segem.io.tissue import TissueReader
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.learn.artefact import Artefact, find_model
from segem.learn.engine import choose_device
from segem.learn.models.spec import Geometry
from segem.learn.predict import predict_section
from segem.learn.runtimes.choice import open_runtime
from segem.learn.runtimes.openvino import installed, is_whole, openvino_name
from segem.learn.scale import Scale, geometry_at, net_at
from segem.plan import Plan
from segem.progress import track
from segem.records.run import SegmentFacts, StepRecord
from segem.records.seams import Recomputed, RecomputedPlace
from segem.stages.segmentation.places import PLACE_PX, Place, choose_places, has_borders
from segem.stages.segmentation.plain import Map, PlainModel
from segem.stages.segmentation.verify import Fault, plan_of

ROUNDING = (1, 0.002)
"""By how many of the 256 levels, and in what share of its voxels, a sound place may differ: sums of floats depend on
shape and runtime, and now and then one falls on the other side of a half. Measured on four kinds of tissue: one level
in 0.05 % of a place at most, by OpenVINO beside torch."""
MIXED = (2, 0.25)
"""The same where a GPU has computed in 16 bits: on a processor, these move 2 % of the voxels, each by one level."""
SHARE, FEWEST, MOST = 0.01, 6, 24
"""Such a share of what a run computes is computed anew; but so many places at least and at most."""
FEWEST_TILED = 2
"""The same where a place takes whole tiles."""

Evaluate = Callable[[NDArray[np.float32]], Map]


@dataclass(frozen=True)
class _Made:
    """How the probability of a volume came about."""

    volume: str
    run: str
    step: StepRecord
    facts: SegmentFacts
    config: SegmentConfig
    plan: Plan
    scales: tuple[Scale, ...]
    geometry: Geometry
    artefact: Artefact

    @classmethod
    def read(cls, volume: str, run: str, step: StepRecord, workspace: Workspace) -> _Made | None:
        if not isinstance(step.facts, SegmentFacts):
            return None
        config = parse(SegmentConfig, dict(step.config), where=run)
        plan = plan_of(step.phases[-1], Volume.open(workspace.result(run, volume)).shape)
        artefact = _find_same_model(config.model, step, workspace)
        scales = tuple(Scale(*pair) for pair in step.facts.sizes or (step.facts.resampled,))
        geometry = geometry_at(artefact.card, *scales)
        return cls(volume, run, step, step.facts, config, plan, scales, geometry, artefact)

    @property
    def halo_px(self) -> int | None:
        """What the net sees around a pixel, if tiles were to be cut by that; None where they make no whole."""
        needed, asked = self.geometry.halo_px, self.config.halo_px
        # A shorter halo that somebody asked for is no fault; one that came about otherwise is.
        inexact = self.plan.tiling.window is not None or needed is None or (asked is not None and asked < needed)
        return None if inexact else needed

    def choose(self, count: int | None) -> list[Place]:
        """Choose places, the same ones for a run by the same model of the same voxels."""
        seed = f"{self.run}/{self.volume} {self.artefact.digest} {self.step.source_digest}"
        return choose_places(self.plan, count or self._affordable, seed, beyond=self.plan.tiling.window is not None)

    @property
    def _affordable(self) -> int:
        tiling, (_, *section) = self.plan.tiling, self.plan.shape
        whole = self.halo_px is not None
        edges = [
            min(size, PLACE_PX + 2 * self.halo_px if self.halo_px is not None else 2 * core)
            for size, core in zip(section, tiling.core_px, strict=True)
        ]
        wanted = SHARE * self.plan.overhead() * self.plan.shape[0] * section[0] * section[1] / (edges[0] * edges[1])
        return min(MOST, max(FEWEST if whole else FEWEST_TILED, int(wanted)))


def check_places(
    volume: str, run: str, facts: SegmentFacts, workspace: Workspace, device: Device, before: Recomputed | None
) -> SegmentFacts:
    """Return the facts of a segmentation whose blocks are all written, with places of it computed anew.

    Parameters
    ----------
    volume, run : str
        Names; the run's record says how the blocks were made.
    facts : SegmentFacts
        What is known of the segmentation.
    workspace : Workspace
        Where all live.
    device : {"auto", "cpu", "cuda", "mps"}
        What computes.
    before : Recomputed or None
        What an earlier attempt has found: it counts where the blocks are still those it compared.

    Returns
    -------
    SegmentFacts
        With `recomputed`.

    Raises
    ------
    SegemError
        When the model is another by now, or something cannot be read.
    """
    step = load_run(workspace, run).volumes[volume].steps["segment"].model_copy(update={"facts": facts})
    blocks = blocks_digest(workspace, run, PhaseKey(volume, step.step, step.phases[-1].name))
    compared = hashlib.sha256(f"{blocks} {step.phases[-1].model_dump_json()}".encode()).hexdigest()
    if before is None or before.compared != compared:
        before = compare_places(volume, run, step, workspace, device)
    return facts.model_copy(update={"recomputed": before.model_copy(update={"compared": compared})})


def find_check(volume: str, run: str, workspace: Workspace) -> Recomputed | None:
    """Return what was computed anew of a volume when it was last segmented, by the record of the run."""
    with suppress(WorkspaceError, KeyError):
        facts = load_run(workspace, run).volumes[volume].steps["segment"].facts
        return facts.recomputed if isinstance(facts, SegmentFacts) else None
    return None


def recompute(run: str, workspace: Workspace, places: int, device: Device = "auto") -> list[Fault]:
    """Compute places of every segmented volume of a run anew, and return those that differ from what is stored.

    Parameters
    ----------
    run : str
        Name of the run.
    workspace : Workspace
        Where it lives.
    places : int
        How many places of a volume.
    device : {"auto", "cpu", "cuda", "mps"}
        What computes.

    Returns
    -------
    list of Fault
        Empty where nothing differs by more than rounding.

    Raises
    ------
    SegemError
        When there is no such run, a model is no longer that of the run, or something cannot be read.
    """
    faults = []
    for name, entry in load_run(workspace, run).volumes.items():
        step = entry.steps.get("segment")
        if step is not None and entry.membrane is step and step.state == "complete":
            found = compare_places(name, run, step, workspace, device, places)
            faults += [Fault(name, f"not what the model gives {found.manner}: {one.describe()}") for one in found.off]
    return faults


def compare_places(
    volume: str, run: str, step: StepRecord, workspace: Workspace, device: Device, count: int | None = None
) -> Recomputed:
    """Compute places of a segmentation anew, and compare them with what is stored.

    Tiles that are cropped exactly give what the whole section would, however they are laid: so a place is computed in
    one window. Tiles that are blended, or cropped by a shorter halo that somebody asked for, make no whole: each tile
    that reaches a place is looked at by itself, and they are put together as the plan has it. Either way the
    statistics are those of the volume; views, pixel size and precision those of the run; and where there is no tissue
    all is 0. Torch evaluates the net whatever the runtime of the run, except for 8 bits, which are a net of their own.

    Parameters
    ----------
    volume, run : str
        Names.
    step : StepRecord
        How it was made.
    workspace : Workspace
        Where all live.
    device : {"auto", "cpu", "cuda", "mps"}
        What computes.
    count : int, optional
        How many places; by default what a hundredth of the work of the run allows.

    Returns
    -------
    Recomputed

    Raises
    ------
    SegemError
        When the model is no longer that of the run, or something cannot be read.
    """
    made = _Made.read(volume, run, step, workspace)
    if made is None:
        return Recomputed(why="no model has computed it")
    if made.halo_px is None and not has_borders(made.plan):
        return Recomputed(why="each section was computed in one piece, and nothing meets inside")
    levels, share = MIXED if "mixed" in made.facts.runtime else ROUNDING
    with _opened(made, workspace, device) as evaluate:
        if evaluate is None:
            return Recomputed(why="the net of 8 bits that the run was made by is not there any more")
        found = tuple(_compare(made, made.choose(count), evaluate, workspace))
    manner = "tile by tile" if made.halo_px is None else "in one piece"
    return Recomputed.model_validate({"manner": manner, "places": found, "most_levels": levels, "most_share": share})


def _compare(made: _Made, places: list[Place], evaluate: Evaluate, workspace: Workspace) -> Iterator[RecomputedPlace]:
    source, result = Volume.open(workspace.volume(made.volume)), Volume.open(workspace.result(made.run, made.volume))
    model = PlainModel(
        evaluate,
        TissueReader(source).read,
        source.statistics,
        made.geometry.context_sections,
        made.geometry.stride_px,
        made.config.views,
    )
    with track(f"recompute {made.volume}", len(places), "place") as advance:
        for place in places:
            stored = read_block(result.raw, place.box, f"see `segem verify {made.run}`, then run again")[0]
            if made.halo_px is None:
                anew = model.compute_tiled(place.box, made.plan)
            else:
                anew = model.compute_whole(place.box, made.plan.shape, made.halo_px)
            yield compare_place(place, anew, stored)
            advance(1)


def compare_place(place: Place, anew: NDArray[np.uint8], stored: NDArray[np.uint8]) -> RecomputedPlace:
    """Compare two probabilities of a place, (y, x), as they are stored.

    Examples
    --------
    >>> from segem.geometry import Box
    >>> place = Place(Box((0, 0, 0), (1, 1, 4)), "inside a tile")
    >>> found = compare_place(place, np.array([[0, 9, 9, 9]], np.uint8), np.array([[0, 9, 6, 9]], np.uint8))
    >>> found.share, found.levels
    (0.25, 3)
    """
    off = np.abs(anew.astype(np.int16) - stored)
    (z, y0, x0), (_, y1, x1) = place.box.start, place.box.stop
    return RecomputedPlace(
        section=z,
        rows=(y0, y1),
        columns=(x0, x1),
        plane=place.plane,
        share=round(float(np.mean(off > 0)), 6),
        levels=int(off.max(initial=0)),
    )


@contextmanager
def _opened(made: _Made, workspace: Workspace, device_name: Device) -> Iterator[Evaluate | None]:
    """Open what evaluates the net of a run; None where it was one of 8 bits that is gone."""
    device, net = choose_device(device_name), net_at(made.artefact, *made.scales)
    if made.facts.int8 is None or not made.facts.int8.used:
        yield partial(predict_section, net.to(device), device=device)
        return
    quantized = _find_quantized(workspace.run(made.run) / ".int8" / made.volume, made.facts.runtime)
    if quantized is None:
        yield None
        return
    # Sums of 8 bits are whole numbers, so they are the same in one window as in tiles.
    runtime = open_runtime(net, "openvino-int8", choose_device("cpu"), made.geometry.context_sections, 1, quantized)
    try:
        yield lambda channels: next(runtime.evaluate([np.ascontiguousarray(channels)]))
    finally:
        runtime.close()


def _find_quantized(folder: Path, runtime: str) -> Path | None:
    there = sorted(folder.iterdir()) if folder.is_dir() and installed("openvino") else []
    return next((path for path in there if is_whole(path) and openvino_name(path) == runtime), None)


def _find_same_model(name: str, step: StepRecord, workspace: Workspace) -> Artefact:
    artefact = find_model(name, workspace)
    if step.model is None or artefact.digest != step.model.digest:
        raise ModelError(
            "the model is not the one that the run was made by, so its places cannot be computed anew",
            where=name,
            expected=step.model.digest[:12] if step.model else None,
            found=artefact.digest[:12],
            fix="put back that version of the model; `segem verify` without --recompute does without it",
        )
    return artefact
