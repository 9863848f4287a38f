"""Measures the speed and the peak memory of `segem ingest` beside a plain copy of the same TIFF to Zarr.

    .venv/bin/python benchmarks/ingest.py [--gb 1] [--edge 2048] [--dtype uint8] [--rounds 3] [--workspace DIR]
    .venv/bin/python benchmarks/ingest.py --edge 32768 --gb 1

The stack is uncompressed, in strips, and as grainy as real sections. The copy reads page by page with tifffile, and
writes with zarr-python and the chunks, shards and codecs of a volume; it neither syncs, nor checks, digests, counts or
shrinks anything. Both run in a process of their own, in turn; their peak is what the kernel noted (VmHWM).
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import tifffile
from free_net import pattern
from machine import provenance

PEAK = """
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(time.perf_counter() - started, int(peak.split()[1]) / 1024)
"""
INGEST = """
import sys, time
from pathlib import Path
from segem.config import IngestConfig
from segem.io.workspace import Workspace
from segem.stages.volumes.ingest import ingest
started = time.perf_counter()
source, target = map(Path, sys.argv[1:3])
ingest(IngestConfig(name="a", source=source, voxel_nm=(50, 4, 4)), Workspace(target))
"""
COPY = """
import sys, time
import tifffile, zarr
from zarr.codecs import Crc32cCodec, ZstdCodec
from segem.io.volume import CHUNK, shard_shape
started = time.perf_counter()
with tifffile.TiffFile(sys.argv[1]) as file:
    shape = (len(file.pages), *file.pages[0].shape)
    array = zarr.create_array(
        sys.argv[2], shape=shape, dtype=file.pages[0].dtype, chunks=CHUNK, shards=shard_shape(shape),
        compressors=(ZstdCodec(level=1), Crc32cCodec()),
    )
    depth = shard_shape(shape)[0]
    for z in range(0, shape[0], depth):
        array[z : z + depth] = file.asarray(key=range(z, min(z + depth, shape[0]))).reshape(-1, *shape[1:])
"""


def write_stack(path: Path, shape: tuple[int, int, int], dtype: str) -> None:
    """Write a stack of noise that compresses like sections."""
    grain = pattern()
    times = [-(-n // m) for n, m in zip(shape[1:], grain.shape, strict=True)]
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for z in range(shape[0]):
            # Moved, so that no section is like the one before.
            section = np.tile(np.roll(grain, 37 * z, axis=(0, 1)), times)[: shape[1], : shape[2]].astype(dtype)
            file.write(section, contiguous=False, photometric="minisblack", rowsperstrip=64)


def measure(program: str, source: Path, folder: Path) -> tuple[float, float]:
    """Return seconds and peak MiB of a program."""
    target = folder / "made"
    root = Path(__file__).resolve().parent.parent
    try:
        done = subprocess.run(
            [sys.executable, "-c", program + PEAK, str(source), str(target)],
            check=True,
            capture_output=True,
            text=True,
            cwd=root,
        )
    finally:
        shutil.rmtree(target, ignore_errors=True)
    seconds, peak = map(float, done.stdout.split())
    return seconds, peak


def main() -> None:
    """Print speed and peak memory of both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gb", type=float, default=1.0)
    parser.add_argument("--edge", type=int, default=2048)
    parser.add_argument("--dtype", choices=("uint8", "uint16"), default="uint8")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workspace", type=Path, help="a folder on the disk to measure; a temporary one otherwise")
    arguments = parser.parse_args()
    print(provenance())
    edge, itemsize = arguments.edge, np.dtype(arguments.dtype).itemsize
    shape = (max(1, round(arguments.gb * 1e9 / (edge * edge * itemsize))), edge, edge)
    megabytes = np.prod(shape, dtype=float) * itemsize / 1e6
    with tempfile.TemporaryDirectory(dir=arguments.workspace) as folder:
        source = Path(folder) / "a.tif"
        write_stack(source, shape, arguments.dtype)
        took: dict[str, list[float]] = {"ingest": [], "copy": []}
        for _ in range(arguments.rounds):
            for name, program in (("ingest", INGEST), ("copy", COPY)):
                seconds, peak = measure(program, source, Path(folder))
                took[name].append(seconds)
                print(f"{name:<7}{megabytes / seconds:7.1f} MB/s, peak {peak:5.0f} MiB", flush=True)
        speed = statistics.median(took["copy"]) / statistics.median(took["ingest"])
        print(
            f"{shape[0]} sections of {edge} x {edge} {arguments.dtype}: ingest has {speed:.2f} of the speed of a copy"
        )


if __name__ == "__main__":
    main()
