"""Compares segem's own shard codec with TensorStore's and zarr-python's, at equal safety, on grainy sections.

    .venv/bin/python benchmarks/shard_codec.py [--sections 16] [--edge 2048] [--rounds 9] [--workspace DIR]

Each contender writes the same shards of the same array, reads them back in blocks with a halo in the section (read),
and again shard by shard with a halo of one section too and a cache that decodes each chunk once (sweep), as the engine
reads for a net with context; zarr-python has no cache. TensorStore has as many threads as segem. They take turns, round
by round. All write a file under another name, sync it and rename it (zarr-python does not sync, so it is favoured). The
ratios are those of rounds, median and smallest to largest, by the clock and by the processor's time, which says more on
a machine that is shared.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorstore
import zarr
from free_net import pattern
from machine import provenance
from numpy.typing import NDArray

from segem.geometry import ZYX, Box, Halo, grid
from segem.io.blocks import read_block
from segem.io.cache import CachedReader
from segem.io.shards import Array, create_sharded, path_of, shape_of, shard_of, write_block

HALO_PX = 64


def main() -> None:
    """Measure and print megapixels a second, and how many times as long each took as segem's own codec."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", type=int, default=16)
    parser.add_argument("--edge", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--workspace", type=Path, help="a folder on the disk to measure; a temporary one otherwise")
    arguments = parser.parse_args()
    print(provenance())
    drawn = pattern()
    rows = -(-arguments.edge // drawn.shape[0])
    section = np.tile(drawn, (rows, rows))[: arguments.edge, : arguments.edge]
    voxels = np.stack([np.roll(section, (127 * z, 61 * z), (0, 1)) for z in range(arguments.sections)])
    taken: dict[str, dict[str, list[Taken]]] = {}
    for number in range(arguments.rounds + 1):
        for name, contender in CONTENDERS.items():
            with tempfile.TemporaryDirectory(dir=arguments.workspace) as folder:
                measured = _measure(Path(folder), voxels, *contender)
            if number:  # the first round warms up
                for what, took in measured.items():
                    taken.setdefault(what, {}).setdefault(name, []).append(took)
    for what, by_name in taken.items():
        for name, each in by_name.items():
            rate = voxels.size / 1e6 / statistics.median(took.wall for took in each)
            pairs = list(zip(each, by_name["segem"], strict=True))
            by_clock = _summarise([other.wall / own.wall for other, own in pairs])
            by_processor = _summarise([other.processor / own.processor for other, own in pairs])
            print(f"{what:<6}{name:<12}{rate:7.1f} Mpx/s   segem is {by_clock} times as fast, processor {by_processor}")


class Taken(NamedTuple):
    """Seconds by the clock, and of the processor."""

    wall: float
    processor: float


Write = Callable[[Array, Box, NDArray[np.uint8]], None]
Read = Callable[[Array, int], Callable[[Box], NDArray[np.uint8]]]
"""Opens an array to read boxes of it, with so many bytes to keep decoded chunks in."""


def _measure(folder: Path, voxels: NDArray[np.uint8], write: Write, read: Read) -> dict[str, Taken]:
    group = zarr.create_group(str(folder / "a.zarr"), zarr_format=3)
    create_sharded(group, "0", voxels.shape, np.uint8)
    array: Any = zarr.open_array(str(folder / "a.zarr" / "0"), mode="r+", zarr_format=3)
    cache_bytes = 4 * voxels[0].nbytes
    return {
        "write": _time(lambda: _write_all(write, array, voxels)),
        "read": _time(lambda: _read_all(read(array, 0), voxels, (1, 1024, 1024), 0)),
        "sweep": _time(lambda: _read_all(read(array, cache_bytes), voxels, shard_of(array), 1)),
    }


def _write_all(write: Write, array: Array, voxels: NDArray[np.uint8]) -> None:
    for _, box in grid(shape_of(array), shard_of(array)):
        write(array, box, voxels[box.slices])


def _read_all(get: Callable[[Box], NDArray[np.uint8]], voxels: NDArray[np.uint8], block: ZYX, halo_z: int) -> None:
    shape = (voxels.shape[0], voxels.shape[1], voxels.shape[2])
    for _, box in grid(shape, block):
        grown = box.grow(Halo(halo_z, HALO_PX, HALO_PX), Box.of_shape(shape))
        if not np.array_equal(get(grown), voxels[grown.slices]):
            raise SystemExit("what was read is not what was written")


def _time(work: Callable[[], object]) -> Taken:
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return Taken(time.perf_counter() - wall, time.process_time() - processor)


def _summarise(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def _read_by_segem(array: Array, cache_bytes: int) -> Callable[[Box], NDArray[np.uint8]]:
    return CachedReader(array, cache_bytes, "").read if cache_bytes else lambda box: read_block(array, box, "")


def _tensorstore(array: Array, cache_bytes: int = 0) -> Any:
    # With file_io_sync, its default, a file is synced before it is renamed.
    kvstore = {"driver": "file", "path": str(path_of(array))}
    threads = {"limit": min(len(os.sched_getaffinity(0)), 8)}
    context = tensorstore.Context(
        {
            "cache_pool": {"total_bytes_limit": cache_bytes},
            "data_copy_concurrency": threads,
            "file_io_concurrency": threads,
        }
    )
    return tensorstore.open({"driver": "zarr3", "kvstore": kvstore}, context=context).result()


def _write_by_tensorstore(array: Array, box: Box, data: NDArray[np.uint8]) -> None:
    _tensorstore(array)[box.slices].write(data).result()


def _read_by_tensorstore(array: Array, cache_bytes: int) -> Callable[[Box], NDArray[np.uint8]]:
    opened = _tensorstore(array, cache_bytes)
    return lambda box: np.asarray(opened[box.slices].read().result())


def _write_by_zarr(array: Array, box: Box, data: NDArray[np.uint8]) -> None:
    array[box.slices] = data


CONTENDERS: dict[str, tuple[Write, Read]] = {
    "segem": (write_block, _read_by_segem),
    "tensorstore": (_write_by_tensorstore, _read_by_tensorstore),
    "zarr-python": (_write_by_zarr, lambda array, _: lambda box: np.asarray(array[box.slices])),
}
"""How each writes a box of whole shards, and how it opens an array to read."""


if __name__ == "__main__":
    main()
