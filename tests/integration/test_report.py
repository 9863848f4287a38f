"""The report on the command line: of one run, of several, and with what a reader has marked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from segem.io.results import digest_results
from segem.io.run import load_run
from segem.io.workspace import Workspace
from tests.fabricate import add_model, add_volume, guess, new_workspace, tissue
from tests.integration.test_cli import Shell

IMAGE, TRUTH = tissue((2, 64, 64))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Return a workspace of runs a and b on one volume."""
    space = new_workspace(tmp_path_factory.mktemp("reports") / "w")
    add_volume(space, "fly", IMAGE, TRUTH)
    for run, noise in (("a", 0.9), ("b", 2.0)):
        add_model(space, run, "fly", guess(TRUTH, noise=noise))
    return space


@pytest.fixture
def segem(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], workspace: Workspace) -> Shell:
    return Shell(monkeypatch, capsys, workspace.root)


def test_several_runs_are_put_side_by_side(segem: Shell) -> None:
    code, out, err = segem("report", "a", "b", "--json")
    assert (code, err) == (0, "")
    found = json.loads(Path(json.loads(out)["json"]).read_text())
    assert found["runs"] == ["a", "b"]
    assert found["volumes"][0]["differences"][1]["iou"]["value"] < 0


@pytest.mark.parametrize("options", [["--check"], ["--full"], ["--accept", "iou >= .5"], ["--import", "marks.json"]])
def test_what_is_about_one_run_is_refused_of_several(segem: Shell, options: list[str]) -> None:
    code, out, err = segem("report", "a", "b", *options)
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {options[0]}: this option is about one run")


def test_marks_are_taken_in_and_shown(segem: Shell, workspace: Workspace, tmp_path: Path) -> None:
    digest = digest_results(load_run(workspace, "a"))
    mark = {"volume": "fly", "section": 1, "mark": "bad", "note": "a fold & a hair"}
    (tmp_path / "marks.json").write_text(json.dumps({"schema": 1, "run": "a", "digest": digest, "marks": [mark]}))
    code, out, _ = segem("report", "a", "--import", tmp_path / "marks.json")
    assert code == 0
    assert "marks: 1" in out
    page = (workspace.report("a") / "index.html").read_text()
    assert "Readers have marked sections as bad: 1 of fly." in page
    assert "a fold &amp; a hair" in page
    # They stay where the report is written again.
    assert segem("report", "a")[0] == 0
    assert json.loads((workspace.report("a") / "report.json").read_text())["marks"] == [mark]
    code, _, err = segem("report", "b", "--import", tmp_path / "marks.json")
    assert code == 1
    assert "these marks are of another run" in err
