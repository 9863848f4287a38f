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

from segem.config import BaselineConfig, CellsConfig, CrfConfig, ExecutionConfig, RefineConfig, SegmentConfig
from segem.execute.loop import WRITERS
from segem.io.layers import layers_of
from segem.io.run import load_run
from segem.io.shards import path_of
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.stages.segmentation.baseline import baseline
from segem.stages.segmentation.cells import find_cells_of_run
from segem.stages.segmentation.crf import refine_volume
from segem.stages.segmentation.segment import segment

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


def refine_noise(root: Path) -> None:
    """Refine run ``segmented`` of the volume ``noise`` into run ``r``."""
    refine_volume("noise", "r", RefineConfig(of="segmented", crf=CrfConfig(sa_px=8)), QUIET, Workspace(root))


def find_baseline_of_noise(root: Path) -> None:
    """Cluster the intensities of the volume ``noise`` into run ``r``: one pass that counts, one that writes."""
    baseline("noise", "r", BaselineConfig(sigma_px=1.0), Workspace(root), QUIET)


def divide_noise(root: Path) -> None:
    """Divide the probability that run ``r`` holds of the volume ``noise`` into cells."""
    find_cells_of_run("noise", "r", CellsConfig(), QUIET, Workspace(root))


JOBS = {"segment": segment_noise, "crf": refine_noise, "baseline": find_baseline_of_noise, "cells": divide_noise}
"""Every step of block work by its name."""
LAST_PHASE = {"cells": "sections"}
"""The phase of a step that writes its layers, where that is not ``blocks``."""
LAYERS = {"cells": ("cells", "membrane-closed")}
"""What a step writes, where it writes beside what a run holds already."""


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
    """Run a job, kill it after a while, and tell whether the kill was what ended it."""
    process = context.Process(target=job, args=(root,))
    process.start()
    process.join(seconds)
    # It may end at this very moment, so only its exit code tells.
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def run_and_kill_at(
    context: ForkServerContext, job: Job, workspace: Workspace, blocks: int, step: str = "segment"
) -> None:
    """Run the job of a step, and kill it as soon as the ledger holds so many blocks."""
    process = context.Process(target=job, args=(workspace.root,))
    process.start()
    while process.is_alive() and finished_blocks(workspace, step) < blocks:
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


def finished_blocks(workspace: Workspace, step: str = "segment") -> int:
    """Return how many blocks of the last phase of a step the ledger holds."""
    path = workspace.ledger("r")
    if not path.is_file():
        return 0
    with closing(sqlite3.connect(path)) as db:
        try:
            phase = LAST_PHASE.get(step, "blocks")
            return int(db.execute("SELECT count(*) FROM blocks WHERE phase = ?", (phase,)).fetchone()[0])
        except sqlite3.OperationalError:
            return 0


def last_counts(workspace: Workspace, name: str = "segment") -> tuple[int, int]:
    """Return how many blocks the last phase of a step computed and skipped when it was last complete."""
    step = load_run(workspace, "r").volumes["noise"].steps[name]
    assert step.state == "complete"
    return step.facts.computed, step.facts.skipped


def touched_blocks(workspace: Workspace, step: str = "segment") -> int:
    """Return how many blocks of what a step writes hold at least one file."""
    folder = workspace.result("r", "noise")
    if not folder.is_dir():
        return 0
    result = Volume.open(folder)
    layers = LAYERS.get(step, ("probability", "membrane", "baseline"))
    if not {*layers} <= {"probability", *result.labels()}:
        return 0
    roots = [path_of(array) for array in layers_of(result, layers)]
    return len({file.relative_to(root).as_posix() for root in roots for file in root.glob("c/*/*/[0-9]*")})


def noise() -> np.ndarray:
    """Return the volume that is segmented."""
    return np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
