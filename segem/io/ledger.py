"""The ledger of a run: one row for each finished block of each step, and nothing is finished that has no row."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from segem.errors import WorkspaceError
from segem.geometry import ZYX
from segem.io.files import disk_errors
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
    row through a killed process; the file belongs on a disk of this host, not on a network share.

    Parameters
    ----------
    path : Path
        The SQLite file; made when missing.
    copy_of : Path, optional
        The file that it is a copy of, which messages then name.

    Raises
    ------
    WorkspaceError
        When the file cannot be opened, is no ledger, or is one of another version.
    """

    def __init__(self, path: Path, copy_of: Path | None = None) -> None:
        self.path = copy_of or path
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        with self._faults():
            # No isolation level: each statement commits by itself, so a row is on disk when `record` returns.
            self._db = sqlite3.connect(path, timeout=30, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            # In WAL mode, NORMAL would not sync at a commit, and a power cut could lose rows.
            self._db.execute("PRAGMA synchronous=FULL")
            self._require_version()
            self._db.execute(_SCHEMA)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def rows(self, key: PhaseKey) -> dict[ZYX, LedgerRow]:
        """Return the finished blocks of a phase by index."""
        wanted = (key.volume, key.step, key.phase)
        with self._faults(), closing(self._db.cursor()) as cursor:
            cursor.execute(
                "SELECT z, y, x, identity, digest, value FROM blocks WHERE volume = ? AND step = ? AND phase = ?",
                wanted,
            )
            return {(z, y, x): LedgerRow(identity, digest, value) for z, y, x, identity, digest, value in cursor}

    def record(self, key: PhaseKey, index: ZYX, row: LedgerRow) -> None:
        """Commit a finished block; its voxels must be on disk by now."""
        values = (key.volume, key.step, key.phase, *index, row.identity, row.digest, row.value)
        # A block that was computed twice, or anew with another identity, replaces its row.
        with self._faults():
            self._db.execute("INSERT OR REPLACE INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)

    def _require_version(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        # A file without tables is new, and is given the version below.
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if version != _VERSION and tables:
            self._db.close()
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
        A copy where the file or its folder is read-only: SQLite keeps files beside it even to read it.

    Raises
    ------
    WorkspaceError
        When it cannot be read.
    """
    if os.access(path.parent, os.W_OK) and os.access(path, os.W_OK):
        with Ledger(path) as ledger:
            yield ledger
        return
    with tempfile.TemporaryDirectory(prefix="segem-ledger-") as folder:
        with disk_errors(path):
            # With the log of a process that was killed, which holds its last rows.
            for part in (path, path.with_name(f"{path.name}-wal")):
                if part.exists():
                    shutil.copyfile(part, Path(folder) / part.name)
        with Ledger(Path(folder) / path.name, copy_of=path) as ledger:
            yield ledger


def blocks_digest(workspace: Workspace, run: str, key: PhaseKey) -> str:
    """Return one sha256 of what all finished blocks of a phase hold, by the ledger of the run."""
    with read_ledger(workspace.ledger(run)) as ledger:
        rows = ledger.rows(key)
    return hashlib.sha256(json.dumps(sorted((index, row.digest) for index, row in rows.items())).encode()).hexdigest()
