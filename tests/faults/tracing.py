"""Runs steps in a process of their own, and tells which modules execute a line while their blocks are computed.

What it sees is the truth that `segem.stages.segmentation.identity` is held to: every call of a Python function, in any
thread, between the beginning of a block's load and the end of its store, in every phase of the step.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import segem.execute.run
from segem.config import ExecutionConfig, parse
from segem.execute.loop import run_loop
from segem.execute.work import BlockOutcome, BlockWork, Outcomes, Sweep
from segem.io.ledger import LedgerRow
from segem.io.workspace import Workspace
from segem.plan import Block
from segem.stages.segmentation.steps import STEPS
from tests.processes import ROOT

QUIET = ExecutionConfig(device="cpu")


@dataclass(frozen=True)
class Job:
    """A step of a volume into a run, with its settings."""

    step: str
    volume: str
    run: str
    config: dict[str, Any]


@dataclass(frozen=True)
class Seen:
    """What a job did while its blocks were computed."""

    starts: frozenset[str]
    """The modules of the classes that computed them."""
    modules: frozenset[str]
    """Every module that executed a line, of segem and of others."""


def trace(workspace: Workspace, jobs: list[Job]) -> list[Seen]:
    """Do each job, all of them in one process of their own, and return what was seen."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.tracing", str(workspace.root)],
        input=json.dumps([asdict(job) for job in jobs]),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [Seen(frozenset(seen["starts"]), frozenset(seen["modules"])) for seen in json.loads(done.stdout)]


_called_in: set[str] = set()


def _note(frame: FrameType, event: str, argument: object) -> None:
    _called_in.add(frame.f_globals.get("__name__", ""))


@contextmanager
def noted() -> Iterator[None]:
    """Note the module of each function that is called, in this thread and for good in those that start meanwhile."""
    threading.settrace(_note)
    sys.settrace(_note)
    try:
        yield
    finally:
        sys.settrace(None)


@dataclass(frozen=True)
class Traced:
    """The work of a step, its calls noted."""

    work: BlockWork[Any, Any]

    def load(self, block: Block, known: LedgerRow | None) -> Any:
        with noted():
            return self.work.load(block, known)

    def compute(self, loaded: Any, threads: int | None, on_voxels: Callable[[int], None]) -> Any:
        with noted():
            return self.work.compute(loaded, threads, on_voxels)

    def store(self, computed: Any) -> BlockOutcome:
        with noted():
            return self.work.store(computed)


def do(workspace: Workspace, job: Job) -> Seen:
    """Do one job, and return what was seen."""
    starts: set[str] = set()

    def traced_loop(sweep: Sweep, execution: ExecutionConfig, on_voxels: Callable[[int], None]) -> Outcomes:
        starts.add(type(sweep.work.arithmetic).__module__)  # type: ignore[attr-defined]
        return run_loop(replace(sweep, work=Traced(sweep.work)), execution, on_voxels)

    segem.execute.run.engine_of = lambda execution: traced_loop
    _called_in.clear()
    step = STEPS[job.step]
    step.run(job.volume, job.run, parse(step.config, job.config), execution=QUIET, workspace=workspace)
    return Seen(frozenset(starts), frozenset(_called_in))


if __name__ == "__main__":
    workspace = Workspace(Path(sys.argv[1]))
    found = [do(workspace, Job(**job)) for job in json.load(sys.stdin)]
    print(json.dumps([{"starts": sorted(seen.starts), "modules": sorted(seen.modules)} for seen in found]))
