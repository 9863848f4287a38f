"""Old runs go; those that somebody needs stay."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

from segem.cli import app
from segem.cli.exits import exit_code_of
from segem.errors import WorkspaceError
from segem.io.retention import find_old_runs, remove_run, sweep_removed
from segem.io.run import campaign_lock, volume_lock
from segem.io.runs import list_runs
from segem.io.workspace import Workspace
from tests.fabricate import add_model, add_volume, guess, new_workspace, tissue

DAY = 24 * 3600


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Return a workspace with runs that are 10, 100, 200 and 300 days old; the last one was reviewed."""
    space = new_workspace(tmp_path / "w")
    image, truth = tissue((2, 48, 48))
    add_volume(space, "cortex", image)
    for name, days in {"new": 10, "old": 100, "older": 200, "seen": 300}.items():
        add_model(space, name, "cortex", guess(truth))
        if name == "seen":
            (space.run(name) / "reviews.sqlite").write_bytes(b"")
        for path in space.run(name).rglob("*"):
            os.utime(path, (time.time() - days * DAY,) * 2)
    return space


def names(space: Workspace) -> list[str]:
    return sorted(run.run for run in list_runs(space))


def test_only_what_is_old_and_nobody_s_work_may_go(workspace: Workspace) -> None:
    found = find_old_runs(workspace, timedelta(days=90))
    assert [(run.run, run.kept) for run in found] == [
        ("seen", "people have reviewed it"),
        ("older", ""),
        ("old", ""),
    ]
    assert all(run.bytes > 4096 for run in found)
    assert [run.kept for run in find_old_runs(workspace, timedelta(days=250), reviewed=True)] == [""]
    assert find_old_runs(workspace, timedelta(days=1000)) == []


def test_one_file_that_was_written_lately_keeps_a_run(workspace: Workspace) -> None:
    os.utime(workspace.run("old") / "run.json")
    assert [run.run for run in find_old_runs(workspace, timedelta(days=90))] == ["seen", "older"]


@pytest.mark.parametrize("lock", [lambda w: campaign_lock(w, "old"), lambda w: volume_lock(w, "old", "cortex")])
def test_a_run_at_work_stays(workspace: Workspace, lock) -> None:
    with lock(workspace):
        assert {run.run: run.kept for run in find_old_runs(workspace, timedelta(0))}["old"] == ("a process works on it")
        with pytest.raises(WorkspaceError):
            remove_run(workspace, "old")
    assert "old" in names(workspace)
    remove_run(workspace, "old")
    assert names(workspace) == ["new", "older", "seen"]


def test_what_people_do_while_it_is_asked_is_not_lost(workspace: Workspace, capsys, monkeypatch) -> None:
    def review_and_agree(*_: object, **__: object) -> bool:
        (workspace.run("old") / "reviews.sqlite").write_bytes(b"")
        return True

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("typer.confirm", review_and_agree)
    words = ["purge", "--older-than", "90d", "--workspace", str(workspace.root)]
    assert exit_code_of(lambda: app(words, standalone_mode=False)) == 1
    assert "runs/old: this run was written after it was listed, and stays" in capsys.readouterr().err
    assert names(workspace) == ["new", "old", "seen"]


def test_what_a_kill_has_left_is_swept(workspace: Workspace) -> None:
    left = workspace.run("old").rename(workspace.root / "runs" / f".old.{'0a' * 16}.partial")
    assert names(workspace) == ["new", "older", "seen"]
    sweep_removed(workspace)
    assert not left.exists()
    assert names(workspace) == ["new", "older", "seen"]


def test_the_command_says_what_it_does_and_asks_first(workspace: Workspace, capsys, monkeypatch) -> None:
    monkeypatch.setenv("SEGEM_WORKSPACE", str(workspace.root))

    def purge(*words: str) -> int:
        return exit_code_of(lambda: app(["purge", "--older-than", "90d", *words], standalone_mode=False))

    assert purge("--dry-run") == 0
    out = capsys.readouterr().out
    assert "no: people have reviewed it" in out
    assert "2 to be removed" in out
    assert purge() == 1
    assert "nobody is there to be asked" in capsys.readouterr().err
    assert names(workspace) == ["new", "old", "older", "seen"]
    assert purge("--yes") == 0
    assert names(workspace) == ["new", "seen"]
    assert workspace.volume("cortex").exists()
    assert purge("--older-than", "soon") == 1
    assert "give hours, days or weeks" in capsys.readouterr().err
