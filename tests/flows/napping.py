"""A flow that computes nothing, for the tests of the service: its process is up sooner than one with nets."""

from __future__ import annotations

import time
from pathlib import Path

from prefect import flow, task


@task
def nap(seconds: float, gate: Path | None) -> float:
    """Sleep in a task, and then for as long as the gate, a file, is there."""
    time.sleep(seconds)
    while gate is not None and gate.exists():
        time.sleep(0.1)
    return seconds


@flow
def napping(seconds: float = 0.0, restarts: int = 0, gate: Path | None = None) -> float:
    """Sleep."""
    return nap(seconds, gate)
