"""Compares the forecast of `segem run --plan` with what single volumes then take: time, disk and peak memory.

    .venv/bin/python benchmarks/forecast.py --data-root DIR [--manifest data/manifests/isbi-vnc.yaml] [--volumes 3]

DIR holds ``isbi2012/`` and ``vnc/`` as data/README.md describes them. Times are told by a quiet machine alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from machine import provenance

from segem.stages.forecast import measure_disk

ROOT = Path(__file__).resolve().parent.parent
SEGEM = (sys.executable, "-c", "from segem.cli import main; main()")


def main() -> None:
    """Print forecast and truth of each volume, and how far they are apart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, default=ROOT / "data" / "manifests" / "isbi-vnc.yaml")
    parser.add_argument("--volumes", type=int, default=3)
    arguments = parser.parse_args()
    print(provenance())
    print(f"{'volume':<12} {'what':<7} {'forecast':>12} {'truth':>12} {'off':>7}")
    values = yaml.safe_load(arguments.manifest.read_text(encoding="utf-8"))
    for volume in values["volumes"][: arguments.volumes]:
        compare(values | {"volumes": [volume]}, arguments.data_root)


def compare(values: dict[str, Any], data_root: Path) -> None:
    """Print forecast and truth of a manifest of one volume."""
    with tempfile.TemporaryDirectory() as folder:
        manifest, workspace = Path(folder) / "one.yaml", Path(folder) / "workspace"
        manifest.write_text(yaml.safe_dump(values), encoding="utf-8")
        words = ("run", str(manifest), "--data-root", str(data_root), "--workspace", str(workspace), "--json")
        told = subprocess.run([*SEGEM, *words, "--plan"], stdout=subprocess.PIPE, text=True, check=True).stdout
        forecast = json.loads(told)
        started = time.monotonic()
        process = subprocess.Popen([*SEGEM, *words], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - started
        if os.waitstatus_to_exitcode(status):
            sys.exit(f"the job failed with exit code {os.waitstatus_to_exitcode(status)}")
        pairs = {
            "seconds": (forecast["seconds"], wall),
            "MB disk": (forecast["disk_bytes"] / 1e6, measure_disk(workspace) / 1e6),
            "MB peak": (forecast["memory_bytes"] / 1e6, usage.ru_maxrss * 1024 / 1e6),
        }
    name = values["volumes"][0]["name"]
    for what, (expected, found) in pairs.items():
        print(f"{name:<12} {what:<7} {expected:>12.1f} {found:>12.1f} {expected / found - 1:>+7.1%}")


if __name__ == "__main__":
    main()
