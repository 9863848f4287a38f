"""Measures two dask workers against two processes that know nothing of each other, as the median of alternating pairs.

    .venv/bin/python benchmarks/workers.py [--pairs 7] [--sections 384] [--model unet-em]

Both sweep the same synthetic volume with the model, one core to each process: `segem segment --workers 2`, and twice
`segem segment --shard`. Rates are those of the middle half of the blocks: neither start nor end counts, nor how many
blocks a process has in work before it writes the first. How long a whole run took is printed beside them. Both must
leave the same bytes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from free_net import add_noise_volume
from machine import provenance

from segem.io.layers import layer_of
from segem.io.shards import path_of
from segem.io.volume import Volume
from segem.io.workspace import Workspace

NAME, EDGE_PX, PROCESSES = "noise", 512, 2
WORKERS, INDEPENDENT = "two workers", "two processes"


@dataclass(frozen=True)
class Taken:
    """What one run took, and what it left."""

    mpx_per_second: float
    wall_seconds: float
    digest: str


def main() -> None:
    """Run pairs, print the rates of each, and the median of their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--sections", type=int, default=384)
    parser.add_argument("--model", default="unet-em")
    arguments = parser.parse_args()
    print(provenance())
    ratios = []
    for pair in range(arguments.pairs):
        # Whichever comes first alternates, so that what changes over time favours neither.
        order = (WORKERS, INDEPENDENT) if pair % 2 == 0 else (INDEPENDENT, WORKERS)
        taken = {how: run(how, arguments.sections, arguments.model) for how in order}
        ratios.append(taken[WORKERS].mpx_per_second / taken[INDEPENDENT].mpx_per_second)
        told = (f"{how} {one.mpx_per_second:.3f} Mpx/s, {one.wall_seconds:.0f} s" for how, one in taken.items())
        print(f"pair {pair + 1}: {'; '.join(told)}: {ratios[-1]:.3f}", flush=True)
        if taken[WORKERS].digest != taken[INDEPENDENT].digest:
            sys.exit("the two left other bytes")
    print(f"median of {len(ratios)} pairs: {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}")


def run(how: str, sections: int, model: str) -> Taken:
    """Sweep a new volume."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        workspace.prepare()
        add_noise_volume(workspace, NAME, (sections, EDGE_PX, EDGE_PX))
        cores = sorted(os.sched_getaffinity(0))[:PROCESSES]
        segment = [
            sys.executable,
            "-m",
            "segem",
            "segment",
            NAME,
            "--workspace",
            folder,
            "--run",
            "r",
            "--model",
            model,
        ]
        pinned = [["taskset", "-c", str(core), *segment] for core in cores]
        shards = [[*command, "--shard", f"{i}/{PROCESSES}"] for i, command in enumerate(pinned)]
        both = ["taskset", "-c", ",".join(map(str, cores)), *segment, "--workers", str(PROCESSES)]
        started = time.monotonic()
        processes = [
            subprocess.Popen([*command, "--device", "cpu"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for command in ([both] if how == WORKERS else shards)
        ]
        if any(process.wait() for process in processes):
            sys.exit(f"{how}: segem segment failed")
        wall = time.monotonic() - started
        (result,) = (path for path in workspace.run("r").glob("*.ome.zarr"))
        probability = path_of(layer_of(Volume.open(result), "probability"))
        blocks = sorted(path for path in probability.rglob("c/**/*") if path.is_file())
        written = sorted(path.stat().st_mtime for path in blocks)
        early, late = len(written) // 4, len(written) * 3 // 4
        computed = (late - early) * sections * EDGE_PX**2 / len(written)
        digest = sha256(b"".join(sha256(path.read_bytes()).digest() for path in blocks)).hexdigest()
        return Taken(computed / 1e6 / (written[late] - written[early]), wall, digest)


if __name__ == "__main__":
    main()
