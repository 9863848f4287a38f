"""Copies of a whole workspace, and the way back from one."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

import segem
from segem.errors import WorkspaceError, spell_out
from segem.io.files import PARTIAL, disk_errors, locked, new_directory, sweep_partials, write_text
from segem.io.ledger import copy_with_log
from segem.progress import Advance, track
from segem.records.snapshot import CopiedFile, Snapshot

CONTENT = "snapshot.json"
FILES = "workspace"
"""Folder of a backup with the files of the workspace, as they were."""

_PIECE = 2**22
_SQLITE = b"SQLite format 3\x00"
_LIVE = ("-wal", "-shm", "-journal", ".lock")
"""How files end that mean something only as long as a process lives; the WAL of a database is copied with it."""


@dataclass
class SortedFiles:
    """The files of a workspace in the order in which they are copied."""

    records: list[Path] = field(default_factory=list)
    databases: list[Path] = field(default_factory=list)
    rest: list[Path] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)

    def __iter__(self) -> Iterator[Path]:
        # A run that goes on meanwhile is then one that was stopped earlier: its record says no more than its ledger,
        # which claims no block that is not there.
        yield from self.records
        yield from self.databases
        yield from self.rest


def take_snapshot(root: Path, into: Path, *, keep: int | None = None) -> tuple[Path, Snapshot]:
    """Copy a workspace; files that have not changed since the backup before take no space again.

    Databases are copied as one consistent state, while others may write to them.

    Parameters
    ----------
    root : Path
        The workspace.
    into : Path
        Folder of backups, elsewhere than in the workspace.
    keep : int, optional
        How many backups stay; older ones are removed once this one is complete. All where absent.

    Returns
    -------
    tuple of Path and Snapshot
        The folder of the backup, named by the time in UTC, and what it holds.

    Raises
    ------
    WorkspaceError
        When there is no workspace, the folder lies in it, or the disk refuses.
    """
    root, into = root.resolve(), into.resolve()
    if not root.is_dir():
        raise WorkspaceError("there is no workspace", where=root, fix="check --workspace")
    if into == root or root in into.parents:
        raise WorkspaceError(
            "a backup within the workspace is lost with it", where=into, fix="name a folder elsewhere, on another disk"
        )
    with disk_errors(into):
        into.mkdir(parents=True, exist_ok=True)
        # What is kept of people, and tokens, is nobody else's.
        into.chmod(0o700)
    with locked(into / ".backup.lock"):
        place, snapshot = _copy_all(root, into)
        for old in list_snapshots(into)[: -max(1, keep)] if keep is not None else ():
            # Where the clock was set back, this one comes before those that it has followed.
            if old != place:
                _remove(old)
    return place, snapshot


def _copy_all(root: Path, into: Path) -> tuple[Path, Snapshot]:
    for left in into.glob(".*.partial"):
        sweep_partials(into, PARTIAL.sub("", left.name).removeprefix("."))
    found, before = sort_files(root), list_snapshots(into)
    last = before[-1] if before else None
    known = read_snapshot(last).files if last else {}
    created = datetime.now(UTC)
    place = into / created.strftime("%Y-%m-%dT%H-%M-%S.%fZ")
    total = sum(_size(path) for path in found)
    with new_directory(place) as partial, track("backup", total, "byte") as advance, disk_errors(place):
        files: dict[str, CopiedFile] = {}
        for path in found:
            name = path.relative_to(root).as_posix()
            copy = partial / FILES / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            # It may be gone: others replace and remove what is not finished.
            with suppress(FileNotFoundError):
                old = last / FILES / name if last else None
                files[name] = _copy(path, copy, known.get(name), old, advance)
        snapshot = Snapshot(
            created=created.isoformat(timespec="seconds"),
            segem_version=segem.__version__,
            workspace=spell_out(str(root)),
            files=files,
            links={path.relative_to(root).as_posix(): str(path.readlink()) for path in found.links},
        )
        write_text(partial / CONTENT, snapshot.model_dump_json(indent=1) + "\n")
    return place, snapshot


def list_snapshots(folder: Path) -> list[Path]:
    """Return the complete backups in a folder, the oldest first."""
    return sorted(path.parent for path in folder.glob(f"*/{CONTENT}") if not PARTIAL.search(path.parent.name))


def read_snapshot(folder: Path) -> Snapshot:
    """Return what a backup holds.

    Raises
    ------
    WorkspaceError
        When its list cannot be read.
    """
    with disk_errors(folder / CONTENT):
        text = (folder / CONTENT).read_text(encoding="utf-8")
    try:
        return Snapshot.model_validate_json(text)
    except ValidationError as error:
        raise WorkspaceError(
            "the list of what this backup holds cannot be read",
            where=folder / CONTENT,
            found=error.errors()[0]["msg"],
            fix="take another backup",
        ) from error


def restore_snapshot(folder: Path, root: Path) -> Snapshot:
    """Make a workspace from a backup; every file is compared with its digest.

    The workspace appears in one step when all of it is there, so that a restore that was killed is begun again.

    Parameters
    ----------
    folder : Path
        A backup, or a folder of backups, of which the newest is taken.
    root : Path
        Where the workspace is to be; nothing may lie there yet.

    Returns
    -------
    Snapshot
        What was restored.

    Raises
    ------
    WorkspaceError
        When there is no backup, a file of it is missing or damaged, or something lies at `root`.
    """
    folder, root = _find(folder), root.resolve()
    with disk_errors(root):
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise WorkspaceError(
                "something lies where the workspace is to be",
                where=root,
                fix="name a folder that is empty or not there",
            )
    snapshot = read_snapshot(folder)
    total = sum(file.bytes for file in snapshot.files.values())
    with ExitStack() as stack:
        stack.enter_context(locked(root.with_name(f".{root.name}.restore.lock")))
        sweep_partials(root.parent, root.name)
        partial = stack.enter_context(new_directory(root))
        advance = stack.enter_context(track("restore", total, "byte"))
        stack.enter_context(disk_errors(root))
        for name, known in snapshot.files.items():
            source, copy = folder / FILES / require_within(name), partial / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            if not source.is_file():
                raise _damaged(source, "it is missing")
            if _copy_bytes(source, copy, advance) != known.sha256:
                raise _damaged(source, "its content has changed since")
            shutil.copystat(source, copy)
        for name, target in snapshot.links.items():
            link = partial / require_within(name)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target)
    return snapshot


def _find(folder: Path) -> Path:
    folder = folder.resolve()
    if (folder / CONTENT).is_file():
        return folder
    if not (found := list_snapshots(folder) if folder.is_dir() else []):
        raise WorkspaceError(
            "there is no complete backup", where=folder, fix="name the folder that was given to segem backup"
        )
    return found[-1]


def require_within(name: str) -> str:
    """Return the path of a file in a workspace; a list that was tampered with must not lead elsewhere."""
    path = Path(name)
    if path.is_absolute() or ".." in path.parts:
        raise WorkspaceError(
            "the list of this backup names a file outside the workspace", where=name, fix="take another backup"
        )
    return name


def _damaged(path: Path, how: str) -> WorkspaceError:
    return WorkspaceError(
        "a file of the backup is damaged", where=path, found=how, fix="restore an earlier backup of the folder"
    )


def sort_files(root: Path, *, hidden: bool = True) -> SortedFiles:
    """Return the files below a folder of a workspace, without unfinished ones and those of a living process.

    Whether those are among them whose name, or whose folder's name, begins with a dot, is said by `hidden`.

    Raises
    ------
    WorkspaceError
        When a name is not UTF-8, or the disk refuses.
    """
    found = SortedFiles()
    with disk_errors(root):
        for folder, below, names in os.walk(root):
            here = Path(folder)
            found.links += [here / name for name in below if (here / name).is_symlink()]
            below[:] = sorted(name for name in below if not _is_left_out(name, hidden))
            for name in below:
                _require_text(here / name, name)
            for name in sorted(names):
                path = here / name
                if _is_left_out(name, hidden) or name.endswith(_LIVE):
                    continue
                _require_text(path, name)
                if path.is_symlink():
                    found.links.append(path)
                # Neither sockets nor pipes.
                elif path.is_file():
                    databases = found.databases if is_database(path) else found.rest
                    (found.records if name == "run.json" else databases).append(path)
    return found


def _require_text(path: Path, name: str) -> None:
    """Raise where the list of a copy could not name a file, so that it could never be copied back."""
    if spell_out(name) != name:
        raise WorkspaceError(
            "a name in the workspace is not UTF-8, and no copy of it would be found again",
            where=path,
            fix="rename it, or move it out of the workspace",
        )


def _is_left_out(name: str, hidden: bool) -> bool:
    return bool(PARTIAL.search(name)) or (name.startswith(".") and not hidden)


def is_database(path: Path) -> bool:
    """Return whether a file is a database of SQLite."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE
    return False


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _copy(path: Path, copy: Path, known: CopiedFile | None, old: Path | None, advance: Advance) -> CopiedFile:
    """Copy a file, or link the copy of the last backup where the file has not changed since."""
    stat = path.stat()
    if is_database(path):
        copy_database(path, copy)
        digest = _digest(copy)
        advance(stat.st_size)
    elif (
        known is not None and (known.bytes, known.modified_ns) == (stat.st_size, stat.st_mtime_ns) and _link(old, copy)
    ):
        advance(stat.st_size)
        return known
    else:
        digest = _copy_bytes(path, copy, advance)
    shutil.copystat(path, copy)
    return CopiedFile(bytes=copy.stat().st_size, modified_ns=stat.st_mtime_ns, sha256=digest)


def _link(old: Path | None, copy: Path) -> bool:
    # Not every file system has links.
    with suppress(OSError):
        if old is not None and old.is_file():
            copy.hardlink_to(old)
            return True
    return False


def copy_database(path: Path, copy: Path) -> None:
    """Copy a database as one consistent state, while others may write to it.

    Raises
    ------
    WorkspaceError
        When it cannot be read.
    """
    try:
        if not os.access(path.parent, os.W_OK):
            # SQLite keeps files beside a database even to read it.
            with disk_errors(path):
                whole = copy_with_log(path, copy)
            if not whole:
                raise sqlite3.DatabaseError("no whole copy of it")
            return
        with (
            # Quoted: what follows a # or ? in a folder's name would be none of the path, and another file be made.
            closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=60)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            source.backup(target)
    except sqlite3.Error as error:
        raise WorkspaceError(
            "a database of the workspace cannot be read",
            where=path,
            found=error,
            fix="segem verify says which run is damaged; move the file away and back up again",
        ) from error


def _copy_bytes(source: Path, copy: Path, advance: Advance) -> str:
    digest = hashlib.sha256()
    with source.open("rb") as file, copy.open("wb") as out:
        while piece := file.read(_PIECE):
            digest.update(piece)
            out.write(piece)
            advance(len(piece))
    return digest.hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove(folder: Path) -> None:
    # Without its list it is no backup any more, however far the rest is removed.
    with disk_errors(folder):
        (folder / CONTENT).unlink()
        shutil.rmtree(folder)
