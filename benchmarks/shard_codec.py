"""Compares segem's own shard codec with TensorStore's and zarr-python's, at equal safety, on grainy sections.

    .venv/bin/python benchmarks/shard_codec.py [--sections 16] [--edge 2048] [--rounds 9] [--workspace DIR]

Each contender writes the same shards of the same array and reads them back in blocks with a halo, in turn, round by
round. All write a file under another name, sync it and rename it (zarr-python does not sync, so it is favoured). The
ratios are those of rounds, median and smallest to largest.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore
import zarr
from free_net import pattern
from machine import provenance
from numpy.typing import NDArray

from segem.geometry import ZYX, Box, Halo, grid
from segem.io.blocks import read_block
from segem.io.shards import Array, create_sharded, path_of, shard_of, write_block

HALO = Halo(0, 64, 64)


def main() -> None:
    """Measure and print megapixels a second, and the ratios to segem's own codec."""
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
    rates: dict[str, dict[str, list[float]]] = {"write": {}, "read": {}}
    for number in range(arguments.rounds + 1):
        for name, (write, read) in CONTENDERS.items():
            with tempfile.TemporaryDirectory(dir=arguments.workspace) as folder:
                wrote, took = _measure(Path(folder), voxels, write, read)
            if number:  # the first round warms up
                rates["write"].setdefault(name, []).append(wrote)
                rates["read"].setdefault(name, []).append(took)
    for what, by_name in rates.items():
        own = by_name["segem"]
        for name, each in by_name.items():
            ratios = [a / b for a, b in zip(own, each, strict=True)]
            print(
                f"{what:<6}{name:<14}{statistics.median(each):7.1f} Mpx/s   segem is {statistics.median(ratios):.2f} "
                f"times as fast ({min(ratios):.2f} to {max(ratios):.2f})"
            )


Write = Callable[[Array, Box, NDArray[np.uint8]], None]
Read = Callable[[Array], Callable[[Box], NDArray[np.uint8]]]


def _measure(folder: Path, voxels: NDArray[np.uint8], write: Write, read: Read) -> tuple[float, float]:
    group = zarr.create_group(str(folder / "a.zarr"), zarr_format=3)
    create_sharded(group, "0", voxels.shape, np.uint8)
    array: Any = zarr.open_array(str(folder / "a.zarr" / "0"), mode="r+", zarr_format=3)
    shape: ZYX = (voxels.shape[0], voxels.shape[1], voxels.shape[2])
    started = time.perf_counter()
    for _, box in grid(shape, shard_of(array)):
        write(array, box, voxels[box.slices])
    wrote = time.perf_counter() - started
    started, get = time.perf_counter(), read(array)
    for _, box in grid(shape, (1, 1024, 1024)):
        grown = box.grow(HALO, Box.of_shape(shape))
        if not np.array_equal(get(grown), voxels[grown.slices]):
            raise SystemExit("what was read is not what was written")
    took = time.perf_counter() - started
    shutil.rmtree(folder / "a.zarr")
    return voxels.size / 1e6 / wrote, voxels.size / 1e6 / took


def _tensorstore(array: Array) -> Any:
    # With file_io_sync, its default, a file is synced before it is renamed.
    kvstore = {"driver": "file", "path": str(path_of(array))}
    return tensorstore.open({"driver": "zarr3", "kvstore": kvstore}).result()


def _write_by_tensorstore(array: Array, box: Box, data: NDArray[np.uint8]) -> None:
    _tensorstore(array)[box.slices].write(data).result()


def _read_by_tensorstore(array: Array) -> Callable[[Box], NDArray[np.uint8]]:
    opened = _tensorstore(array)
    return lambda box: np.asarray(opened[box.slices].read().result())


def _write_by_zarr(array: Array, box: Box, data: NDArray[np.uint8]) -> None:
    array[box.slices] = data


CONTENDERS: dict[str, tuple[Write, Read]] = {
    "segem": (write_block, lambda array: lambda box: read_block(array, box, "")),
    "tensorstore": (_write_by_tensorstore, _read_by_tensorstore),
    "zarr-python": (_write_by_zarr, lambda array: lambda box: np.asarray(array[box.slices])),
}
"""How each writes a box of whole shards, and how it reads a box after it has opened the array."""


if __name__ == "__main__":
    main()
