"""Which runs of a workspace are old enough to go, and their removal."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from segem.errors import WorkspaceError
from segem.io.files import PARTIAL, disk_errors
from segem.io.reviews import LOG
from segem.io.run import campaign_lock, load_run, volume_lock
from segem.io.runs import RunSummary, list_runs
from segem.io.storage import storage_of
from segem.io.workspace import Workspace

_STAYING = {"running": "a process works on it", "unreadable": "its record cannot be read"}


@dataclass(frozen=True)
class OldRun:
    """A run that nothing has changed for long.

    Parameters
    ----------
    run : str
        Its name.
    used : datetime
        When a file of it was last written, in UTC.
    bytes : int
        What it takes on disk.
    kept : str
        Why it stays all the same; empty where it may go.
    """

    run: str
    used: datetime
    bytes: int
    kept: str = ""


def find_old_runs(workspace: Workspace, age: timedelta, *, reviewed: bool = False) -> list[OldRun]:
    """Return the runs of which no file was written for a time, the oldest first.

    Parameters
    ----------
    workspace : Workspace
        Where the runs are.
    age : timedelta
        For how long.
    reviewed : bool
        Whether runs that people have reviewed may go as well: their work cannot be computed again.
    """
    before = datetime.now(UTC) - age
    found = [_look_at(workspace, summary, reviewed=reviewed) for summary in list_runs(workspace)]
    return sorted((run for run in found if run.used < before), key=lambda run: (run.used, run.run))


def remove_run(workspace: Workspace, run: str, used: datetime | None = None) -> None:
    """Remove a run; it is gone in one step, however far its files are removed.

    Parameters
    ----------
    workspace : Workspace
        Where it is.
    run : str
        Its name.
    used : datetime, optional
        When it was last written when its removal was decided: what people have done to it since is not lost.

    Raises
    ------
    WorkspaceError
        When a process works on it, it was written since, or the disk refuses.
    """
    folder = workspace.run(run)
    # Before the locks, which are files of it too.
    if used is not None and _measure(folder)[0] > used:
        raise WorkspaceError(
            "this run was written after it was listed, and stays",
            where=folder,
            fix="repeat the command to remove the others",
        )
    # Named as an unfinished one is, so that what a kill leaves is swept by the next call.
    gone = folder.with_name(f".{run}.{uuid.uuid4().hex}.partial")
    with ExitStack() as held:
        held.enter_context(campaign_lock(workspace, run))
        for volume in load_run(workspace, run).volumes:
            held.enter_context(volume_lock(workspace, run, volume))
        with disk_errors(folder):
            folder.rename(gone)
    _remove(workspace, gone)


def sweep_removed(workspace: Workspace) -> None:
    """Remove what killed removals have left of runs."""
    folder = workspace.root / "runs"
    for left in folder.glob(".*.partial") if folder.is_dir() else ():
        if PARTIAL.search(left.name):
            _remove(workspace, left)


def _remove(workspace: Workspace, gone: Path) -> None:
    # First what is named only here: after a kill, the next call still finds it.
    storage = storage_of(workspace)
    if storage is not None:
        storage.remove(gone)
    with disk_errors(gone):
        shutil.rmtree(gone)


def _look_at(workspace: Workspace, summary: RunSummary, *, reviewed: bool) -> OldRun:
    folder = workspace.run(summary.run)
    used, size = _measure(folder)
    if summary.state in _STAYING:
        kept = _STAYING[summary.state]
    elif not reviewed and (folder / LOG).exists():
        kept = "people have reviewed it"
    else:
        kept = ""
    return OldRun(summary.run, used, size, kept)


def _measure(folder: Path) -> tuple[datetime, int]:
    """Return when a file of a run was last written, in UTC, and the bytes that all of them take."""
    used, size = 0.0, 0
    for stat in _stats(folder):
        used, size = max(used, stat.st_mtime), size + stat.st_blocks * 512
    return datetime.fromtimestamp(used, UTC), size


def _stats(folder: Path) -> Iterator[os.stat_result]:
    for at, _, names in os.walk(folder):
        for name in names:
            # A file may be gone by now.
            with suppress(FileNotFoundError):
                yield (Path(at) / name).lstat()
