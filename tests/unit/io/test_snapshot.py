"""Backups: whole or not there, small when little has changed, and the way back from them."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sqlite3
import time
import traceback
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from segem.errors import WorkspaceError
from segem.io.snapshot import CONTENT, FILES, list_snapshots, read_snapshot, restore_snapshot, take_snapshot

TIMES = int(os.environ.get("SEGEM_KILLS", "3"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "w"
    (root / "runs/monday").mkdir(parents=True)
    (root / "models/m/1").mkdir(parents=True)
    (root / "runs/monday/run.json").write_text("{}")
    (root / "runs/monday/.campaign.lock").write_text("process 1 on here")
    (root / "runs/monday/.cortex.ome.zarr.0123456789abcdef0123456789abcdef.partial").mkdir()
    (root / "models/m/1/weights").write_bytes(os.urandom(100_000))
    (root / "models/m/current").symlink_to("1")
    (root / "secret").write_text("token")
    (root / "secret").chmod(0o600)
    with closing(sqlite3.connect(root / "runs/monday/ledger.sqlite")) as ledger:
        ledger.execute("PRAGMA journal_mode=WAL")
        ledger.execute("CREATE TABLE block (n INTEGER)")
    return root


def content(root: Path) -> dict[str, bytes]:
    files = sorted(p for p in root.rglob("*") if p.is_file() and not p.is_symlink())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def test_a_workspace_comes_back_as_it_was(root: Path, tmp_path: Path) -> None:
    # Held open, so that what was written lies in the WAL and not in the file.
    with closing(sqlite3.connect(root / "runs/monday/ledger.sqlite")) as ledger:
        ledger.executemany("INSERT INTO block VALUES (?)", [(n,) for n in range(1000)])
        ledger.commit()
        assert (root / "runs/monday/ledger.sqlite-wal").stat().st_size > 0
        place, snapshot = take_snapshot(root, tmp_path / "b")
    assert set(snapshot.files) == {"models/m/1/weights", "runs/monday/ledger.sqlite", "runs/monday/run.json", "secret"}
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o700
    restore_snapshot(tmp_path / "b", tmp_path / "again")
    again = tmp_path / "again"
    assert (again / "models/m/current").readlink() == Path("1")
    assert (again / "secret").stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(again / "runs/monday/ledger.sqlite")) as ledger:
        assert ledger.execute("SELECT count(*), max(n) FROM block").fetchone() == (1000, 999)
    assert (again / "models/m/1/weights").read_bytes() == (root / "models/m/1/weights").read_bytes()
    assert place == list_snapshots(tmp_path / "b")[-1]


@pytest.mark.parametrize("folder", ["", "models"])
def test_a_name_that_no_list_can_hold_is_refused_before_it_is_lost(root: Path, tmp_path: Path, folder: str) -> None:
    odd = root / folder / os.fsdecode(b"Pr\xe4parat")
    odd.mkdir() if folder else odd.touch()
    with pytest.raises(WorkspaceError, match=r"Pr\\udce4parat: a name in the workspace is not UTF-8"):
        take_snapshot(root, tmp_path / "b")
    odd.rename(odd.with_name("stack"))
    take_snapshot(root, tmp_path / "b")
    restore_snapshot(tmp_path / "b", tmp_path / "again")
    assert folder or (tmp_path / "again/stack").exists()


@pytest.mark.parametrize("name", ["lab#2", "whole?", "100%25", "a b ü"])
def test_databases_are_copied_whatever_their_folder_is_called(root: Path, tmp_path: Path, name: str) -> None:
    there = root.rename(tmp_path / name)
    with closing(sqlite3.connect(there / "runs/monday/ledger.sqlite")) as ledger:
        ledger.execute("INSERT INTO block VALUES (7)")
        ledger.commit()
    place, _ = take_snapshot(there, tmp_path / "b")
    with closing(sqlite3.connect(place / FILES / "runs/monday/ledger.sqlite")) as ledger:
        assert ledger.execute("SELECT n FROM block").fetchall() == [(7,)]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["b", name])


def test_a_backup_stays_that_was_made_while_the_clock_was_behind(root: Path, tmp_path: Path) -> None:
    first, _ = take_snapshot(root, tmp_path / "b")
    later = first.rename(first.with_name("2999-01-01T00-00-00.000000Z"))
    place, _ = take_snapshot(root, tmp_path / "b", keep=1)
    assert list_snapshots(tmp_path / "b") == [place, later]


def test_what_has_not_changed_takes_no_space_again(root: Path, tmp_path: Path) -> None:
    first, _ = take_snapshot(root, tmp_path / "b")
    (root / "secret").write_text("another")
    second, snapshot = take_snapshot(root, tmp_path / "b")
    kept, changed = (FILES + "/models/m/1/weights", FILES + "/secret")
    assert (first / kept).samefile(second / kept)
    assert [(place / changed).read_text() for place in (first, second)] == ["token", "another"]
    assert snapshot.files["models/m/1/weights"] == read_snapshot(first).files["models/m/1/weights"]
    third, _ = take_snapshot(root, tmp_path / "b", keep=2)
    assert list_snapshots(tmp_path / "b") == [second, third]
    assert (third / kept).read_bytes() == (root / "models/m/1/weights").read_bytes()


@pytest.mark.parametrize("how", ["changed", "missing"])
def test_a_damaged_backup_makes_no_workspace(root: Path, tmp_path: Path, how: str) -> None:
    place, _ = take_snapshot(root, tmp_path / "b")
    file = place / FILES / "models/m/1/weights"
    if how == "changed":
        file.write_bytes(file.read_bytes()[:-1] + b"?")
    else:
        file.unlink()
    with pytest.raises(WorkspaceError, match=r"weights: a file of the backup is damaged"):
        restore_snapshot(place, tmp_path / "again")
    assert not (tmp_path / "again").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b", "w"]


def test_nothing_is_written_over(root: Path, tmp_path: Path) -> None:
    take_snapshot(root, tmp_path / "b")
    before = content(root)
    with pytest.raises(WorkspaceError, match="something lies where the workspace is to be"):
        restore_snapshot(tmp_path / "b", root)
    assert content(root) == before
    with pytest.raises(WorkspaceError, match="lost with it"):
        take_snapshot(root, root / "b")
    with pytest.raises(WorkspaceError, match="there is no complete backup"):
        restore_snapshot(root, tmp_path / "again")


@pytest.mark.parametrize("name", ["../outside", "/etc/outside"])
def test_a_list_leads_nowhere_else(root: Path, tmp_path: Path, name: str) -> None:
    place, _ = take_snapshot(root, tmp_path / "b")
    listed = (place / CONTENT).read_text()
    (place / CONTENT).write_text(listed.replace('"secret"', f'"{name}"'))
    with pytest.raises(WorkspaceError, match="outside the workspace"):
        restore_snapshot(place, tmp_path / "again")


def _back_up(root: Path, into: Path, fault: Path) -> None:
    with _told(fault):
        take_snapshot(root, into)


def _restore(into: Path, root: Path, fault: Path) -> None:
    with _told(fault):
        restore_snapshot(into, root)


@contextmanager
def _told(fault: Path) -> Iterator[None]:
    try:
        yield
    except Exception:
        # What a child process prints, pytest does not show.
        fault.write_text(traceback.format_exc())
        raise


def test_killed_at_any_moment_it_is_whole_or_not_there(root: Path, tmp_path: Path) -> None:
    for n in range(60):
        (root / f"volumes-{n}").write_bytes(os.urandom(150_000))
    context = multiprocessing.get_context("fork")
    started = time.perf_counter()
    take_snapshot(root, tmp_path / "other")
    took = time.perf_counter() - started
    killed, fault = random.Random(0), tmp_path / "fault"
    for _ in range(TIMES):
        for job, source, target in (_back_up, root, tmp_path / "b"), (_restore, tmp_path / "other", tmp_path / "again"):
            process = context.Process(target=job, args=(source, target, fault))
            process.start()
            time.sleep(killed.uniform(0, took))
            process.kill()
            process.join()
            assert process.exitcode in {-signal.SIGKILL, 0}, fault.is_file() and fault.read_text()
            for place in list_snapshots(tmp_path / "b"):
                assert set(content(place / FILES)) == set(read_snapshot(place).files)
            if (tmp_path / "again").exists():
                assert set(content(tmp_path / "again")) == set(
                    read_snapshot(list_snapshots(tmp_path / "other")[-1]).files
                )
                (tmp_path / "again").rename(tmp_path / f"whole-{time.monotonic_ns()}")
    place, snapshot = take_snapshot(root, tmp_path / "b")
    restore_snapshot(place, tmp_path / "again")
    assert set(content(tmp_path / "again")) == set(snapshot.files)
    assert [p.name for p in (tmp_path / "b").glob(".*.partial")] == []
    assert [p.name for p in tmp_path.glob(".again.*.partial")] == []
