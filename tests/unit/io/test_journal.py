"""The journal of a SQLite file, chosen while others hold it."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from segem.io.journal import set_journal


def test_a_journal_is_chosen_when_others_let_go(tmp_path: Path) -> None:
    path, tried = tmp_path / "a.sqlite", threading.Semaphore(0)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")

    class Told(sqlite3.Connection):
        def execute(self, *given: Any) -> sqlite3.Cursor:
            tried.release()
            return super().execute(*given)

    def choose() -> None:
        # Without SQLite's own patience, which does not hold where two switch a file at once.
        db = sqlite3.connect(path, timeout=0, isolation_level=None, factory=Told)
        set_journal(db, "WAL", patience_s=60)
        db.close()

    chooser = threading.Thread(target=choose)
    chooser.start()
    # It was refused once, and tries again.
    tried.acquire()
    tried.acquire()
    holder.execute("COMMIT")
    chooser.join()
    assert holder.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    holder.close()


def test_patience_ends(tmp_path: Path) -> None:
    holder = sqlite3.connect(tmp_path / "a.sqlite", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    db = sqlite3.connect(tmp_path / "a.sqlite", timeout=0, isolation_level=None)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        set_journal(db, "WAL", patience_s=0)
    db.close()
    holder.close()
