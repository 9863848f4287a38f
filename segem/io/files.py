"""Atomic and durable writes, locks, and disk errors that say what to do."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from segem.errors import WorkspaceError
from segem.io.disks import shared_kind
from segem.io.holder import Holder, this_process
from segem.io.leases import leased

PARTIAL = re.compile(r"\.[0-9a-f]{32}\.partial$")
"""How unfinished files and folders end; zarr names its own unfinished chunks the same way."""

_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EACCES: "no permission to read or write here",
    errno.EPERM: "no permission to read or write here",
    errno.EROFS: "the disk is read-only",
    errno.ENOENT: "no such file or folder",
}
"""Reasons that are clearer than the messages of the system."""

_FIXES = {
    errno.ENOENT: "check the path: the folder it lies in must be there and be yours to write to",
    errno.ENOSPC: "free some space, or choose another --workspace",
    errno.EDQUOT: "free some of your quota, or choose another --workspace",
    errno.EFBIG: "raise the file size limit (ulimit -f), or choose another --workspace",
    errno.EACCES: "choose a --workspace that you may write to",
    errno.EPERM: "choose a --workspace that you may write to",
    errno.EROFS: "choose a --workspace on a writable disk",
    errno.ENOTDIR: "there is a file where a folder is needed; choose another --workspace",
    errno.EEXIST: "there is a file where a folder is needed; choose another --workspace",
    errno.ENAMETOOLONG: "use a shorter name",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}

# From Linux's <fcntl.h> and <linux/fs.h>; Python names neither.
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically; it is durable on return.

    Parameters
    ----------
    path : Path
        The file; one that exists is replaced in a single step.
    text : str
        Its new content.

    Raises
    ------
    WorkspaceError
        When the disk is full, read-only or broken; the old file is then untouched.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_text(Path(folder) / "a.txt", "membrane")
    ...     (Path(folder) / "a.txt").read_text()
    'membrane'
    """
    write_bytes(path, text.encode())


def write_bytes(path: Path, *parts: bytes) -> None:
    """Write a binary file of one or more parts atomically; it is durable on return, see `write_text`."""
    partial = _partial_of(path)
    with disk_errors(path):
        # Synced before it is renamed: after a power cut the new name could otherwise stand for an empty file.
        try:
            with partial.open("wb") as file:
                file.writelines(parts)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        # Also on Ctrl-C: only a killed process may leave a partial file behind.
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        fsync_directory(path.parent)


def append_line(path: Path, line: str) -> None:
    """Add a line to a text file, made when missing; durable on return. One write, so two processes mix no lines.

    Raises
    ------
    WorkspaceError
        When the disk refuses.
    """
    with disk_errors(path), path.open("a+b") as file:
        # A line that a full disk has cut must not take this one with it.
        if file.seek(0, os.SEEK_END) and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n":
            line = f"\n{line}"
        file.write(f"{line}\n".encode())
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Write a file under a hidden name and move it into place in one step, as `new_directory` does for a folder.

    Parameters
    ----------
    path : Path
        The file to create or replace.

    Yields
    ------
    Path
        Where to write it.

    Raises
    ------
    WorkspaceError
        When the disk refuses.
    """
    partial = _partial_of(path)
    try:
        yield partial
        with disk_errors(path):
            fsync(partial)
            partial.replace(path)
            fsync_directory(path.parent)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """Fill a folder under a hidden name and move it into place in one step.

    The body works in a hidden sibling. When it succeeds, everything in there is made durable and the sibling takes the
    place of `path` by one rename (an exchange of names where something is being replaced). When it fails, the sibling
    is removed and `path` is unchanged.

    Parameters
    ----------
    path : Path
        The folder to create or replace; its parent is created when missing.

    Yields
    ------
    Path
        The empty hidden sibling, ``.<name>.<32 hexadecimal digits>.partial``.

    Raises
    ------
    WorkspaceError
        When the disk refuses.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with new_directory(Path(folder) / "volume") as partial:
    ...         write_text(partial / "a.txt", "whole")
    ...     sorted(p.name for p in Path(folder).rglob("*"))
    ['a.txt', 'volume']
    """
    partial = _partial_of(path)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
    try:
        yield partial
        with disk_errors(path):
            # Everything inside first, so that the new name never stands for a folder that is not on disk.
            _fsync_tree(partial)
            _put_in_place(partial, path)
            fsync_directory(path.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    # After an exchange the hidden name holds what was replaced.
    shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn errors of the operating system into one line that names the path, the free space and a fix.

    Parameters
    ----------
    path : Path
        What is being read or written in the workspace, for the message.

    Raises
    ------
    WorkspaceError
        Instead of any `OSError` of the body.

    Examples
    --------
    >>> with disk_errors(Path("/")):
    ...     raise OSError(errno.EROFS, "Read-only file system")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    segem.errors.WorkspaceError: /: the disk is read-only; found Read-only file system ... Fix: choose a --workspace...
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise WorkspaceError(
            _REASONS.get(error.errno or 0, "the disk reported an error"),
            where=path,
            found=f"{reason} ({_free_space(path)})",
            fix=_FIXES.get(error.errno or 0, "check the disk and the rights of the folder"),
        ) from error


def is_refusal(error: BaseException | None) -> bool:
    """Return whether an error says that something could not be read, which may be there and whole.

    Examples
    --------
    >>> is_refusal(PermissionError()), is_refusal(FileNotFoundError()), is_refusal(ValueError())
    (True, False, False)
    """
    absent = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
    return isinstance(error, OSError) and not isinstance(error, absent)


@contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a lock file while the body runs; the system releases it when the process ends, however it ends.

    On a disk that other hosts share, it is a lease, see `segem.io.leases`.

    Parameters
    ----------
    path : Path
        The lock file; created, and removed at the end.
    wait : bool
        Wait for the process that holds it, instead of raising.

    Raises
    ------
    WorkspaceError
        When another process, or another thread, holds the lock and `wait` is false; the message names it.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # Locks of the kernel reach across hosts on some of these and on others only seem to.
        shared = shared_kind(path.parent) is not None
    if shared:
        with ExitStack() as held:
            with disk_errors(path):
                held.enter_context(leased(path, wait=wait))
            yield
        return
    with disk_errors(path):
        descriptor = _lock(path, wait)
    try:
        yield
    finally:
        # Removed before it is released: a process that opened the file meanwhile finds its name gone, see `_lock`.
        path.unlink(missing_ok=True)
        os.close(descriptor)


def sweep_partials(folder: Path, name: str | None = None) -> list[Path]:
    """Remove unfinished files and folders of killed writers; the caller must hold the lock that protects them.

    Parameters
    ----------
    folder : Path
        Folder to search, to any depth.
    name : str, optional
        Sweep only the leftovers of this file or folder name, directly in `folder`.

    Returns
    -------
    list of Path
        What was removed.
    """
    # A hidden folder may have been created inside another hidden folder, so the ending may occur twice.
    ours = PARTIAL if name is None else re.compile(rf"^\.+{re.escape(name)}(\.[0-9a-f]{{32}}\.partial)+$")
    found = folder.rglob("*.partial") if name is None else folder.glob(".*.partial")
    removed = []
    with disk_errors(folder):
        for path in sorted(p for p in found if ours.search(p.name)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.exists() or path.is_symlink():
                path.unlink()
            else:
                continue
            removed.append(path)
    return removed


def fsync(path: Path) -> None:
    """Make the content of a file durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_directory(path: Path) -> None:
    """Make the names in a folder durable: without this, a power cut may undo a rename."""
    fsync(path)


def _partial_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")


def _put_in_place(partial: Path, path: Path) -> None:
    if not path.exists():
        partial.rename(path)
    elif not _exchange(partial, path):
        # Not atomic, but never wrong: after a kill between the two renames the folder is missing and is made again.
        old = _partial_of(path)
        path.rename(old)
        partial.rename(path)
        shutil.rmtree(old, ignore_errors=True)


def _exchange(a: Path, b: Path) -> bool:
    """Swap two names in one step where the system can; Python has no call for it."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    return bool(renameat2(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), _RENAME_EXCHANGE) == 0)


def _lock(path: Path, wait: bool) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            # The system releases it when the process dies, so no lock can be left over from a killed one.
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            # The holder before may have removed this file since it was opened, and a third process may have locked a
            # new one of the same name: the lock counts only if the name still stands for the file that is locked.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    os.ftruncate(descriptor, 0)
                    os.write(descriptor, this_process().text().encode())
                    return descriptor
        except BlockingIOError:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise WorkspaceError(
                "another process is writing here",
                where=path,
                found=holder or "an unknown process",
                fix="wait for it to end, or stop it",
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _holder(descriptor: int) -> str:
    """Return who holds a lock; the holder may not have written its name yet."""
    # Half a second at most.
    for _ in range(50):
        text = os.pread(descriptor, 500, 0).decode(errors="replace")
        if text:
            return str(Holder.parse(text) or text)
        time.sleep(0.01)
    return ""


def _fsync_tree(folder: Path) -> None:
    for parent, _, files in os.walk(folder, topdown=False):
        for name in files:
            fsync(Path(parent) / name)
        fsync_directory(Path(parent))


def _free_space(path: Path) -> str:
    # The path itself may not exist yet; the nearest folder above it that does tells which disk it would be on.
    place = path
    try:
        while not place.exists() and place != place.parent:
            place = place.parent
        return f"{shutil.disk_usage(place).free / 1e6:.0f} MB free"
    except OSError:
        return "free space unknown"
