"""The ledger of a run: one row for each finished block, and nothing is finished that has no row."""

from __future__ import annotations

import hashlib
import json
import sqlite3
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
    z INTEGER NOT NULL,
    y INTEGER NOT NULL,
    x INTEGER NOT NULL,
    identity TEXT NOT NULL,  -- sha256 of everything that made the block
    digest TEXT NOT NULL,    -- sha256 of the voxels it wrote
    PRIMARY KEY (volume, z, y, x)
) WITHOUT ROWID
"""


@dataclass(frozen=True)
class LedgerRow:
    """A finished block: what made it, and what it wrote."""

    identity: str
    digest: str


class Ledger:
    """Finished blocks in an SQLite file, each committed only after its voxels are durable.

    Written by the coordinator of a run alone. Write-ahead logging with full synchronisation keeps every acknowledged
    row through a killed process; the file belongs on a disk of this host, not on a network share.

    Parameters
    ----------
    path : Path
        The SQLite file; made when missing.

    Raises
    ------
    WorkspaceError
        When the file cannot be opened or is no ledger.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        with self._faults():
            self._db = sqlite3.connect(path, timeout=30, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute(_SCHEMA)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def rows(self, volume: str) -> dict[ZYX, LedgerRow]:
        """Return the finished blocks of a volume by index."""
        with self._faults(), closing(self._db.cursor()) as cursor:
            cursor.execute("SELECT z, y, x, identity, digest FROM blocks WHERE volume = ?", (volume,))
            return {(z, y, x): LedgerRow(identity, digest) for z, y, x, identity, digest in cursor}

    def record(self, volume: str, index: ZYX, row: LedgerRow) -> None:
        """Commit a finished block; its voxels must be on disk by now."""
        with self._faults():
            self._db.execute(
                "INSERT OR REPLACE INTO blocks VALUES (?, ?, ?, ?, ?, ?)", (volume, *index, row.identity, row.digest)
            )

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise WorkspaceError(
                "the ledger of the run cannot be used",
                where=self.path,
                found=str(error),
                fix="check the disk; if the file is damaged, remove it and run again: every block is then recomputed",
            ) from None


def blocks_digest(workspace: Workspace, run: str, volume: str) -> str:
    """Return one sha256 of what all finished blocks of a volume hold, by the ledger of the run."""
    with Ledger(workspace.ledger(run)) as ledger:
        rows = ledger.rows(volume)
    return hashlib.sha256(json.dumps(sorted((index, row.digest) for index, row in rows.items())).encode()).hexdigest()
