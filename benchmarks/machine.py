"""What every benchmark prints beside its numbers: the machine, its load and the commit."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def facts() -> dict[str, str | int | float]:
    """Return where, when and with what a number was measured."""
    root = Path(__file__).resolve().parent.parent
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True, check=False
    )
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    return {
        "commit": told.stdout.strip() or "unknown",
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def provenance() -> str:
    """Return the same as one line."""
    found = facts()
    return (
        f"commit {found['commit']}; {found['cpu']}, {found['cores']} cores, load {found['load']}; "
        f"Python {found['python']}"
    )


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the version of each package that is installed."""
    found = {}
    for package in packages:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
