"""Small workspaces made by hand: volumes and runs on disk without sources, nets or training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage

from segem.geometry import Box, VoxelSize, grid
from segem.io.blocks import stored_digest, voxel_digest
from segem.io.layers import layers_of
from segem.io.ledger import Ledger, LedgerRow, PhaseKey
from segem.io.reviewed import open_log, open_mask, reader_of
from segem.io.run import load_run, note_step, now, result_volume
from segem.io.volume import Volume, create_volume, write_block
from segem.io.workspace import Workspace
from segem.kernels.normalize import IntensityStatistics, histogram
from segem.kernels.runs import encode_runs
from segem.records.review import Draft
from segem.records.run import BaselineFacts, ModelRecord, PhaseRecord, SegmentFacts, StepRecord, TilingRecord
from segem.stages.segmentation.verify import plan_of

MODEL = ModelRecord(name="unet-em", digest="ab" * 32)


def new_workspace(root: Path) -> Workspace:
    workspace = Workspace(root)
    workspace.prepare()
    return workspace


def tissue(shape, seed=0):
    """Return grey levels and membrane (0/1) of a plane cut into cells at random."""
    rng = np.random.default_rng(seed)
    z, y, x = shape
    seeds = rng.random((3, max(4, y * x // 900))) * np.array([[1], [y], [x]])
    truth = np.zeros(shape, np.uint8)
    image = np.zeros(shape, np.uint8)
    for k in range(z):
        drift = seeds[1:] + rng.normal(0, 1, seeds[1:].shape) * k
        points = np.ones((y, x), bool)
        index = np.clip(drift.astype(int), 0, [[y - 1], [x - 1]])
        points[index[0], index[1]] = False
        _, (iy, ix) = ndimage.distance_transform_edt(points, return_indices=True)
        cell = iy * x + ix
        edge = (ndimage.maximum_filter(cell, 3) != ndimage.minimum_filter(cell, 3)).astype(np.uint8)
        truth[k] = edge
        smooth = ndimage.gaussian_filter(edge * 1.0, 1.0)
        grain = ndimage.gaussian_filter(rng.normal(size=(y, x)), 1.2) * 45
        image[k] = np.clip(165 - 130 * smooth + grain, 0, 255)
    return image, truth


def add_volume(workspace: Workspace, name: str, image, truth=None, *, warnings=(), voxel_nm=(50, 4, 4)) -> Volume:
    statistics = IntensityStatistics.from_histogram(histogram(image)).to_dict()
    volume = create_volume(
        workspace.volume(name),
        shape=image.shape,
        dtype=image.dtype,
        voxel_size=VoxelSize(*voxel_nm),
        labels={} if truth is None else {"truth": np.uint8},
        attributes={
            "source_digest": voxel_digest([image]),
            "statistics": statistics | {"constant_sections": []},
            "warnings": list(warnings),
        },
    )
    fill(volume.raw, image, volume)
    if truth is not None:
        fill(volume.label("truth"), truth, volume)
    return volume


def add_baseline(
    workspace: Workspace, run: str, volume: str, mask, *, state="complete", reason=None, method="kmeans"
) -> None:
    result = result_volume(workspace, run, volume)
    if mask is not None:
        fill(result.label("baseline"), mask, result)
    facts = BaselineFacts(blocks=1, overhead=1, code="", method=method)
    record = step_record(workspace, volume, result, facts, ("baseline",), state=state, reason=reason)
    note_step(workspace, run, volume, record)


def add_pyramids(workspace: Workspace, run: str, volume: str) -> None:
    """Make the coarser levels of a volume and of the mask that a run holds of it, which a page shows from afar."""
    source, result = Volume.open(workspace.volume(volume)), Volume.open(workspace.result(run, volume))
    for made, label in ((source, None), (result, None), (result, "membrane")):
        made.build_pyramid(label)


def add_model(
    workspace: Workspace,
    run: str,
    volume: str,
    probability,
    *,
    threshold=0.5,
    core_px=1280,
    state="complete",
    reason=None,
    facts=None,
) -> None:
    result = result_volume(workspace, run, volume)
    fraction = None
    if probability is not None:
        mask = (probability >= np.ceil(threshold * 255)).astype(np.uint8)
        fraction = float(mask.mean())
        fill(result.raw, probability, result)
        fill(result.label("membrane"), mask, result)
    known = SegmentFacts(
        blocks=1,
        overhead=1,
        code="",
        threshold=threshold,
        runtime="torch",
        membrane_fraction=fraction,
        **(facts or {}),
    )
    layers = ("probability", "membrane")
    record = step_record(workspace, volume, result, known, layers, state=state, reason=reason, core_px=core_px)
    note_step(workspace, run, volume, record.model_copy(update={"model": MODEL}))


def step_record(workspace, volume, result, facts, layers, *, state, reason, core_px=1280) -> StepRecord:
    """Return the record of a step that wrote its layers in one phase, by square tiles without a halo."""
    tiling = TilingRecord(
        mode="crop", core_px=(core_px, core_px), halo=(0, 0, 0), stride_px=1, step_px=(core_px, core_px)
    )
    phase = PhaseRecord(name="blocks", layers=layers, write_block=result.write_block, tiling=tiling)
    return StepRecord(
        step=facts.step,
        state=state,
        reason=reason,
        source_digest=source_digest(workspace, volume),
        layers=layers,
        phases=(phase,),
        facts=facts,
        changed=now(),
    )


def source_digest(workspace: Workspace, volume: str) -> str:
    return str(Volume.open(workspace.volume(volume)).attributes["source_digest"])


def fill(array, data, volume: Volume) -> None:
    data = np.ascontiguousarray(data)
    for _, box in grid(volume.shape, volume.write_block):
        write_block(array, Box(box.start, box.stop), data[box.slices])


def decide(workspace: Workspace, run: str, place, truth, decision="fix", author="Ana", seconds=30.0) -> None:
    """Make a region of a run what a truth (z, y, x) says, and decide it, as a reviewer does."""
    read = reader_of(open_mask(workspace, run, place.volume))
    window = truth[place.z, place.y : place.y + place.height, place.x : place.x + place.width] == 1
    with open_log(workspace, run) as log:
        wrong = log.mask(place, read) ^ window
        for kind, detail, flips in (
            ("correction", {"tool": "brush"}, wrong),
            ("decision", {"decision": decision, "note": ""}, np.zeros_like(wrong)),
        ):
            seen = log.head().entries
            runs = encode_runs(flips)
            entry = Draft(
                id=f"{seen:032x}", kind=kind, place=place, runs=runs, active_seconds=seconds / 2, detail=detail
            )
            log.append(entry, author, seen, read)


def guess(truth, seed=1, noise=0.9):
    """Return a probability (uint8) that a fair model might give for `truth`."""
    rng = np.random.default_rng(seed)
    near = ndimage.gaussian_filter(truth * 1.0, (0, 1.0, 1.0)) * 9 - 3
    rough = ndimage.gaussian_filter(rng.normal(size=truth.shape), (0, 2, 2)) * 6 * noise
    return np.rint(255 / (1 + np.exp(-(near + rough)))).astype(np.uint8)


def enter_in_ledger(workspace: Workspace) -> None:
    """Record the blocks of the segmentation of volume `em` in run `r`, which `add_model` made by hand."""
    result = Volume.open(workspace.result("r", "em"))
    result.build_pyramid()
    result.build_pyramid("membrane")
    with Ledger(workspace.ledger("r")) as ledger:
        layers = layers_of(result, ("probability", "membrane"))
        for block in plan_of(load_run(workspace, "r").volumes["em"].membrane.phases[0], result.shape).blocks():
            row = LedgerRow("made by hand", stored_digest(layers, block.write))
            ledger.record(PhaseKey("em", "segment", "blocks"), {block.index: row})
