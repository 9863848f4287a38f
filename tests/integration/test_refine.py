"""A run is refined from the command line, by processes, and after a kill, always to the same bytes."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from segem.cli import main
from segem.config import CrfConfig, ExecutionConfig, RefineConfig, SegmentConfig
from segem.execute.work import BlockOutcome
from segem.io.ledger import Ledger, PhaseKey
from segem.io.run import load_run
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.learn.artefact import Artefact
from segem.stages.segmentation.block_work import StepWork
from segem.stages.segmentation.crf import refine_volume
from segem.stages.segmentation.segment import segment
from segem.stages.segmentation.verify import verify
from tests.integration.conftest import make_volume

QUIET = ExecutionConfig(device="cpu")
CONFIG = RefineConfig(of="r", crf=CrfConfig(w1=2, sa_px=8, sb_grey=32, w2=1, sg_px=1))
BLOCKS = 3


@pytest.fixture
def segmented(workspace: Workspace, artefact: Artefact, tmp_path: Path) -> Workspace:
    make_volume(workspace, tmp_path / "source", shape=(18, 70, 60))
    segment("noise", "r", SegmentConfig(model="tiny"), QUIET, workspace)
    return workspace


def output_of(workspace: Workspace, run: str) -> tuple[bytes, bytes]:
    result = Volume.open(workspace.result(run, "noise"))
    return np.asarray(result.raw[:]).tobytes(), np.asarray(result.label("membrane")[:]).tobytes()


@pytest.mark.slow
def test_processes_give_the_bytes_of_the_loop(segmented: Workspace) -> None:
    assert refine_volume("noise", "loop", CONFIG, QUIET, segmented).computed == BLOCKS
    dask = ExecutionConfig(engine="dask", workers=2)
    assert refine_volume("noise", "dask", CONFIG, dask, segmented).computed == BLOCKS
    assert output_of(segmented, "dask") == output_of(segmented, "loop") != output_of(segmented, "r")


def refine_and_die(root: Path, stored: int) -> None:
    """Refine until so many blocks are stored, and get killed with one of them written but not yet in the ledger."""
    careful, count = StepWork.store, [0]

    def store(self: StepWork, computed: tuple) -> BlockOutcome:
        outcome = careful(self, computed)
        count[0] += 1
        if count[0] == stored:
            os.kill(os.getpid(), signal.SIGKILL)
        return outcome

    StepWork.store = store  # type: ignore[method-assign]
    refine_volume("noise", "r2", CONFIG, QUIET, Workspace(root))


def test_a_killed_refinement_resumes_to_the_same_bytes(segmented: Workspace) -> None:
    process = multiprocessing.get_context("spawn").Process(target=refine_and_die, args=(segmented.root, 2))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    stage = load_run(segmented, "r2").volumes["noise"].membrane
    assert stage is not None
    assert stage.state == "running"
    assert verify("r2", segmented) != []
    with Ledger(segmented.ledger("r2")) as ledger:
        known = len(ledger.rows(PhaseKey("noise", "crf", "blocks")))
    found = refine_volume("noise", "r2", CONFIG, QUIET, segmented)
    assert (found.computed, found.skipped) == (BLOCKS - known, known)
    assert verify("r2", segmented) == []
    refine_volume("noise", "undisturbed", CONFIG, QUIET, segmented)
    assert output_of(segmented, "r2") == output_of(segmented, "undisturbed")


def segem(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["segem", *words])
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0), *capsys.readouterr()


def test_from_the_command_line(
    segmented: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEGEM_WORKSPACE", str(segmented.root))
    options = ("--w1", "2", "--sa-px", "8", "--sb-grey", "32", "--w2", "1", "--sg-px", "1")
    code, out, err = segem(monkeypatch, capsys, "crf", "noise", "--of", "r", *options, "--json")
    assert code == 0, err
    assert json.loads(out)["run"] == "r-crf"
    refine_volume("noise", "by-hand", CONFIG, QUIET, segmented)
    assert output_of(segmented, "r-crf") == output_of(segmented, "by-hand")
    assert segem(monkeypatch, capsys, "verify", "r-crf")[0] == 0
    code, _, err = segem(monkeypatch, capsys, "crf", "noise", "--of", "r", "--sa-px", "0")
    assert code == 1
    assert "--sa-px" in err
    assert "Traceback" not in err
