"""Trainings side by side, one to a core, each measured by its own processor time."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace

import segem.learn.train
from segem.progress import track


def run_pinned(commands: Mapping[str, Sequence[str]], logs: Path) -> None:
    """Run commands in processes of their own, as many at a time as there are cores; what each says goes to its log."""
    cores: SimpleQueue[int] = SimpleQueue()
    for core in sorted(os.sched_getaffinity(0)):
        cores.put(core)

    def one(name: str) -> None:
        core = cores.get()
        try:
            with (logs / f"{name}.log").open("w") as log:
                command = ["taskset", "-c", str(core), *commands[name]]
                environment = {**os.environ, "OMP_NUM_THREADS": "1"}
                subprocess.run(command, env=environment, stdout=log, stderr=log, check=False)
        finally:
            cores.put(core)

    with ThreadPoolExecutor(cores.qsize()) as pool, track("train", len(commands), "model") as advance:
        for future in [pool.submit(one, name) for name in commands]:
            future.result()
            advance(1)


def count_processor_time() -> None:
    """Let the budget of a training in this process be processor time, so that other programs cost it nothing."""
    segem.learn.train.time = SimpleNamespace(monotonic=time.process_time)  # type: ignore[assignment, attr-defined]
