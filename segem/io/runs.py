"""The runs of a workspace and their states."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from segem.errors import WorkspaceError
from segem.io.holder import Holder
from segem.io.run import INTERRUPTED, load_run
from segem.io.workspace import Workspace
from segem.records.run import RunRecord, VolumeRecord

State = Literal["complete", "failed", "running", "stopped", "unreadable"]


@dataclass(frozen=True)
class RunSummary:
    """One run of a workspace.

    Parameters
    ----------
    run : str
        Its name.
    created : str
        When it was started, ISO 8601 in UTC; empty where its record cannot be read.
    state : str
        ``complete``, ``failed``, ``running``, ``stopped`` before it was complete, or ``unreadable``.
    done, volumes : int
        Volumes that are complete, and all that the run is to finish.
    model : str or None
        Name of the model that segments; None for a run of baselines alone.
    reason : str
        Why its record cannot be read.
    """

    run: str
    created: str
    state: State
    done: int
    volumes: int
    model: str | None = None
    reason: str = ""


def list_runs(workspace: Workspace) -> tuple[RunSummary, ...]:
    """Return every run of a workspace, the newest first.

    A run whose record cannot be read is among them, with the reason.
    """
    found = [_summary(workspace, name) for name in workspace.runs()]
    return tuple(sorted(found, key=lambda one: (one.created, one.run), reverse=True))


def _summary(workspace: Workspace, name: str) -> RunSummary:
    try:
        record = load_run(workspace, name)
    except WorkspaceError as error:
        return RunSummary(name, "", "unreadable", 0, 0, reason=str(error))
    states = [_state_of(record, entry) for entry in record.volumes.values()]
    done = states.count("complete")
    if _is_held(workspace.run(name)):
        state: State = "running"
    elif done == len(states):
        state = "complete"
    else:
        state = "failed" if "failed" in states else "stopped"
    return RunSummary(name, record.created, state, done, len(states), record.model.name if record.model else None)


def _state_of(record: RunRecord, entry: VolumeRecord) -> State:
    """Return the state of a volume by the record; one that was interrupted or killed counts as stopped."""
    failed = any(step.state == "failed" and step.reason != INTERRUPTED for step in entry.steps.values())
    if entry.failure is not None or failed:
        return "failed"
    segments = record.model is not None or any(each.membrane is not None for each in record.volumes.values())
    step = entry.membrane if segments or entry.baseline is None else entry.baseline
    return "complete" if step is not None and step.state == "complete" else "stopped"


def _is_held(folder: Path) -> bool:
    """Return whether a live process holds a lock of the run, by the name that it has written into the lock file.

    The lock itself is not tried: that would hold it for a moment, and a run that starts just then would be refused.
    """
    # With what stands beside a lock on a disk that hosts share, see `segem.io.leases`.
    return any(_lives(path) for path in folder.glob(".*.lock*"))


def _lives(lock: Path) -> bool:
    try:
        holder = Holder.parse(lock.read_text(encoding="utf-8"))
    except OSError:
        return False
    # Whether a process on another machine is alive cannot be told from here, so its lock file is believed.
    return holder is not None and holder.lives()
