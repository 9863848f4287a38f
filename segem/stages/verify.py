"""Checks that every voxel of a run is there and as it was written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from segem.errors import SegemError, WorkspaceError
from segem.geometry import ZYX, Halo
from segem.io.blocks import layer_digest, shard_path, stored_digest, voxel_digest
from segem.io.layers import read_section
from segem.io.ledger import Ledger, LedgerRow
from segem.io.run import RunRecord, StageRecord, failure_of, fault_of, load_run, source_digest
from segem.io.shards import Array
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.plan import Plan, Tiling
from segem.progress import track


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a run."""

    volume: str
    what: str


def verify(run: str, workspace: Workspace, *, progress: bool = True) -> list[Fault]:
    """Read back everything a run was made of and has made, and return what is missing, damaged or out of date.

    Every block of probability and mask is compared with its digest in the ledger, the K-means mask and the ingested
    voxels with the digests in their records; truth and pyramids are decoded, which their checksums guard.

    Parameters
    ----------
    run : str
        Name of the run.
    workspace : Workspace
        Where it lives.
    progress : bool
        Whether to draw progress bars.

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
        try:
            faults += [Fault(name, what) for what in _faults(record, name, workspace, progress)]
        except SegemError as error:
            faults.append(Fault(name, str(error)))
    return faults


def _faults(record: RunRecord, name: str, workspace: Workspace, progress: bool) -> Iterator[str]:
    entry = record.volumes[name]
    failure = failure_of(record, name, workspace)
    if failure is not None:
        yield failure
        return
    source, digest = Volume.open(workspace.volume(name)), source_digest(workspace, name)
    again = f"run `segem ingest` for {name} with --again"
    if voxel_digest(read_section(source.raw, z) for z in range(source.shape[0])) != digest:
        yield "the ingested voxels are not those that were read from the source"
    coarse = [*source.levels()[1:], *(level for label in source.labels() for level in source.levels(label))]
    yield from _undecodable(coarse, again)
    result = Volume.open(workspace.result(record.run, name))
    if entry.segment is not None and entry.segment.state == "complete":
        plan = plan_of(entry.segment, result)
        with Ledger(workspace.ledger(record.run)) as ledger:
            rows = ledger.rows(name)
        with track(f"verify {name}", plan.count, "block", progress) as advance:
            found = damage(plan, rows, result, deep=True, on_block=advance)
        yield from (f"block {index}: {reason}" for index, reason in found.items())
        yield from _undecodable([*result.levels()[1:], *result.levels("membrane")[1:]], "run the same command again")
    if entry.baseline is not None:
        stale = fault_of(entry.baseline, "K-means", digest)
        if stale is not None:
            yield stale
            return
        fix = f"run `segem baseline {name} --run {record.run}` again"
        if layer_digest(result.label("kmeans"), fix) != entry.baseline.facts.get("digest"):
            yield f"the K-means mask is not the one that was written. Fix: {fix}"


def _undecodable(layers: Iterable[Array], fix: str) -> Iterator[str]:
    for layer in layers:
        try:
            layer_digest(layer, fix)
        except WorkspaceError as error:
            yield str(error)


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
