"""The ledger of a run: one row for each finished block of each step, and nothing is finished that has no row."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from segem.errors import WorkspaceError
from segem.geometry import ZYX
from segem.io.disks import shared_kind
from segem.io.files import disk_errors
from segem.io.journal import set_journal
from segem.io.leases import Lease, leased
from segem.io.workspace import Workspace

_SCHEMA = """
CREATE TABLE IF NOT EXISTS blocks (
    volume TEXT NOT NULL,
    step TEXT NOT NULL,
    phase TEXT NOT NULL,
    z INTEGER NOT NULL,
    y INTEGER NOT NULL,
    x INTEGER NOT NULL,
    identity TEXT NOT NULL,  -- sha256 of everything that made the block
    digest TEXT NOT NULL,    -- sha256 of what it wrote: voxels, or the value where it wrote none
    value BLOB NOT NULL,     -- what a later phase or the summary needs of it
    PRIMARY KEY (volume, step, phase, z, y, x)
) WITHOUT ROWID
"""
# Kept in the header of the file (PRAGMA user_version); the first ledgers have none there.
_VERSION = 2


_PATIENCE_S = 30
_COPIES = 5
"""How often a ledger is copied that changes meanwhile; what is wrong with the last copy is then said of the ledger."""

_LOST = "move the file elsewhere and run again: every block is then computed again"
_FIXES = {
    sqlite3.SQLITE_BUSY: "wait until the other process has ended",
    sqlite3.SQLITE_CORRUPT: _LOST,
    sqlite3.SQLITE_FULL: "free some space, or choose another --workspace",
    sqlite3.SQLITE_NOTADB: _LOST,
    sqlite3.SQLITE_READONLY: "make the folder of the run writable, or copy the workspace to where you may write",
}


@dataclass(frozen=True)
class LedgerRow:
    """A finished block: the identity of what made it, the digest of what it wrote, and a value to keep."""

    identity: str
    digest: str
    value: bytes = b""


@dataclass(frozen=True)
class PhaseKey:
    """Which rows of a ledger belong together: those of one phase of one step of one volume."""

    volume: str
    step: str
    phase: str


class Ledger:
    """Finished blocks in an SQLite file, each committed only after its voxels are durable.

    Written by the coordinator of a run alone. Write-ahead logging with full synchronisation keeps every acknowledged
    row through a killed process. On a disk that other hosts share, where its memory would end at the host, it is a
    rollback journal, under a lease that lets the processes of one host alone open it.

    Parameters
    ----------
    path : Path
        The SQLite file; made when missing.
    copy_of : Path, optional
        The file that it is a copy of, which messages then name.

    Raises
    ------
    WorkspaceError
        When the file cannot be opened, is no ledger, is one of another version, or another host has it open.
    """

    def __init__(self, path: Path, copy_of: Path | None = None) -> None:
        self.path = copy_of or path
        self._lease: Lease | None = None
        with ExitStack() as held:
            with disk_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                shared = shared_kind(path.parent) is not None
                if shared:
                    self._lease = held.enter_context(leased(path.with_name(f".{path.name}.lock"), by_host=True))
            with self._faults():
                # No isolation level: what is committed is said here alone, so rows are on disk when `record` returns.
                self._db = sqlite3.connect(path, timeout=_PATIENCE_S, isolation_level=None)
                held.callback(self._db.close)
                set_journal(self._db, "DELETE" if shared else "WAL", _PATIENCE_S)
                # In WAL mode, NORMAL would not sync at a commit, and a power cut could lose rows; with a rollback
                # journal, FULL would not sync that it is gone.
                self._db.execute(f"PRAGMA synchronous={'EXTRA' if shared else 'FULL'}")
                self._require_version()
                self._db.execute(_SCHEMA)
            self._held = held.pop_all()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def rows(self, key: PhaseKey) -> dict[ZYX, LedgerRow]:
        """Return the finished blocks of a phase by index."""
        wanted = (key.volume, key.step, key.phase)
        with self._faults(), closing(self._db.cursor()) as cursor:
            cursor.execute(
                "SELECT z, y, x, identity, digest, value FROM blocks WHERE volume = ? AND step = ? AND phase = ?",
                wanted,
            )
            return {(z, y, x): LedgerRow(identity, digest, value) for z, y, x, identity, digest, value in cursor}

    def record(self, key: PhaseKey, rows: Mapping[ZYX, LedgerRow]) -> None:
        """Commit finished blocks, all or none; their voxels must be on disk by now."""
        if self._lease is not None:
            self._lease.require()
        values = [
            (key.volume, key.step, key.phase, *index, row.identity, row.digest, row.value)
            for index, row in rows.items()
        ]
        with self._faults():
            # One sync for all of them: it takes longer than all else.
            self._db.execute("BEGIN IMMEDIATE")
            try:
                # A block that was computed twice, or anew with another identity, replaces its row.
                self._db.executemany("INSERT OR REPLACE INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
                self._db.execute("COMMIT")
            except BaseException:
                # A commit that failed, as on a full disk, may have ended the transaction by itself.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _require_version(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        # A file without tables is new, and is given the version below.
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if version != _VERSION and tables:
            raise WorkspaceError(
                "this ledger was made by another version of segem",
                where=self.path,
                expected=f"version {_VERSION}",
                found=f"version {version or 1}",
                fix="run again under another name (--run); what this one holds stays as it is",
            )
        self._db.execute(f"PRAGMA user_version = {_VERSION}")

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise WorkspaceError(
                "the ledger of the run cannot be used",
                where=self.path,
                found=str(error),
                # The first byte says what is wrong, the others where it was noticed.
                fix=_FIXES.get(
                    getattr(error, "sqlite_errorcode", 0) & 0xFF, "check the disk and the rights of the folder"
                ),
            ) from None


@contextmanager
def read_ledger(path: Path) -> Iterator[Ledger]:
    """Open a ledger to read it, also where nothing may be written.

    Parameters
    ----------
    path : Path
        The SQLite file.

    Yields
    ------
    Ledger
        A copy where the file or its folder is read-only, since SQLite keeps files beside it even to read it; and on a
        disk that other hosts share, since a reader there would roll back what a writer on another host has begun.

    Raises
    ------
    WorkspaceError
        When it cannot be read.
    """
    with disk_errors(path):
        shared = path.parent.exists() and shared_kind(path.parent) is not None
    if not shared and os.access(path.parent, os.W_OK) and os.access(path, os.W_OK):
        with Ledger(path) as ledger:
            yield ledger
        return
    with tempfile.TemporaryDirectory(prefix="segem-ledger-") as folder:
        copy = Path(folder) / path.name
        with disk_errors(path):
            copy_with_log(path, copy)
        with Ledger(copy, copy_of=path) as ledger:
            yield ledger


def copy_with_log(path: Path, copy: Path) -> bool:
    """Copy the files of a database beside which nothing may be written, and return whether the copy is whole.

    Others may write to it meanwhile: it is copied until a copy is whole, a few times at most.
    """
    for attempt in range(_COPIES):
        # With the log of a process that was killed, which holds its last rows, or what takes back its last change.
        for ending in ("", "-wal", "-journal"):
            part, taken = (file.with_name(f"{file.name}{ending}") for file in (path, copy))
            taken.unlink(missing_ok=True)
            # A run that has none has no rows.
            with suppress(FileNotFoundError):
                shutil.copyfile(part, taken)
        with suppress(sqlite3.Error), closing(sqlite3.connect(copy)) as db:
            if db.execute("PRAGMA quick_check").fetchone() == ("ok",):
                return True
        # A commit takes milliseconds, so the next copy is most likely one between two of them.
        time.sleep(0.05 * attempt)
    return False


def blocks_digest(workspace: Workspace, run: str, key: PhaseKey) -> str:
    """Return one sha256 of what all finished blocks of a phase hold, by the ledger of the run."""
    with read_ledger(workspace.ledger(run)) as ledger:
        rows = ledger.rows(key)
    return hashlib.sha256(json.dumps(sorted((index, row.digest) for index, row in rows.items())).encode()).hexdigest()
