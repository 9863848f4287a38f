"""Computes what a run has lost again, with the settings it was made with, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from segem.config import ExecutionConfig
from segem.errors import SegemError, WorkspaceError
from segem.io.files import locked
from segem.io.layers import label_of
from segem.io.run import load_run, volume_lock
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.stages.segmentation.steps import STEPS, repeat_step
from segem.stages.segmentation.verify import Fault, verify


@dataclass(frozen=True)
class Repair:
    """The faults of a run: those that were repaired, and those that are left."""

    repaired: tuple[Fault, ...]
    left: tuple[Fault, ...]


def repair(run: str, workspace: Workspace, execution: ExecutionConfig) -> Repair:
    """Find what is missing or damaged, compute exactly that again, and verify the outcome.

    Blocks and pyramids are made by the settings in the run's record, and a step that was stopped is resumed. What is
    whole is not touched. A block is not made by another model or another version of the code than its neighbours: then
    the repair is refused, and so it is where the ingested voxels are damaged.

    Parameters
    ----------
    run : str
        Name of the run.
    workspace : Workspace
        Where it lives.
    execution : ExecutionConfig
        Device, engine, workers, memory.

    Returns
    -------
    Repair

    Raises
    ------
    WorkspaceError
        When there is no such run, or its record is damaged.
    """
    # In rounds, since a repair can bring to light what was hidden: pyramids are compared only above whole blocks.
    left = verify(run, workspace)
    repaired: list[Fault] = []
    refused: dict[str, str] = {}
    while names := list(dict.fromkeys(fault.volume for fault in left if fault.volume not in refused)):
        for name in names:
            try:
                _mend(run, name, [fault for fault in left if fault.volume == name], workspace, execution)
            # One volume that cannot be repaired does not stop the others.
            except SegemError as error:
                refused[name] = str(error)
        found = verify(run, workspace, volumes=names)
        repaired += [fault for fault in left if fault.volume in names and fault not in found]
        # A fault that is still there after a repair will not go away by repeating it.
        stuck = {fault.volume for fault in found if fault in left}
        refused |= {name: "" for name in stuck if name not in refused}
        left = [fault for fault in left if fault.volume not in names] + found
    reasons = [Fault(name, f"not repaired: {reason}") for name, reason in refused.items() if reason]
    return Repair(tuple(repaired), tuple(left + reasons))


def _mend(run: str, name: str, faults: list[Fault], workspace: Workspace, execution: ExecutionConfig) -> None:
    entry, parts = load_run(workspace, run).volumes[name], {fault.part for fault in faults}
    if "source" in parts:
        raise WorkspaceError(
            "the ingested voxels are damaged, so nothing can be made of them",
            where=name,
            fix=f"run `segem ingest` for {name} with --again first",
        )
    # Coarse levels of a source follow from its voxels, so no source file is needed.
    if "source pyramid" in parts:
        path = workspace.volume(name)
        # The lock of ingest, which could otherwise replace the volume meanwhile.
        with locked(path.with_name(f".{path.name}.lock")):
            source = Volume.open(path)
            for label in (None, *source.labels()):
                source.build_pyramid(label)
    # Without a readable result volume, nothing of any step is left.
    broken = set(entry.steps) if "result" in parts else {fault.step for fault in faults}
    for step in (entry.steps[kind] for kind in STEPS if kind in entry.steps):
        if step.step in broken:
            repeat_step(name, run, step, execution, workspace)
    # Last: steps that were repeated have built their own, others may have only a damaged coarse level.
    if "pyramid" in parts:
        with volume_lock(workspace, run, name):
            result = Volume.open(workspace.result(run, name))
            for step in entry.steps.values():
                for layer in step.layers if step.state == "complete" else ():
                    result.build_pyramid(label_of(layer))
