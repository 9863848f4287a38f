"""Runs steps in a process of their own, and tells which modules execute a line while their blocks are computed.

What it sees is the truth that `segem.stages.segmentation.identity` is held to: every call of a Python function, in every
thread, between the beginning of a block's load and the end of its store.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from segem.config import BaselineConfig, ExecutionConfig, RefineConfig, SegmentConfig
from segem.execute import run as engines
from segem.execute.work import BlockOutcome, BlockWork
from segem.io.ledger import LedgerRow
from segem.io.workspace import Workspace
from segem.plan import Block
from segem.stages.segmentation.baseline import baseline
from segem.stages.segmentation.crf import refine_volume
from segem.stages.segmentation.segment import segment
from tests.processes import ROOT

QUIET = ExecutionConfig(device="cpu")


@dataclass(frozen=True)
class Job:
    """A step of a volume, with its settings."""

    step: str
    volume: str
    config: dict[str, Any]


@dataclass(frozen=True)
class Seen:
    """What a job did while its blocks were computed."""

    start: str
    """The module whose class computes them."""
    modules: frozenset[str]
    """Every module that executed a line, of segem and of others."""
    computed: int


def trace(workspace: Workspace, jobs: list[Job]) -> list[Seen]:
    """Do each job, in one process of their own, and return what was seen."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.tracing", str(workspace.root)],
        input=json.dumps([asdict(job) for job in jobs]),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [Seen(**seen | {"modules": frozenset(seen["modules"])}) for seen in json.loads(done.stdout)]


class Recorder:
    """Writes down the module of each function that is called while it is on; threads that start meanwhile included."""

    def __init__(self) -> None:
        self.modules: set[str] = set()
        self.starts: set[str] = set()

    @contextmanager
    def on(self) -> Iterator[None]:
        threading.settrace(self._called)
        sys.settrace(self._called)
        try:
            yield
        finally:
            sys.settrace(None)

    def _called(self, frame: FrameType, event: str, argument: object) -> None:
        self.modules.add(frame.f_globals.get("__name__", ""))


class Traced:
    """The work of a step, recorded."""

    def __init__(self, work: BlockWork[Any, Any], recorder: Recorder) -> None:
        self.work, self.recorder = work, recorder
        recorder.starts.add(type(work).__module__)

    def load(self, block: Block, known: LedgerRow | None) -> Any:
        with self.recorder.on():
            return self.work.load(block, known)

    def compute(self, loaded: Any, threads: int | None, on_voxels: Callable[[int], None]) -> Any:
        with self.recorder.on():
            return self.work.compute(loaded, threads, on_voxels)

    def store(self, computed: Any) -> BlockOutcome:
        with self.recorder.on():
            return self.work.store(computed)


def record(workspace: Workspace, job: Job, run: str) -> Seen:
    """Do one job, and return what was seen."""
    recorder, loop = Recorder(), engines.run_loop

    def traced_loop(blocks: Any, at_once: int, work: BlockWork[Any, Any], *rest: Any) -> Any:
        return loop(blocks, at_once, Traced(work, recorder), *rest)

    engines.run_loop = traced_loop  # type: ignore[assignment]
    try:
        if job.step == "segment":
            computed = segment(job.volume, run, SegmentConfig(**job.config), QUIET, workspace).computed
        elif job.step == "crf":
            computed = refine_volume(job.volume, run, RefineConfig(**job.config), QUIET, workspace).computed
        else:
            computed = baseline(job.volume, run, BaselineConfig(**job.config), workspace).computed
    finally:
        engines.run_loop = loop
        threading.settrace(None)
    (start,) = recorder.starts
    return Seen(start, frozenset(recorder.modules), computed)


if __name__ == "__main__":
    space = Workspace(Path(sys.argv[1]))
    found = [record(space, Job(**job), f"{job['step']}-{n}") for n, job in enumerate(json.load(sys.stdin))]
    print(json.dumps([asdict(seen) | {"modules": sorted(seen.modules)} for seen in found]))
