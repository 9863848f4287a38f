"""Checks that every voxel of a run is there and as it was written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from segem.errors import SegemError, StorageError, WorkspaceError
from segem.geometry import ZYX, Box, Halo
from segem.io.blocks import block_digest, layer_digest, stored_digest, voxel_digest
from segem.io.layers import label_of, layers_of, read_section
from segem.io.ledger import LedgerRow, PhaseKey, blocks_digest, read_ledger
from segem.io.run import failure_of, fault_of, load_run, source_digest
from segem.io.runs import list_runs
from segem.io.shards import Array, missing_shards, path_of, shard_keys
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.plan import Block, Plan, Tiling
from segem.progress import track
from segem.records.run import CellsFacts, CrfFacts, PhaseRecord, RunRecord, StepRecord, VolumeRecord

Part = Literal["run", "source", "source pyramid", "result", "step", "pyramid"]
"""What is damaged: the run as a whole, the ingested voxels, or something that can be computed again."""

_MISSING = "its file is missing"


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a run."""

    volume: str
    what: str
    part: Part = "run"
    step: str | None = None
    """Name of the step that has to be repeated."""


def verify(run: str, workspace: Workspace, *, volumes: Collection[str] | None = None) -> list[Fault]:
    """Read back everything a run was made of and has made, and return what is missing, damaged or out of date.

    Every block of every step is compared with its digest in the ledger, the ingested voxels with the digest in their
    record, pyramids with what they are made of; truth is decoded, which its checksums guard.

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
            faults += _faults(record, name, workspace)
        except SegemError as error:
            faults.append(Fault(name, str(error)))
    return faults


def find_under_way(workspace: Workspace) -> set[str]:
    """Return the runs that a process is just making: what they lack is still to come."""
    return {one.run for one in list_runs(workspace) if one.state == "running" and one.done < one.volumes}


def _faults(record: RunRecord, name: str, workspace: Workspace) -> Iterator[Fault]:
    entry = record.volumes[name]
    failure = failure_of(record, name, workspace)
    # What is not finished is not examined: missing blocks are no damage.
    if failure is not None:
        yield _unfinished(entry, name, failure)
        return
    source, digest = Volume.open(workspace.volume(name)), source_digest(workspace, name)
    yield from _source_faults(source)
    try:
        result = Volume.open(workspace.result(record.run, name))
    except SegemError as error:
        yield Fault(name, str(error), "result")
        return
    if result.voxel_size != source.voxel_size:
        sizes = f"made for voxels of {result.voxel_size}, but the volume now has {source.voxel_size}"
        yield Fault(name, f"{sizes}; run again", "result")
        return
    for step in entry.steps.values():
        stale = fault_of(step, step.result, digest)
        if stale is None:
            yield from _step_faults(step, result, record.run, name, workspace)
        else:
            yield Fault(name, stale, "run" if step.state == "complete" else "step", step.step)


def _unfinished(entry: VolumeRecord, name: str, failure: str) -> Fault:
    """Return the fault of a volume that is not whole, and the step that can be resumed, if any."""
    stopped = [step.step for step in entry.steps.values() if step.state != "complete"]
    return Fault(name, failure, "step", stopped[-1]) if stopped else Fault(name, failure)


def _step_faults(step: StepRecord, result: Volume, run: str, name: str, workspace: Workspace) -> Iterator[Fault]:
    damaged: list[Box] = []
    # A result volume that was made again has only the layers that every run has.
    absent = [layer for layer in step.layers if label_of(layer) not in (None, *result.labels())]
    if absent:
        yield Fault(name, f"the layer {absent[0]} is gone", "step", step.step)
        return
    for phase in step.phases:
        plan, arrays = plan_of(phase, result.shape), layers_of(result, phase.layers)
        with read_ledger(workspace.ledger(run)) as ledger:
            rows = ledger.rows(PhaseKey(name, step.step, phase.name))
        with track(f"verify {step.step} of {name}", plan.count, "block") as advance:
            found = damage(plan, rows, arrays, deep=True, on_block=advance)
        yield from (
            Fault(name, f"{step.step} block {index}: {reason}", "step", step.step) for index, reason in found.items()
        )
        # Coarse levels over a damaged block cannot be compared with it.
        damaged += [plan.block(index).write for index in found] if phase.layers else []
    for layer in step.layers:
        yield from (Fault(name, what, "pyramid") for what in _pyramid_faults(result, label_of(layer), damaged))
    if isinstance(step.facts, CrfFacts):
        yield from _origin_faults(step.facts, name, run, workspace)
    if isinstance(step.facts, CellsFacts) and (fault := outdated(step.facts, name, run, workspace)):
        yield Fault(name, f"the {step.result} is out of date: {fault}")


def _source_faults(source: Volume) -> Iterator[Fault]:
    digest = source.attributes.get("source_digest")
    again = f"run `segem ingest` for {source.name} with --again"
    try:
        # Section by section, as ingest has hashed them; the digest does not depend on shards.
        sound = voxel_digest(read_section(source.raw, z) for z in range(source.shape[0])) == digest
        lost = None if sound else f"the ingested voxels are not those that were read from the source. Fix: {again}"
    except StorageError:
        raise
    except WorkspaceError as error:
        lost = str(error)
    if lost is not None:
        yield Fault(source.name, lost, "source")
    for label in (None, *source.labels()):
        fault = lost if label is None else _lost(source.label(label), again)
        if label is not None and fault is not None:
            yield Fault(source.name, fault, "source")
        damaged = [] if fault is None else [Box.of_shape(source.shape)]
        for what in _pyramid_faults(source, label, damaged):
            yield Fault(source.name, what, "source pyramid")


def _origin_faults(facts: CrfFacts, name: str, run: str, workspace: Workspace) -> Iterator[Fault]:
    """Yield a fault if the run that a probability was refined from has changed since, or is gone."""
    origin = facts.refined_from
    there = workspace.ledger(origin).is_file()  # asked first, since opening a missing ledger would create it
    if not there or probability_digest(workspace, origin, name) != facts.probability:
        what = "has changed since it was refined" if there else "is gone"
        again = f"run `segem crf {name} --of {origin} --run {run}` again"
        yield Fault(name, f"the probability of run {origin} {what}. Fix: {again}")


def outdated(facts: CellsFacts, volume: str, run: str, workspace: Workspace) -> str | None:
    """Return why cells are not those of the probability that their run holds now; None where they are."""
    if probability_digest(workspace, run, volume) == facts.probability:
        return None
    return f"the probability has changed since; run `segem cells {volume} --of {run}` again"


def _lost(layer: Array, fix: str) -> str | None:
    """Return which block of a layer is missing or does not decode, or None."""
    try:
        layer_digest(layer, fix)
    except StorageError:
        raise
    except WorkspaceError as error:
        return str(error)
    return None


def _pyramid_faults(volume: Volume, label: str | None, damaged: list[Box]) -> Iterator[str]:
    """Compare coarser levels with what they are made of; above damaged blocks, only check that they decode."""
    # Finest level first, so that damage found there is known at the levels above.
    damaged = list(damaged)
    for block in volume.pyramid(label):
        stored = stored_digest([block.coarse], block.box)
        doubtful = any(block.covers.intersect(box).size for box in damaged)
        if stored is not None and (doubtful or stored == block_digest([block.voxels()])):
            continue
        # Levels further up are made of this block, so they are not held against it either.
        damaged.append(block.covers)
        level = path_of(block.coarse).relative_to(volume.path)
        reason = "is missing or does not decode" if stored is None else "is not what it is made of"
        yield f"block {block.box} of level {level} in {volume.path} {reason}"


def plan_of(phase: PhaseRecord, shape: ZYX) -> Plan:
    """Return the plan that a phase was run by, for a volume of this shape."""
    tiling = phase.tiling
    laid = Tiling(tiling.mode, tiling.core_px, Halo(*tiling.halo), tiling.stride_px, tiling.step_px)
    return Plan(shape, phase.write_block, laid)


def damage(
    plan: Plan,
    rows: Mapping[ZYX, LedgerRow],
    arrays: Sequence[Array],
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
    arrays : sequence of Array
        The layers it should be in; none where a phase leaves values only.
    deep : bool
        Read every voxel back and compare digests, instead of asking only whether the files exist.
    on_block : callable
        Called with 1 after each block.
    """
    found: dict[ZYX, str] = {}
    # Asked once for all blocks: a storage answers that in less time than for each.
    missing = [(array, set(missing_shards(array))) for array in arrays]
    for block in plan.blocks():
        row = rows.get(block.index)
        if row is None:
            fault: str | None = "the ledger has no record of it"
        elif any(lost.intersection(shard_keys(array, block.write)) for array, lost in missing):
            fault = _MISSING
        else:
            fault = fault_of_block(row, arrays, block) if deep or not arrays else None
        if fault is not None:
            found[block.index] = fault
        on_block(1)
    return found


def fault_of_block(row: LedgerRow, arrays: Sequence[Array], block: Block) -> str | None:
    """Return what is wrong with a block that the ledger knows, or None; every voxel is read back."""
    if not arrays:
        sound = hashlib.sha256(row.value).hexdigest() == row.digest
        return None if sound else "its value is not the one that was found"
    if stored_digest(arrays, block.write) == row.digest:
        return None
    # Tells a lost block from a damaged one.
    lost = any(missing_shards(array, block.write) for array in arrays)
    return _MISSING if lost else "its voxels are not those that were written"


def probability_digest(workspace: Workspace, run: str, volume: str) -> str:
    """Return one sha256 of what the blocks of a run's probability hold, by its ledger."""
    # Of whichever step wrote it: the probability of a CRF may be refined once more.
    step = load_run(workspace, run).volumes[volume].membrane
    phase = step.phases[-1].name if step is not None and step.phases else ""
    return blocks_digest(workspace, run, PhaseKey(volume, step.step if step is not None else "", phase))
