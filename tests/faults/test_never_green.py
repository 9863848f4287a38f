"""A run that lacks a block is red wherever one looks: exit code, error line, record and report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tifffile

from segem.io.workspace import Workspace
from segem.learn.engine import Engine
from tests.faults import harness
from tests.integration.conftest import make_artefact
from tests.integration.test_cli import Shell, segem

__all__ = ["segem"]


@pytest.fixture
def failing(segem: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Return a shell with a volume of three blocks, for whose second the net fails."""
    workspace = Workspace(segem.workspace)
    workspace.prepare()
    make_artefact(workspace, seed=0)
    tifffile.imwrite(tmp_path / "noise.tif", harness.noise()[:24], photometric="minisblack")
    assert segem("ingest", tmp_path / "noise.tif", "--name", "v", "--voxel-nm", "50,4,4")[0] == 0
    real = Engine.predict_block

    def fail(self, plan, block, *more, **options):
        if block.index == (1, 0, 0):
            raise RuntimeError("the device gave up")
        return real(self, plan, block, *more, **options)

    monkeypatch.setattr(Engine, "predict_block", fail)
    return segem


def require_red(code: int, err: str) -> None:
    assert code == 1
    lines = err.splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("error: v: ")
    assert "block (1, 0, 0)" in lines[0]


def test_a_failed_block_is_red_in_every_command(failing: Shell) -> None:
    code, _, err = failing("segment", "v", "--run", "r", "--model", "tiny")
    require_red(code, err)
    assert "the device gave up" in err
    for command in ("verify", "report", "evaluate"):
        code, _, err = failing(command, "r")
        require_red(code, err)
    assert failing("export", "r", "v", "membrane", failing.workspace / "m.tif")[0] == 1
    values = json.loads((failing.workspace / "runs" / "r" / "report" / "report.json").read_text())
    assert values["volumes"][0]["state"] == "failed"
    assert "block (1, 0, 0)" in values["volumes"][0]["reason"]
    assert "block (1, 0, 0)" in (failing.workspace / "runs" / "r" / "report" / "index.html").read_text()


def test_a_repair_that_cannot_mend_is_red(failing: Shell) -> None:
    assert failing("segment", "v", "--run", "r", "--model", "tiny")[0] == 1
    code, out, err = failing("verify", "r", "--repair")
    assert code == 1
    assert "whole" not in out
    assert "block (1, 0, 0)" in err


def test_a_lost_block_is_red_until_it_is_mended(segem: Shell, tmp_path: Path) -> None:
    make_artefact(Workspace(segem.workspace), seed=0)
    tifffile.imwrite(tmp_path / "noise.tif", harness.noise()[:24], photometric="minisblack")
    assert segem("ingest", tmp_path / "noise.tif", "--name", "v", "--voxel-nm", "50,4,4")[0] == 0
    assert segem("segment", "v", "--run", "r", "--model", "tiny")[0] == 0
    (segem.workspace / "runs" / "r" / "v.ome.zarr" / "0" / "c" / "1" / "0" / "0").unlink()
    require_red(*segem("verify", "r")[::2])
    for command in ("report", "evaluate"):
        code, _, err = segem(command, "r")
        assert (code, err[:9]) == (1, "error: v:")
    code, out, err = segem("verify", "r", "--repair", "--json")
    assert (code, err) == (0, "")
    done = json.loads(out)
    assert [fault["what"] for fault in done["repaired"]] == ["segment block (1, 0, 0): its file is missing"]
    assert done["left"] == []
    assert segem("verify", "r", "--repair") == (0, "r: whole\n", "")
