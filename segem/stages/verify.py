"""Checks that every voxel of a run is there and as it was written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from segem.errors import SegemError
from segem.geometry import ZYX, Halo
from segem.io.blocks import shard_path, stored_digest
from segem.io.ledger import Ledger, LedgerRow
from segem.io.run import StageRecord, load_run
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
    """Read back every block of a run and return what is missing or damaged; an empty list means whole.

    Raises
    ------
    WorkspaceError
        When there is no such run.
    """
    faults: list[Fault] = []
    record = load_run(workspace, run)
    for name, volume in record.volumes.items():
        stage = volume.segment
        if volume.failure or stage is None or stage.state != "complete":
            reason = volume.failure or (stage.reason if stage else None) or "it was never finished"
            faults.append(Fault(name, f"not segmented: {reason}"))
            continue
        try:
            result = Volume.open(workspace.result(run, name))
            plan = plan_of(stage, result)
            with Ledger(workspace.ledger(run)) as ledger:
                rows = ledger.rows(name)
            with track(f"verify {name}", plan.count, "block", progress) as advance:
                found = damage(plan, rows, result, deep=True, on_block=advance)
            faults += [Fault(name, f"block {index}: {reason}") for index, reason in found.items()]
        except SegemError as error:
            faults.append(Fault(name, str(error)))
    return faults


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
