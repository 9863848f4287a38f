"""A flow that computes nothing, for the tests of the service: its process is up sooner than one with nets."""

from __future__ import annotations

import time

from prefect import flow, task


@task
def nap(seconds: float) -> float:
    """Sleep in a task."""
    time.sleep(seconds)
    return seconds


@flow
def napping(seconds: float = 0.0, restarts: int = 0) -> float:
    """Sleep."""
    return nap(seconds)
