"""The scripts of docs/how-to/clusters.md on a real SLURM: whatever ends early is started again by them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import traceback
from pathlib import Path

import numpy as np
import pytest

from segem.config import ExecutionConfig, SegmentConfig
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.stages.segmentation.segment import segment
from segem.stages.segmentation.verify import verify
from tests.clusters.slurm_machine import Slurm
from tests.integration.conftest import make_artefact, make_volume
from tests.processes import ROOT, wait_for

PROOF = "SEGEM_CLUSTER_BLOCKS" in os.environ
BLOCKS = int(os.environ.get("SEGEM_CLUSTER_BLOCKS", "4"))
# In the proof blocks take so long that tasks are hit between two of them.
TASKS, EDGE_PX, VIEWS = (8, 512, 8) if PROOF else (2, 64, 1)
SECONDS = 3600 if PROOF else 550
CONFIG = SegmentConfig(model="tiny", runtime="torch", views=VIEWS)


def scripts(folder: Path) -> Path:
    """Write the scripts of the page, with the names of this test in place of those of the example."""
    text = (ROOT / "docs" / "how-to" / "clusters.md").read_text()
    task, submit = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    changed = {
        "cortex --model mine": f"noise --model tiny --runtime torch --views {VIEWS} --device cpu",
        "--memory 4GB ": "",
        "/20": f"/{TASKS}",
        "0-19": f"0-{TASKS - 1}",
        "--time=01:00:00 --cpus-per-task=4 --mem=6G": "--time=10 --cpus-per-task=1 --mem=2G --output=%A-%a.log",
    }
    for before, after in changed.items():
        assert before in task + submit
        task, submit = task.replace(before, after), submit.replace(before, after)
    (folder / "task.sh").write_text(task)
    (folder / "submit.sh").write_text(submit)
    return folder / "submit.sh"


class Disturber(threading.Thread):
    """Ends tasks in one way after the other: as soon as one runs, and in the proof has handed in something."""

    def __init__(self, machine: Slurm, receipts: Path, ways: list[str]) -> None:
        super().__init__(daemon=True)
        self.machine, self.receipts, self.ways = machine, receipts, ways
        self.ended: list[str] = []
        self.failure = ""

    def run(self) -> None:
        try:
            for way in self.ways:
                self._wait_for_receipts(len(self._files()) + PROOF)
                self.ended.append(getattr(self, way)(self.machine.running()[-1]))
        except Exception:
            self.failure = traceback.format_exc()

    def _wait_for_receipts(self, least: int) -> None:
        wait_for(lambda: len(self._files()) >= least, 180)

    def _files(self) -> list[Path]:
        return list(self.receipts.glob("*/*.json"))

    def cancel(self, job: str) -> str:
        self.machine.run("scancel", job)
        return self._state(job)

    def run_out(self, job: str) -> str:
        self.machine.run("scontrol", "update", f"JobId={job}", "EndTime=now+1")
        return self._state(job)

    def kill_node(self, job: str) -> str:
        self.machine.kill_node(self.machine.node_of(job))
        # SLURM needs half a minute to notice, and its other node goes on.
        return self._state(job)

    def _state(self, job: str) -> str:
        wait_for(lambda: self.machine.state(job) not in ("RUNNING", "COMPLETING", "PENDING"), 120)
        return self.machine.state(job)


@pytest.mark.slow
def test_an_array_is_whole_without_a_hand(slurm_machine: Slurm, tmp_path: Path) -> None:
    slurm_machine.mend()
    workspace = Workspace(tmp_path / "workspace")
    workspace.prepare()
    make_artefact(workspace, seed=0)
    make_volume(workspace, tmp_path / "source", (8 * BLOCKS, EDGE_PX, EDGE_PX))
    segment("noise", "loop", CONFIG, ExecutionConfig(device="cpu"), workspace)

    ways = ["cancel", "cancel", "run_out", "kill_node"] if PROOF else ["cancel"]
    disturber = Disturber(slurm_machine, workspace.receipts("monday") / "noise", ways)
    disturber.start()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "SEGEM_WORKSPACE": str(workspace.root)}
    script = scripts(tmp_path)
    submitted = subprocess.run(
        ["bash", script.name], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=SECONDS
    )
    disturber.join()

    assert disturber.failure == ""
    named = {"cancel": "CANCELLED", "run_out": "TIMEOUT", "kill_node": "NODE_FAIL"}
    assert disturber.ended == [named[way] for way in ways]
    assert submitted.returncode == 0, submitted.stderr
    assert "have not handed in all of theirs" in submitted.stderr
    assert verify("monday", workspace) == []
    one, other = (Volume.open(workspace.result(run, "noise")) for run in ("loop", "monday"))
    assert np.array_equal(one.raw[...], other.raw[...])
    assert np.array_equal(one.label("membrane")[...], other.label("membrane")[...])
