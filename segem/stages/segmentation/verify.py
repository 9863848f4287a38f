"""Checks that every voxel of a run is there and as it was written."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from segem.errors import SegemError, WorkspaceError
from segem.geometry import ZYX, Box, Halo
from segem.io.blocks import block_digest, layer_digest, shard_path, stored_digest, voxel_digest
from segem.io.layers import read_section
from segem.io.ledger import Ledger, LedgerRow, blocks_digest
from segem.io.run import failure_of, fault_of, load_run, source_digest
from segem.io.shards import Array, path_of
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.plan import Plan, Tiling
from segem.progress import track
from segem.records.run import RunRecord, StageRecord, VolumeRecord

Part = Literal["run", "source", "source pyramid", "result", "segment", "pyramid", "baseline"]
"""What a fault is a fault of: the run as a whole, the ingested voxels, or something that can be computed again."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a run."""

    volume: str
    what: str
    part: Part = "run"


def verify(run: str, workspace: Workspace, *, volumes: Collection[str] | None = None) -> list[Fault]:
    """Read back everything a run was made of and has made, and return what is missing, damaged or out of date.

    Every block of probability and mask is compared with its digest in the ledger, the mask of the baseline and
    the ingested voxels with the digests in their records, pyramids with what they are made of; truth is decoded, which
    its checksums guard.

    Parameters
    ----------
    run : str
        Name of the run.
    workspace : Workspace
        Where it lives.
    volumes : collection of str, optional
        The volumes to look at; all of the run when absent.

    Returns
    -------
    list of Fault
        Empty when the run is whole.

    Raises
    ------
    WorkspaceError
        When there is no such run, or its record is damaged.
    """
    record = load_run(workspace, run)
    faults: list[Fault] = []
    for name in record.volumes:
        if volumes is not None and name not in volumes:
            continue
        try:
            for part, what in _faults(record, name, workspace):
                faults.append(Fault(name, what, part))
        except SegemError as error:
            faults.append(Fault(name, str(error)))
    return faults


Found = Iterator[tuple[Part, str]]


def _faults(record: RunRecord, name: str, workspace: Workspace) -> Found:
    entry = record.volumes[name]
    failure = failure_of(record, name, workspace)
    if failure is not None:
        yield _part_of(entry), failure
        return
    source, digest = Volume.open(workspace.volume(name)), source_digest(workspace, name)
    yield from _source_faults(source, digest)
    try:
        result = Volume.open(workspace.result(record.run, name))
    except SegemError as error:
        yield "result", str(error)
        return
    if result.voxel_size != source.voxel_size:
        sizes = f"made for voxels of {result.voxel_size}, but the volume now has {source.voxel_size}"
        yield "result", f"{sizes}; run again"
        return
    if entry.segment is not None and entry.segment.state == "complete":
        plan = plan_of(entry.segment, result)
        with Ledger(workspace.ledger(record.run)) as ledger:
            rows = ledger.rows(name)
        with track(f"verify {name}", plan.count, "block") as advance:
            found = damage(plan, rows, result, deep=True, on_block=advance)
        yield from (("segment", f"block {index}: {reason}") for index, reason in found.items())
        damaged = [plan.block(index).write for index in found]
        for label in (None, "membrane"):
            yield from _pyramid_faults(result, label, damaged, "pyramid")
        yield from _origin_faults(entry.segment, name, record.run, workspace)
    if entry.baseline is not None:
        stale = fault_of(entry.baseline, "baseline", digest)
        if stale is not None:
            yield "baseline" if entry.baseline.state != "complete" else "run", stale
            return
        fix = f"run `segem baseline {name} --run {record.run}` again"
        lost = _baseline_fault(result, entry.baseline.facts.get("digest"), fix)
        if lost is not None:
            yield "baseline", lost
        yield from _pyramid_faults(result, "kmeans", [] if lost is None else [Box.of_shape(result.shape)], "pyramid")


def _part_of(entry: VolumeRecord) -> Part:
    """Return which stage left a volume unfinished; "run" when none can be taken up again."""
    if entry.segment is not None and entry.segment.state != "complete":
        return "segment"
    return "baseline" if entry.baseline is not None and entry.baseline.state != "complete" else "run"


def _source_faults(source: Volume, digest: str | None) -> Found:
    again = f"run `segem ingest` for {source.name} with --again"
    try:
        sound = voxel_digest(read_section(source.raw, z) for z in range(source.shape[0])) == digest
        lost = None if sound else f"the ingested voxels are not those that were read from the source. Fix: {again}"
    except WorkspaceError as error:
        lost = str(error)
    if lost is not None:
        yield "source", lost
    for label in (None, *source.labels()):
        fault = lost if label is None else _lost(source.label(label), again)
        if label is not None and fault is not None:
            yield "source", fault
        damaged = [] if fault is None else [Box.of_shape(source.shape)]
        yield from _pyramid_faults(source, label, damaged, "source pyramid")


def _origin_faults(stage: StageRecord, name: str, run: str, workspace: Workspace) -> Found:
    """Tell whether a refined probability is still made of what the run it was made from holds."""
    origin = stage.facts.get("refined_from")
    if origin is None:
        return
    there = workspace.ledger(origin).is_file()  # looking into a ledger that is not there would make one
    if not there or blocks_digest(workspace, origin, name) != stage.facts["probability"]:
        what = "has changed since it was refined" if there else "is gone"
        yield (
            "run",
            f"the probability of run {origin} {what}. Fix: run `segem crf {name} --of {origin} --run {run}` again",
        )


def _baseline_fault(result: Volume, digest: object, fix: str) -> str | None:
    try:
        if layer_digest(result.label("kmeans"), fix) == digest:
            return None
    except WorkspaceError as error:
        return str(error)
    return f"the mask of the baseline is not the one that was written. Fix: {fix}"


def _lost(layer: Array, fix: str) -> str | None:
    """Return what is missing of a layer or does not decode, or None."""
    try:
        layer_digest(layer, fix)
    except WorkspaceError as error:
        return str(error)
    return None


def _pyramid_faults(volume: Volume, label: str | None, damaged: list[Box], part: Part) -> Found:
    """Compare coarser levels with what they are made of; over what is damaged, only see whether they decode."""
    damaged = list(damaged)
    for block in volume.pyramid(label):
        stored = stored_digest([block.coarse], block.box)
        doubtful = any(block.covers.intersect(box).size for box in damaged)
        if stored is not None and (doubtful or stored == block_digest([block.voxels()])):
            continue
        damaged.append(block.covers)
        level = path_of(block.coarse).relative_to(volume.path)
        reason = "is missing or does not decode" if stored is None else "is not what it is made of"
        yield part, f"block {block.box} of level {level} in {volume.path} {reason}"


def plan_of(stage: StageRecord, result: Volume) -> Plan:
    """Return the plan a finished segmentation was made by."""
    tiling = dict(stage.facts["tiling"])
    tiling["halo"] = Halo(**tiling["halo"])
    for pair in ("core_px", "step_px"):
        tiling[pair] = tuple(tiling[pair])
    return Plan(result.shape, result.write_block, Tiling(**tiling))


def result_layers(result: Volume) -> tuple[Array, ...]:
    """Return the arrays a segmentation writes block by block, in the order of their digest."""
    return (result.raw, result.label("membrane"))


def damage(
    plan: Plan,
    rows: Mapping[ZYX, LedgerRow],
    result: Volume,
    *,
    deep: bool,
    on_block: Callable[[int], None] = lambda _: None,
) -> dict[ZYX, str]:
    """Return the blocks that are missing or damaged, with the reason.

    Parameters
    ----------
    plan : Plan
        What should be there.
    rows : mapping
        What the ledger says is there.
    result : Volume
        Where it should be.
    deep : bool
        Read every voxel back and compare digests, instead of asking only whether the files exist.
    on_block : callable
        Called with 1 after each block.
    """
    layers = result_layers(result)
    found: dict[ZYX, str] = {}
    for block in plan.blocks():
        row = rows.get(block.index)
        if row is None:
            found[block.index] = "the ledger has no record of it"
        elif not all(shard_path(layer, block.write).is_file() for layer in layers):
            found[block.index] = "its file is missing"
        elif deep and stored_digest(layers, block.write) != row.digest:
            found[block.index] = "its voxels are not those that were written"
        on_block(1)
    return found
