"""A copy, in the storage of a workspace, of all that is not an array, and the way back from it to another machine."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

import segem
from segem.errors import SegemError, StorageError, WorkspaceError
from segem.io.files import disk_errors, locked, new_directory, sweep_partials
from segem.io.objects import Objects
from segem.io.snapshot import CONTENT, copy_database, is_database, require_within, sort_files
from segem.io.storage import Storage, claim_again, note_storage, read_claims, read_storage_url, storage_of
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.progress import track
from segem.records.snapshot import CopiedFile, Snapshot

logger = logging.getLogger(__name__)

COPIED = ("volumes", "runs", "models")
"""Folders of a workspace that are copied, but for what is hidden in them, such as a cluster's certificates.

Passwords of a service lie beside them and are not copied either.
"""
EVERY_SECONDS = 300.0
_COPY, _FILES = "copy", "files"


@contextmanager
def kept(workspace: Workspace, *volumes: Path) -> Iterator[None]:
    """Copy a workspace to its storage now and then while the body runs, and at its end; else do nothing.

    Parameters
    ----------
    workspace : Workspace
        One with a storage, or without.
    *volumes : Path
        Volumes that are whole at the end: they can then be opened in the storage too, and what they have replaced is
        removed there. The caller holds their locks.

    Raises
    ------
    StorageError
        When another workspace has taken the storage over, or the copy at the end fails.
    """
    storage = storage_of(workspace)
    if storage is None:
        yield
        return
    storage.require()
    ended = threading.Event()
    copying = threading.Thread(target=_copy_now_and_then, args=(storage, ended), name="storage", daemon=True)
    copying.start()
    try:
        yield
    finally:
        ended.set()
        copying.join()
    for path in volumes:
        place = Volume.open(path).place
        if place is not None:
            storage.publish(path, place)
    save_copy(storage)
    # Last: until now the copy named what was replaced.
    for path in volumes:
        storage.sweep(path)


def _copy_now_and_then(storage: Storage, ended: threading.Event) -> None:
    while not ended.wait(EVERY_SECONDS):
        try:
            save_copy(storage)
        # The next one may succeed, and the one at the end says it aloud.
        except SegemError as error:
            logger.warning("the copy in the storage is not brought up to date: %s", error)


def save_copy(storage: Storage) -> Snapshot:
    """Copy what has changed since the last copy; the copy changes in one step, when all of it is there.

    Returns
    -------
    Snapshot
        All that the copy holds.

    Raises
    ------
    StorageError
        When the storage refuses, or belongs to another workspace by now.
    WorkspaceError
        When the disk refuses.
    """
    root = storage.workspace.root
    copies = storage.objects.within(_COPY)
    contents = copies.within(_FILES)
    with locked(root / ".storage.lock", wait=True):
        storage.require()
        last = {} if copies.missing([CONTENT]) else _read_snapshot(copies).files
        there = set(contents.list_keys())
        known = {name: file for name, file in last.items() if file.sha256 in there}
        found = [sort_files(root / name, hidden=False) for name in COPIED]
        files: dict[str, CopiedFile] = {}
        with tempfile.TemporaryDirectory(prefix="segem-storage-") as scratch:
            for path in (path for each in found for path in each):
                name = path.relative_to(root).as_posix()
                # It may be gone: others replace and remove what is not finished.
                with disk_errors(path), suppress(FileNotFoundError):
                    files[name] = _send(path, known.get(name), contents, Path(scratch) / "copy")
        snapshot = Snapshot(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            segem_version=segem.__version__,
            workspace=str(root),
            files=files,
            links={path.relative_to(root).as_posix(): str(path.readlink()) for each in found for path in each.links},
        )
        copies.write(CONTENT, snapshot.model_dump_json(indent=1).encode())
        # After the list, which until now named some of these.
        contents.remove(there - {file.sha256 for file in files.values()})
    return snapshot


def _send(path: Path, known: CopiedFile | None, files: Objects, scratch: Path) -> CopiedFile:
    """Write a file to the storage under its digest, unless it has not changed since the last copy."""
    stat = path.stat()
    if is_database(path):
        copy_database(path, scratch)
        content = scratch.read_bytes()
        scratch.unlink()
    elif known is not None and (known.bytes, known.modified_ns) == (stat.st_size, stat.st_mtime_ns):
        return known
    else:
        content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if known is None or known.sha256 != digest:
        files.write(digest, content)
    return CopiedFile(bytes=len(content), modified_ns=stat.st_mtime_ns, sha256=digest)


def take_up(url: str, workspace: Workspace) -> Snapshot:
    """Make a workspace of what another one has left in its storage, and take the storage over from it.

    Parameters
    ----------
    url : str
        The storage.
    workspace : Workspace
        Where it is to be; nothing may lie there yet. It appears in one step when all of it is there.

    Returns
    -------
    Snapshot
        What was copied back.

    Raises
    ------
    ConfigError
        When the URL is none of a storage, or another machine is doing the same.
    WorkspaceError
        When something lies there, or the disk refuses.
    StorageError
        When there is no such copy, a file of it is missing or damaged, or the storage refuses.
    """
    objects, root = Objects(read_storage_url(url)), workspace.root
    with disk_errors(root):
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise WorkspaceError(
                "something lies where the workspace is to be", where=root, fix="name a folder that is not there yet"
            )
    if not read_claims(objects):
        raise StorageError("no workspace keeps its arrays there", where=objects.url, fix="check the URL")
    copies = objects.within(_COPY)
    snapshot = _read_snapshot(copies)
    with ExitStack() as stack:
        stack.enter_context(locked(root.with_name(f".{root.name}.restore.lock")))
        sweep_partials(root.parent, root.name)
        partial = stack.enter_context(new_directory(root))
        advance = stack.enter_context(track("take up", len(snapshot.files), "file"))
        stack.enter_context(disk_errors(root))
        for name, file in snapshot.files.items():
            copy = partial / require_within(name)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(_fetch(copies.within(_FILES), file))
            # What has not changed since is known by its time.
            os.utime(copy, ns=(file.modified_ns, file.modified_ns))
            advance(1)
        for name, target in snapshot.links.items():
            link = partial / require_within(name)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target)
        # Last: a kill before that has changed nothing for the other workspace.
        note_storage(partial, workspace, objects, claim_again(objects, workspace))
    return snapshot


def _fetch(files: Objects, file: CopiedFile) -> bytes:
    try:
        content = files.read(file.sha256)
    except FileNotFoundError:
        content = b""
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise StorageError(
            "a file of the copy is missing or damaged",
            where=files.within(file.sha256).url,
            fix="run the command again, since the copy may just have been brought up to date; or restore a backup",
        )
    return content


def _read_snapshot(copies: Objects) -> Snapshot:
    try:
        return Snapshot.model_validate_json(copies.read(CONTENT))
    except (FileNotFoundError, ValidationError) as error:
        raise StorageError(
            "there is no copy of a workspace in this storage, or it cannot be read",
            where=copies.within(CONTENT).url,
            found=type(error).__name__,
            fix="restore a backup (segem restore), or ingest and run again in a new storage",
        ) from error
