"""Runs a small segmentation in processes of its own, and kills them."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from multiprocessing.context import ForkServerContext
from pathlib import Path

import numpy as np

from segem.config import ExecutionConfig, SegmentConfig
from segem.execute.loop import WRITERS
from segem.io.run import load_run
from segem.io.shards import path_of
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.stages.segmentation.segment import segment
from segem.stages.segmentation.verify import result_layers

CONFIG = SegmentConfig(model="tiny", runtime="torch")
"""torch starts at once, so that a kill hits the work and not the start."""
QUIET = ExecutionConfig(device="cpu")
SHAPE = (256, 64, 64)
BLOCKS = 32
"""Of 8 sections each."""
TIMES = int(os.environ.get("SEGEM_KILLS", "6"))
"""How often the machine does its worst: a few times in CI, 50 times on request."""
IN_FLIGHT = WRITERS
"""Blocks that are being written; one more may have been written and wait for its row in the ledger."""

Job = Callable[[Path], None]


def segment_noise(root: Path) -> None:
    """Segment the volume ``noise`` of a workspace into run ``r``."""
    segment("noise", "r", CONFIG, QUIET, Workspace(root))


def processes() -> ForkServerContext:
    """Return a context whose processes start with torch imported, so that a kill hits the work and not the start."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.harness"])
    return context


def run_to_the_end(context: ForkServerContext, job: Job, root: Path) -> float:
    """Run a job undisturbed and return the seconds it took."""
    started = time.monotonic()
    process = context.Process(target=job, args=(root,))
    process.start()
    process.join()
    assert process.exitcode == 0
    return time.monotonic() - started


def run_and_kill(context: ForkServerContext, job: Job, root: Path, seconds: float) -> bool:
    """Run a job, kill it after a while, and tell whether it was still alive."""
    process = context.Process(target=job, args=(root,))
    process.start()
    process.join(seconds)
    alive = process.is_alive()
    if alive:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
    process.join()
    return alive


def run_and_kill_at(context: ForkServerContext, job: Job, workspace: Workspace, blocks: int) -> None:
    """Run a job, and kill it as soon as the ledger holds so many blocks."""
    process = context.Process(target=job, args=(workspace.root,))
    process.start()
    while process.is_alive() and finished_blocks(workspace) < blocks:
        time.sleep(0.002)
    process.kill()
    process.join()


def random_moment(rng: random.Random, duration: float) -> float:
    """Return a moment within a run; now and then one shortly after its start."""
    return rng.uniform(0, duration)


def output_digest(workspace: Workspace, run: str = "r") -> str:
    """Return the sha256 of every chunk of the result, pyramids and labels included."""
    folder = workspace.result(run, "noise")
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and "c" in path.parts):
        digest.update(str(file.relative_to(folder)).encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def finished_blocks(workspace: Workspace) -> int:
    """Return how many blocks the ledger holds."""
    path = workspace.ledger("r")
    if not path.is_file():
        return 0
    with closing(sqlite3.connect(path)) as db:
        try:
            return int(db.execute("SELECT count(*) FROM blocks").fetchone()[0])
        except sqlite3.OperationalError:
            return 0


def last_counts(workspace: Workspace) -> tuple[int, int]:
    """Return how many blocks the last complete run computed and skipped."""
    stage = load_run(workspace, "r").volumes["noise"].segment
    assert stage is not None
    assert stage.state == "complete"
    return stage.facts["computed"], stage.facts["skipped"]


def touched_blocks(workspace: Workspace) -> int:
    """Return how many blocks of the result hold at least one file."""
    folder = workspace.result("r", "noise")
    if not folder.is_dir():
        return 0
    result = Volume.open(folder)
    roots = [path_of(array) for array in result_layers(result)]
    return len({file.relative_to(root).as_posix() for root in roots for file in root.glob("c/*/*/[0-9]*")})


def noise() -> np.ndarray:
    """Return the volume that is segmented."""
    return np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
