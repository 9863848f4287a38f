"""Runs are listed as they stand, and a shell completes the names of a workspace."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from segem.io.files import locked
from segem.io.holder import this_process
from segem.io.run import INTERRUPTED, load_run, note_failure
from segem.io.workspace import Workspace
from tests.fabricate import add_volume, tissue
from tests.integration.conftest import make_artefact
from tests.integration.test_cli import Shell, segem

__all__ = ["segem"]


def listed(segem: Shell) -> dict[str, tuple[str, int, int, str | None]]:
    runs = json.loads(segem("runs", "--json")[1])["runs"]
    return {run["run"]: (run["state"], run["done"], run["volumes"], run["model"]) for run in runs}


@pytest.fixture
def workspace(segem: Shell) -> Workspace:
    """Return a workspace with two volumes and a model that segments them quickly."""
    space = Workspace(segem.workspace)
    space.prepare()
    make_artefact(space, seed=0)
    for name in ("cortex", "retina"):
        add_volume(space, name, tissue((1, 48, 48))[0])
    return space


def test_runs_are_listed_as_they_stand(segem: Shell, workspace: Workspace) -> None:
    assert segem("segment", "cortex", "--model", "tiny", "--run", "whole")[0] == 0
    assert segem("baseline", "cortex", "--run", "floor")[0] == 0
    assert segem("segment", "cortex", "--model", "tiny", "--run", "part")[0] == 0
    assert segem("baseline", "retina", "--run", "part")[0] == 0
    note_failure(workspace, "failed", "retina", "no such source")
    (workspace.run("torn")).mkdir()
    (workspace.run("torn") / "run.json").write_text("{")
    expected = {
        "whole": ("complete", 1, 1, "tiny"),
        "floor": ("complete", 1, 1, None),
        "part": ("stopped", 1, 2, "tiny"),
        "failed": ("failed", 0, 1, None),
        "torn": ("unreadable", 0, 0, None),
    }
    assert listed(segem) == expected
    with locked(workspace.run("part") / ".campaign.lock"):
        assert listed(segem)["part"][0] == "running"
    code, out, err = segem("runs")
    assert (code, err) == (0, "")
    assert all(name in out for name in expected)
    assert "1 of 2" in out
    assert "torn: " in out


def test_a_run_that_was_interrupted_or_cancelled_is_stopped(
    segem: Shell, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("segem.io.run._require_same", stop)
        segem("segment", "cortex", "--model", "tiny", "--run", "r")
    step = load_run(workspace, "r").volumes["cortex"].membrane
    assert step is not None
    assert step.reason == INTERRUPTED
    assert listed(segem)["r"] == ("stopped", 0, 1, "tiny")
    assert segem("segment", "cortex", "--model", "tiny", "--run", "r")[0] == 0
    assert listed(segem)["r"] == ("complete", 1, 1, "tiny")


def test_a_lock_of_a_killed_process_is_no_running_one(segem: Shell, workspace: Workspace) -> None:
    note_failure(workspace, "r", "retina", "no such source")
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    lock = workspace.run("r") / ".retina.volume.lock"
    lock.write_text(f"process {dead.stdout.strip()} on {socket.gethostname()}")
    assert listed(segem)["r"][0] == "failed"
    me = this_process()
    # The number of a process that has ended, given to this one since.
    for other in (replace(me, started=me.started + 1), replace(me, boot="before-it-was-switched-off")):
        lock.write_text(other.text())
        assert listed(segem)["r"][0] == "failed"
    lock.write_text(me.text())
    assert listed(segem)["r"][0] == "running"
    lock.write_text(f"process {dead.stdout.strip()} on another-machine")
    assert listed(segem)["r"][0] == "running", "nobody can tell from here whether it lives"


def test_where_there_is_no_workspace_there_is_nothing_to_list(segem: Shell) -> None:
    assert "there is no workspace here" in segem("runs")[2]


def proposed(workspace: Workspace, line: str) -> tuple[list[str], set[str]]:
    """Return what a shell is told to propose at the end of a line, and the packages that were loaded for it."""
    code = (
        "import sys\nfrom segem.cli import main\nsys.argv = ['segem']\ntry:\n    main()\nfinally:\n"
        "    print(*{name.split('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    words = line.split(" ")
    asked = {"_SEGEM_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    environment = {**os.environ, **asked, "SEGEM_WORKSPACE": str(workspace.root)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    return done.stdout.split(), set(done.stderr.split())


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("segem segment ret", ["retina"]),
        ("segem segment retina --model ti", ["tiny"]),
        ("segem verify mon", ["monday"]),
        ("segem crf retina --of ", ["monday"]),
        ("segem models show fcn8", ["fcn8s"]),
        ("segem models list uni", []),
        ("segem segment retina --runtime open", ["openvino", "openvino-int8"]),
    ],
)
def test_a_shell_completes_names_and_loads_nothing_heavy(workspace: Workspace, line: str, names: list[str]) -> None:
    note_failure(workspace, "monday", "retina", "no such source")
    found, loaded = proposed(workspace, line)
    assert found == names
    assert "typer" in loaded
    assert not loaded & {"torch", "monai", "prefect"}


def test_a_shell_gets_nothing_from_a_workspace_that_is_not_there(tmp_path: Path) -> None:
    assert proposed(Workspace(tmp_path / "nowhere"), "segem verify m")[0] == []


def test_models_are_listed_without_torch(workspace: Workspace) -> None:
    code = (
        "import sys\nfrom segem.cli import main\nsys.argv = ['segem', 'models', 'list', 'ti', 'fullres']\ntry:\n"
        "    main()\nfinally:\n    print(*{name.split('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    environment = {**os.environ, "SEGEM_WORKSPACE": str(workspace.root)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert "fullres" in done.stdout
    assert "tiny" in done.stdout
    assert "unet-em" not in done.stdout
    assert not set(done.stderr.split()) & {"torch", "monai", "prefect"}
