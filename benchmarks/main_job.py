"""Measures the main job on real stacks: wall time, peak memory, IoU of every volume.

    .venv/bin/python benchmarks/main_job.py --data-root DIR [--manifest data/manifests/isbi-vnc.yaml]

DIR holds ``isbi2012/`` and ``vnc/`` as data/README.md describes them. Each run starts from an empty workspace.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import provenance

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Run the main job once and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, default=ROOT / "data" / "manifests" / "isbi-vnc.yaml")
    parser.add_argument("--workspace", type=Path, help="kept when given; a temporary one otherwise")
    arguments = parser.parse_args()
    print(provenance())
    with tempfile.TemporaryDirectory() as temporary:
        workspace = arguments.workspace or Path(temporary) / "workspace"
        command = [
            *(sys.executable, "-c", "from segem.cli import main; main()", "run", str(arguments.manifest), "--json"),
            *("--data-root", str(arguments.data_root), "--workspace", str(workspace), "--run", "benchmark"),
        ]
        started = time.monotonic()
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        wall = time.monotonic() - started
        if done.returncode:
            sys.exit(f"the job failed with exit code {done.returncode}")
        report = json.loads(done.stdout)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    sections = sum(volume["sections"] for volume in report["volumes"])
    print(f"{len(report['volumes'])} volumes, {sections} sections: {wall:.0f} s, peak memory {peak:.2f} GB")
    for volume in report["volumes"]:
        iou = volume["iou"]
        scores = "not measured: no ground truth"
        if iou:
            scores = f"IoU K-means {iou['kmeans']:.3f}, model {iou['model']:.3f}, V_rand {volume['v_rand']:.3f}"
        print(f"{volume['name']:<12} {volume['sections']:>4} sections  {scores}")


if __name__ == "__main__":
    main()
