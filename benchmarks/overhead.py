"""Measures what segem costs around the net: megapixels a second of a sweep with a net that costs nothing.

    .venv/bin/python benchmarks/overhead.py [--sections 40] [--edge 2048] [--context 1] [--halo 0] [--workspace DIR]

A synthetic volume is read, scaled, passed through a net that hands on its middle section, stitched, digested, written
as probability and mask, and recorded in the ledger: the real stage with its guarantees, so every shard is synced. The
grain of the sections compresses badly, as that of real ones does, and the net keeps it, which a real net would not:
the figure is a lower bound. Phases overlap in threads, so their times add up to more than the wall time.
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from free_net import add_noise_volume, save_free_net
from machine import provenance

import segem.execute.run
import segem.io.blocks
import segem.io.chunks
import segem.io.files
import segem.io.shards
import segem.kernels.normalize
import segem.kernels.threshold
import segem.learn.engine
import segem.stages.segmentation.segment
from segem.config import ExecutionConfig, SegmentConfig
from segem.io.ledger import Ledger
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.stages.segmentation.block_work import StepWork

PHASES: tuple[tuple[Any, str], ...] = (
    (StepWork, "load"),
    (segem.io.blocks, "read_block"),
    (StepWork, "identity"),
    (StepWork, "compute"),
    (segem.kernels.normalize, "zscore"),
    (segem.learn.engine.Engine, "predict_block"),
    (segem.kernels.threshold, "quantize_probability"),
    (segem.kernels.threshold, "threshold_probability"),
    (StepWork, "store"),
    (segem.io.shards, "write_block"),
    (segem.io.chunks, "encode_shard"),
    (segem.io.files, "write_bytes"),
    (segem.io.blocks, "block_digest"),
    (Ledger, "record"),
    (segem.execute.run, "execute"),
    (Volume, "build_pyramid"),
)
"""What is timed, in the order in which a block goes through it."""


class Stopwatch:
    """Adds up the wall and processor time that named functions take in all threads."""

    def __init__(self) -> None:
        self.wall: dict[str, float] = defaultdict(float)
        self.cpu: dict[str, float] = defaultdict(float)
        self.process: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)
        self._lock = threading.Lock()

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with a stopwatch around it; `cpu` is that of the calling thread alone."""

        @functools.wraps(function)
        def wrapper(*args: Any, **options: Any) -> Any:
            wall, cpu, process = time.perf_counter(), time.thread_time(), time.process_time()
            try:
                return function(*args, **options)
            finally:
                wall, cpu = time.perf_counter() - wall, time.thread_time() - cpu
                process = time.process_time() - process
                with self._lock:
                    self.wall[name] += wall
                    self.cpu[name] += cpu
                    self.process[name] += process
                    self.calls[name] += 1

        return wrapper


@contextmanager
def stopped() -> Iterator[Stopwatch]:
    """Put a stopwatch around every phase, wherever its function has been imported to."""
    watch = Stopwatch()
    undo: list[tuple[Any, str, Any]] = []
    for owner, name in PHASES:
        function = getattr(owner, name, None)
        if function is None:
            continue
        timed = watch.timed(name, function)
        modules = [module for key, module in list(sys.modules.items()) if key.split(".")[0] == "segem"]
        for holder in (owner, *modules):
            if vars(holder).get(name) is function:
                undo.append((holder, name, function))
                setattr(holder, name, timed)
    try:
        yield watch
    finally:
        for holder, name, function in undo:
            setattr(holder, name, function)


def main() -> None:
    """Sweep the free net over a synthetic volume and print what took how long."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", type=int, default=40)
    parser.add_argument("--edge", type=int, default=2048)
    parser.add_argument("--context", type=int, default=1, help="sections the net is given")
    parser.add_argument("--halo", type=int, default=0, help="pixels the net is given around each tile")
    parser.add_argument("--runtime", default="torch", help="what evaluates the net; torch adds nothing of its own")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workspace", type=Path, help="a folder on the disk to measure; a temporary one otherwise")
    arguments = parser.parse_args()
    print(provenance())
    with tempfile.TemporaryDirectory(dir=arguments.workspace) as folder:
        workspace = Workspace(Path(folder))
        workspace.prepare()
        shape = (arguments.sections, arguments.edge, arguments.edge)
        add_noise_volume(workspace, "noise", shape)
        model = save_free_net(workspace, context=arguments.context, halo_px=arguments.halo)
        config = SegmentConfig(model=model, runtime=arguments.runtime)
        execution = ExecutionConfig(device="cpu")
        megapixels = shape[0] * shape[1] * shape[2] / 1e6
        for number in range(arguments.rounds):
            with stopped() as watch:
                started, cpu = time.perf_counter(), time.process_time()
                segem.stages.segmentation.segment.segment("noise", f"run{number}", config, execution, workspace)
                wall, cpu = time.perf_counter() - started, time.process_time() - cpu
            sweep, busy = watch.wall["execute"], watch.process["execute"]
            print(
                f"sweep {megapixels / sweep:.1f} Mpx/s ({megapixels:.0f} Mpx in {sweep:.2f} s), "
                f"{1000 * busy / megapixels:.1f} ms/Mpx of processor, {busy / sweep:.2f} cores busy; "
                f"with pyramids and audit {megapixels / wall:.1f} Mpx/s, {1000 * cpu / megapixels:.1f} ms/Mpx"
            )
    print(f"{'phase':<20}{'calls':>7}{'wall ms/Mpx':>13}{'cpu ms/Mpx':>12}")
    for _, name in PHASES:
        if watch.calls[name]:
            per = 1000 / megapixels
            print(f"{name:<20}{watch.calls[name]:>7}{watch.wall[name] * per:>13.2f}{watch.cpu[name] * per:>12.2f}")


if __name__ == "__main__":
    main()
