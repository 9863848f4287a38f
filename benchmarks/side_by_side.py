"""Measures what volumes side by side gain over volumes one after the other, as the median of alternating pairs.

    .venv/bin/python benchmarks/side_by_side.py --data-root DIR [--pairs 7] [--manifest data/manifests/isbi-vnc.yaml]

DIR holds ``isbi2012/`` and ``vnc/`` as data/README.md describes them. Each run starts from an empty workspace, and both
of a pair must leave the same bytes. Where other programs run, the processor's time says more than the clock.

Of the last pair a profile is printed: how long the net was at work, other steps alone, or none (before the first step
and after the last one), and how many cores were in use meanwhile. Side by side can gain only what the net leaves idle.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import psutil
import yaml
from machine import provenance

from segem.records.status import StepUsage

ROOT = Path(__file__).resolve().parent.parent
TOGETHER, ALONE = 2, 1
HOW = {ALONE: "one after the other", TOGETHER: "side by side"}
SAMPLE_SECONDS = 0.25

Sample = tuple[float, float]
"""Time of day, and seconds of the processor so far."""


@dataclass(frozen=True)
class Taken:
    """What one run of the main job took."""

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int
    digest: str
    samples: tuple[Sample, ...]
    steps: tuple[StepUsage, ...]


def main() -> None:
    """Run pairs, print what each took, and the median of their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, default=ROOT / "data" / "manifests" / "isbi-vnc.yaml")
    parser.add_argument("--pairs", type=int, default=7)
    arguments = parser.parse_args()
    print(provenance())
    ratios: list[float] = []
    used: dict[int, list[float]] = {ALONE: [], TOGETHER: []}
    for pair in range(arguments.pairs):
        # Whichever comes first alternates, so that what changes over time favours neither.
        order = (ALONE, TOGETHER) if pair % 2 == 0 else (TOGETHER, ALONE)
        taken = {cpu: run(arguments.manifest, arguments.data_root, cpu) for cpu in order}
        for cpu, one in taken.items():
            used[cpu].append(one.cpu_seconds / one.wall_seconds)
        ratios.append(taken[ALONE].wall_seconds / taken[TOGETHER].wall_seconds)
        same = taken[ALONE].digest == taken[TOGETHER].digest
        print(f"pair {pair + 1}: {', '.join(describe(cpu, taken[cpu]) for cpu in (ALONE, TOGETHER))}")
        if not same:
            sys.exit("the two runs left other bytes")
    for cpu, one in sorted(taken.items()):
        print(f"{HOW[cpu]}: {profile(one)}")
    print(f"median of {len(ratios)} pairs: {statistics.median(ratios):.3f} times as fast, from {min(ratios):.3f}")
    print(f"cores in use: {statistics.median(used[ALONE]):.2f} alone, {statistics.median(used[TOGETHER]):.2f} together")


def describe(cpu: int, taken: Taken) -> str:
    """Return what a run took in words."""
    memory = taken.peak_bytes / 1e9
    return f"{HOW[cpu]} {taken.wall_seconds:.1f} s ({taken.cpu_seconds:.1f} s of processor, {memory:.2f} GB)"


def profile(taken: Taken) -> str:
    """Return how long each kind of work went on, and how many cores were in use meanwhile."""
    ends = [(one.step, datetime.fromisoformat(one.time).timestamp(), one.seconds) for one in taken.steps]
    kinds = ("the net", "other steps", "no step")
    seconds, used = dict.fromkeys(kinds, 0.0), dict.fromkeys(kinds, 0.0)
    for (start, before), (end, after) in zip(taken.samples, taken.samples[1:], strict=False):
        running = {step for step, ended, lasted in ends if ended - lasted <= (start + end) / 2 <= ended}
        kind = "the net" if "segment" in running else "other steps" if running else "no step"
        seconds[kind] += end - start
        used[kind] += after - before
    told = (f"{kind} {seconds[kind]:.0f} s ({used[kind] / seconds[kind]:.2f} cores)" for kind in kinds if seconds[kind])
    return ", ".join(told)


def run(manifest: Path, data_root: Path, cpu: int) -> Taken:
    """Run the main job in a process of its own with so many steps at a time."""
    with tempfile.TemporaryDirectory() as folder:
        limited = Path(folder) / manifest.name
        values = yaml.safe_load(manifest.read_text(encoding="utf-8")) | {"resources": {"cpu": cpu}}
        limited.write_text(json.dumps(values), encoding="utf-8")
        workspace = Path(folder) / "workspace"
        command = [
            *(sys.executable, "-c", "from segem.cli import main; main()", "run", str(limited), "--json"),
            *("--data-root", str(data_root), "--workspace", str(workspace), "--run", "benchmark"),
        ]
        started = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        samples = sample(psutil.Process(process.pid))
        # The usage of this one process, not of all that have ended so far.
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - started
        if os.waitstatus_to_exitcode(status):
            sys.exit(f"the job failed with exit code {os.waitstatus_to_exitcode(status)}")
        (lines,) = workspace.glob("runs/*/usage.jsonl")
        steps = tuple(StepUsage.model_validate_json(line) for line in lines.read_text().splitlines())
        cpu_seconds, peak_bytes = usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
        return Taken(wall, cpu_seconds, peak_bytes, digest_voxels(workspace), tuple(samples), steps)


def sample(process: psutil.Process) -> Sequence[Sample]:
    """Return what a process and the server that it starts have used, again and again until it ends."""
    samples: list[Sample] = []
    while True:
        used = 0.0
        try:
            for one in [process, *process.children(recursive=True)]:
                # With that of its children that have ended.
                used += sum(one.cpu_times()[:4])
        except psutil.NoSuchProcess:
            used = samples[-1][1] if samples else 0.0
        if process.status() == psutil.STATUS_ZOMBIE:
            return samples
        samples.append((time.time(), used))
        time.sleep(SAMPLE_SECONDS)


def digest_voxels(workspace: Path) -> str:
    """Return a digest of every shard that a run has left."""
    digest = hashlib.sha256()
    for shard in sorted(path for path in workspace.glob("runs/*/*.ome.zarr/**/c/**/*") if path.is_file()):
        digest.update(str(shard.relative_to(workspace)).encode() + hashlib.sha256(shard.read_bytes()).digest())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
