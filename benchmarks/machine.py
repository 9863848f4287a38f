"""What every benchmark prints beside its numbers: the machine, its load and the commit."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path


def provenance() -> str:
    """Return one line that says where and with what a number was measured."""
    root = Path(__file__).resolve().parent.parent
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True, check=False
    )
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    load = os.getloadavg()[0]
    commit = told.stdout.strip() or "unknown"
    cores = len(os.sched_getaffinity(0))
    return f"commit {commit}; {cpu}, {cores} cores, load {load:.1f}; Python {platform.python_version()}"
