"""Ctrl-C says what is kept, and the same command goes on."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
import tifffile
import yaml
from torch.optim.optimizer import register_optimizer_step_post_hook

from segem.cli import main
from segem.cli.command import RESUMES, RESUMES_TRAINING
from segem.cli.exits import INTERRUPTED
from segem.config import SynthConfig
from segem.io.workspace import Workspace
from segem.kernels.synth import synthesize
from segem.stages.segmentation.verify import verify
from tests.faults import harness
from tests.faults.conftest import Undisturbed

pytestmark = pytest.mark.slow


def command(words: list[str], log: Path) -> None:
    """Run the command line, its stderr into a file."""
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), sys.stderr.fileno())
    sys.argv = ["segem", *words]
    main()


def stopped_command(words: list[str], log: Path, steps: int) -> None:
    """Run a command that gets Ctrl-C after so many steps of its optimiser."""
    taken = count(1)

    def press(*_: object) -> None:
        if next(taken) == steps:
            os.kill(os.getpid(), signal.SIGINT)

    register_optimizer_step_post_hook(press)
    command(words, log)


def begun(workspace: Workspace) -> bool:
    return harness.finished_blocks(workspace) > 0


def run(context: ForkServerContext, words: list[str], log: Path, press: Callable[[], bool] | None = None) -> int | None:
    """Run a command in a process of its own and press Ctrl-C as soon as `press` says so; return its exit code."""
    process = context.Process(target=command, args=(words, log))
    process.start()
    while press is not None and process.is_alive() and not press():
        time.sleep(0.002)
    if press is not None:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGINT)
    process.join()
    return process.exitcode


def test_a_run_that_is_stopped_says_so_and_goes_on(undisturbed: Undisturbed, tmp_path: Path) -> None:
    log = tmp_path / "log"
    for attempt in range(5):
        workspace = undisturbed.copy(tmp_path / str(attempt))
        words = ["segment", "noise", "--model", "tiny", "--run", "r", "--runtime", "torch", "--device", "cpu"]
        words += ["--workspace", str(workspace.root)]
        code = run(undisturbed.context, words, log, partial(begun, workspace))
        # On a busy machine all blocks may be there before it is looked at again.
        if code != 0 and harness.finished_blocks(workspace) < harness.BLOCKS:
            break
    assert (code, log.read_text()) == (INTERRUPTED, f"error: stopped by Ctrl-C{RESUMES}\n")
    (fault,) = verify("r", workspace)
    assert fault.what == "interrupted; run the same command again, it resumes from there"
    kept = harness.finished_blocks(workspace)
    assert 0 < kept < harness.BLOCKS
    assert run(undisturbed.context, words, log) == 0
    assert harness.last_counts(workspace) == (harness.BLOCKS - kept, kept)
    assert verify("r", workspace) == []


def test_a_training_that_is_stopped_keeps_what_it_has_learned(undisturbed: Undisturbed, tmp_path: Path) -> None:
    em = synthesize(SynthConfig(shape=(3, 64, 64), seed=1))
    tifffile.imwrite(tmp_path / "t.tif", em.image, photometric="minisblack")
    tifffile.imwrite(tmp_path / "l.tif", em.truth * 255, photometric="minisblack")
    volume: dict[str, Any] = {"name": "t", "source": "t.tif", "voxel_nm": [50, 4, 4]}
    volume["labels"] = {"source": "l.tif", "membrane": "nonzero"}
    (tmp_path / "m.yaml").write_text(yaml.safe_dump({"name": "m", "volumes": [volume]}))
    workspace, log = tmp_path / "workspace", tmp_path / "log"
    words = ["train", str(tmp_path / "m.yaml"), "--out", "mine", "--steps", "20", "--batch", "1", "--device", "cpu"]
    words += ["--checkpoint-seconds", "1000", "--workspace", str(workspace)]
    process = undisturbed.context.Process(target=stopped_command, args=(words, log, 5))
    process.start()
    process.join()
    assert process.exitcode == INTERRUPTED
    assert log.read_text().splitlines()[-1] == f"error: stopped by Ctrl-C{RESUMES_TRAINING}"
    assert run(undisturbed.context, words, log) == 0
    assert "resuming from step" in log.read_text()
