"""A lease for each flow run that a worker has picked up: what tells a living run from a dead one.

A lease is a file on which the worker, and then the process of the run, hold a shared lock from pick-up to exit. The
system gives the lock back when a process ends, however it ends, so whoever can lock the file for itself knows that
nobody is left. Events, heartbeats and ages decide nothing: a run that says nothing for a week is alive while its lock
is held.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from segem.io.holder import Holder, this_host, this_process

CLOSED = b"closed"
"""Line of a lease whose run was closed."""


@dataclass(frozen=True)
class Lease:
    """A lease as it lies on disk.

    Parameters
    ----------
    path : Path
        The file, called after the flow run.
    """

    path: Path

    @property
    def flow_run(self) -> str:
        """Id of the flow run."""
        return self.path.stem

    def holders(self) -> list[Holder]:
        """Return who has taken it, the worker first."""
        with suppress(OSError, ValueError):
            lines = self.path.read_text(encoding="utf-8").splitlines()
            return [holder for line in lines if (holder := Holder.parse(line)) is not None]
        return []

    def is_closed(self) -> bool:
        """Return whether its run was closed since it was last taken."""
        with suppress(OSError):
            return CLOSED in self.path.read_bytes().splitlines()
        return False

    def close(self) -> None:
        """Write down that its run was closed; nobody can join it any more. To be called while it is expired."""
        with self.path.open("ab") as file:
            file.write(CLOSED + b"\n")

    def age_seconds(self) -> float:
        """Return how long ago it was last taken, joined or closed; 0 when it is gone."""
        with suppress(FileNotFoundError):
            return time.time() - self.path.stat().st_mtime
        return 0.0

    def process(self) -> Holder | None:
        """Return the process of the run, if it has begun and lives on this machine."""
        begun = [one for one in self.holders()[1:] if one.is_here() and one.lives()]
        return begun[-1] if begun else None

    def worker_lives(self) -> bool:
        """Return whether the worker that picked the run up is there."""
        holders = self.holders()
        return bool(holders) and holders[0].lives()


def take(folder: Path, flow_run: str) -> int:
    """Take the lease of a run that is picked up; the worker does, before it tells the server.

    Parameters
    ----------
    folder : Path
        Where leases lie.
    flow_run : str
        Id of the flow run.

    Returns
    -------
    int
        The descriptor that holds the lock; close it when the run has ended.
    """
    path = folder / f"{flow_run}.lease"
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if _is(path, descriptor):
            # An earlier attempt at the same run may have left its holders here.
            os.ftruncate(descriptor, 0)
            _sign(descriptor)
            return descriptor
        os.close(descriptor)


def join(path: Path) -> int | None:
    """Share the lease of a run; the process of the run does, before it does anything else.

    Parameters
    ----------
    path : Path
        The lease.

    Returns
    -------
    int or None
        The descriptor that holds the lock until the process ends. None when the lease is closed or gone: the run was
        found dead, and maybe started again, so that this process must not work on it.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
    except FileNotFoundError:
        return None
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    if _is(path, descriptor) and not Lease(path).is_closed():
        _sign(descriptor)
        return descriptor
    os.close(descriptor)
    return None


def leases_in(folder: Path) -> list[Lease]:
    """Return all leases of a folder."""
    return [Lease(path) for path in sorted(folder.glob("*.lease"))]


@contextmanager
def expired(lease: Lease) -> Iterator[bool]:
    """Tell whether nobody holds a lease; if so, nobody can take it while the body runs.

    A lease of another machine is never found expired, since locks may not reach across machines.
    """
    try:
        descriptor = os.open(lease.path, os.O_RDWR)
    except FileNotFoundError:
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield _is(lease.path, descriptor) and all(one.host == this_host() for one in lease.holders())
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)


def _is(path: Path, descriptor: int) -> bool:
    """Return whether the name still stands for the file that is locked: it may have been removed meanwhile."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


def _sign(descriptor: int) -> None:
    os.write(descriptor, f"{this_process().text()}\n".encode())
