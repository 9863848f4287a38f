"""The ledger where nothing may be written, and what is advised where it cannot be used."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from segem.errors import WorkspaceError
from segem.io.ledger import Ledger, LedgerRow, PhaseKey, read_ledger

KEY = PhaseKey("v", "baseline", "label")


def listed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_read_only_ledger_is_read_with_the_rows_of_a_killed_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as ledger:
        ledger.record(KEY, {(0, 0, 0): LedgerRow("a", "b")})
    # Not closed, as after a kill: the second row is in the log beside the file.
    killed = Ledger(path)
    killed.record(KEY, {(0, 0, 1): LedgerRow("c", "d")})
    before = {name: (tmp_path / name).read_bytes() for name in listed(tmp_path)}
    monkeypatch.setattr(os, "access", lambda *_: False)
    with read_ledger(path) as ledger:
        assert set(ledger.rows(KEY)) == {(0, 0, 0), (0, 0, 1)}
    assert {name: (tmp_path / name).read_bytes() for name in listed(tmp_path)} == before
    killed.__exit__()


def test_a_fault_names_the_ledger_and_not_its_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_text("no database, but long enough to be taken for one" * 100)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(WorkspaceError, match=str(path)), read_ledger(path):
        pass


def test_a_damaged_ledger_is_never_to_be_deleted(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.write_text("no database, but long enough to be taken for one" * 100)
    with pytest.raises(WorkspaceError, match="move the file elsewhere and run again"):
        Ledger(path)


def test_a_ledger_that_is_in_use_is_waited_for_and_not_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.sqlite"
    Ledger(path).__exit__()
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, **{**k, "timeout": 0}))
    with Ledger(path) as ledger:
        other = connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(WorkspaceError, match=r"database is locked.*Fix: wait until the other process has ended"):
            ledger.record(KEY, {(0, 0, 0): LedgerRow("a", "b")})
        other.close()
