"""Verdicts on the command line: what is said, and the exit code that scripts rely on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from segem.io.workspace import Workspace
from tests.fabricate import add_baseline, add_model, add_volume, guess, new_workspace, tissue
from tests.integration.conftest import make_artefact
from tests.integration.test_cli import Shell

IMAGE, TRUTH = tissue((3, 96, 96))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a workspace of run r, whose volume is good, and run t, whose volume has no truth."""
    space = new_workspace(tmp_path_factory.mktemp("verdict") / "w")
    for run, name, truth in (("r", "fly", TRUTH), ("t", "blind", None)):
        add_volume(space, name, IMAGE, truth)
        add_baseline(space, run, name, (IMAGE < 120).astype(np.uint8))
        add_model(space, run, name, guess(TRUTH))
    return space.root


@pytest.fixture
def segem(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], workspace: Path) -> Shell:
    return Shell(monkeypatch, capsys, workspace)


def test_check_is_green_where_every_rule_is_met(segem: Shell) -> None:
    code, out, err = segem("report", "r", "--check", "--accept", "iou >= .2", "--accept", "ece <= 1")
    assert (code, err) == (0, "")
    assert "fly: accepted. IoU 0." in out
    assert "verdict: Accepted: of 1 volume, 1 accepted." in out


def test_check_is_red_where_a_rule_is_not_met(segem: Shell) -> None:
    code, _, err = segem("report", "r", "--check", "--accept", "iou >= .999")
    assert code == 1
    assert err.startswith("error: fly: rejected. IoU 0.")
    assert err.endswith("is not at least 0.999.\n")
    kept = json.loads((segem.workspace / "runs" / "r" / "report" / "report.json").read_text())
    assert kept["accept"] == ["iou >= 0.999"]
    assert kept["verdict"]["state"] == kept["volumes"][0]["verdict"]["state"] == "rejected"
    (rule,) = kept["volumes"][0]["verdict"]["rules"]
    assert (rule["rule"], rule["met"], rule["why"]) == ("iou >= 0.999", False, None)
    # Without --check the same report is no failure.
    assert segem("report", "r", "--accept", "iou >= .999")[0] == 0


def test_check_is_red_where_nothing_says_what_is_good(segem: Shell) -> None:
    code, _, err = segem("report", "r", "--check")
    assert code == 1
    assert err == (
        "error: fly: to be reviewed. No rule says what is good enough (accept: in the manifest, or --accept).\n"
    )


def test_check_is_red_where_a_rule_cannot_be_measured(segem: Shell) -> None:
    code, out, err = segem("report", "t", "--check", "--json", "--accept", "iou >= .5")
    assert code == 1
    assert err == "error: blind: to be reviewed. IoU cannot be judged: no ground truth.\n"
    assert json.loads(out)["verdict"]["state"] == "review"


def test_a_rule_that_is_none_is_refused_before_anything_is_written(segem: Shell) -> None:
    code, out, err = segem("report", "t", "--accept", "jaccard >= .5")
    assert (code, out) == (1, "")
    assert err.startswith("error: --accept: no score is called jaccard; scores are iou, ")


def test_exit_codes_are_those_of_the_process(workspace: Path) -> None:
    environment = os.environ | {"SEGEM_WORKSPACE": str(workspace)}
    for bound, code in ((0.2, 0), (0.999, 1)):
        words = ("report", "r", "--check", "--accept", f"iou >= {bound}")
        done = subprocess.run(
            [sys.executable, "-m", "segem", *words], capture_output=True, timeout=300, env=environment
        )
        assert done.returncode == code


@pytest.mark.slow
def test_a_run_keeps_the_rules_of_its_manifest_and_says_the_verdict(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    segem, space = Shell(monkeypatch, capsys, tmp_path / "w"), Workspace(tmp_path / "w")
    space.prepare()
    make_artefact(space, seed=0)
    tifffile.imwrite(tmp_path / "image.tif", IMAGE, photometric="minisblack")
    tifffile.imwrite(tmp_path / "truth.tif", TRUTH * np.uint8(255), photometric="minisblack")
    manifest = tmp_path / "m.yaml"
    volume = "{name: fly, source: image.tif, labels: {source: truth.tif, membrane: nonzero}, voxel_nm: [50, 4, 4]}"
    manifest.write_text(f"name: m\nmodel: tiny\nvolumes:\n  - {volume}\naccept:\n  - iou >= .99\n  - seam_ratio <= 9\n")
    code, out, err = segem("run", manifest, "--run", "r")
    assert (code, err) == (0, ""), "a verdict is no failure of the run"
    assert "fly: rejected. IoU 0." in out
    assert "verdict: Rejected: of 1 volume, 1 rejected." in out
    record = json.loads((tmp_path / "w" / "runs" / "r" / "run.json").read_text())
    assert record["accept"] == ["iou >= 0.99", "seam_ratio <= 9"]
    code, _, err = segem("report", "r", "--check")
    assert code == 1
    assert err.startswith("error: fly: rejected. IoU 0.")
