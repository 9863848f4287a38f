"""Sharded zarr arrays, written one whole shard at a time.

A write block is exactly one shard file, so a block is on disk completely or not at all, and two workers never write the
same file. Chunks inside a shard have a CRC-32C, so that a flipped bit raises instead of becoming an intensity.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import DTypeLike, NDArray
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from segem.errors import WorkspaceError
from segem.geometry import ZYX, Box, ceil_div, grid, round_up
from segem.io.chunks import Array as Array
from segem.io.chunks import Layout, encode_shard
from segem.io.shard_files import FolderShards, ShardFiles
from segem.io.shard_store import ShardStore

CHUNK: ZYX = (1, 256, 256)
AXES = ("z", "y", "x")

_SHARD_VOXELS = 4_194_304
_SHARD_EDGE = 2048
_ZSTD_LEVEL = 1
"""Higher levels take longer, and save less than 2 % on probabilities of real sections."""


def shard_shape(shape: ZYX) -> ZYX:
    """Return the write block of a volume: what one shard file holds.

    Parameters
    ----------
    shape : tuple of int
        Extent of the volume along (z, y, x).

    Returns
    -------
    tuple of int
        Whole chunks of `CHUNK`, about four million voxels.

    Examples
    --------
    >>> shard_shape((24, 512, 512)), shard_shape((3, 100, 5000))
    ((8, 512, 512), (3, 256, 2048))
    """
    # A whole section where it fits the edge: every inner border between shards costs a halo. The few sections of a
    # shard bound what a kill can destroy.
    z, y, x = shape
    edge_y, edge_x = (min(_SHARD_EDGE, round_up(n, c)) for n, c in zip((y, x), CHUNK[1:], strict=True))
    return (min(z, max(1, min(8, _SHARD_VOXELS // (edge_y * edge_x)))), edge_y, edge_x)


def create_sharded(group: zarr.Group, name: str, shape: ZYX, dtype: DTypeLike, *, by_bit: bool = False) -> None:
    """Add an array to a group; no voxel is written yet, and all read as 0.

    With `by_bit`, the bits of the voxels are shuffled before compression: masks then take a third of the time and two
    thirds of the space.
    """
    size = np.dtype(dtype).itemsize
    blosc = BloscCodec(typesize=size, cname="zstd", clevel=_ZSTD_LEVEL, shuffle="bitshuffle")
    group.create_array(
        name,
        shape=shape,
        dtype=np.dtype(dtype),
        chunks=CHUNK,
        shards=shard_shape(shape),
        compressors=(blosc if by_bit else ZstdCodec(level=_ZSTD_LEVEL), Crc32cCodec()),
        fill_value=0,
        dimension_names=AXES,
    )


def write_block(array: Array, box: Box, data: NDArray[Any]) -> None:
    """Write whole shards; they are durable when the function returns.

    Parameters
    ----------
    array : Array
        Level of an image or a label.
    box : Box
        Starts on the shard grid of `array`, ends on it or at the edge of the array.
    data : (z, y, x) array
        Of the shape of `box` and the type of `array`.

    Raises
    ------
    WorkspaceError
        When the box would cut a shard (two writers of one shard lose each other's voxels), when the data do not fit, or
        when the disk refuses.
    """
    # zarr would accept any box: part of a shard is read, changed and written back, and a second writer of the same
    # shard then loses its voxels without an error.
    where = path_of(array)
    shards = shard_of(array)
    whole = Box.of_shape(shape_of(array))
    if box.size == 0 or not whole.contains(box) or not _aligned(box, shards, array.shape):
        raise WorkspaceError(
            "unaligned write",
            where=where,
            expected=f"a box on the grid of shards {shards} within {whole}",
            found=box,
            fix="write whole shards",
        )
    if data.shape != box.shape or data.dtype != array.dtype:
        raise WorkspaceError(
            "the data do not match the block",
            where=where,
            expected=f"{box.shape} {array.dtype}",
            found=f"{data.shape} {data.dtype}",
            fix="write an array of the shape and type of the layer",
        )
    layout = Layout.of(array)
    first = _zyx(a // s for a, s in zip(box.start, shards, strict=True))
    files = files_of(array)
    for index, part in grid(box.shape, shards):
        key = shard_key(array, _zyx(a + i for a, i in zip(first, index, strict=True)))
        # Chunks of zeros are written too, unlike zarr's default: a shard of background then has a file, and a missing
        # file always means a lost shard.
        files.write(key, encode_shard(data[part.slices], layout))


def files_of(array: Array) -> ShardFiles:
    """Return where the shard files of an array lie."""
    return array.store.shards if isinstance(array.store, ShardStore) else FolderShards(path_of(array))


def shard_keys(array: Array, box: Box) -> list[str]:
    """Return the keys of the shard files that a box of an array lies in, whether they exist or not."""
    shards = shard_of(array)
    first = (a // s for a, s in zip(box.start, shards, strict=True))
    past = (ceil_div(b, s) for b, s in zip(box.stop, shards, strict=True))
    indices = product(*(range(a, b) for a, b in zip(first, past, strict=True)))
    return [shard_key(array, _zyx(index)) for index in indices]


def shard_files(array: Array, box: Box) -> list[Path]:
    """Return the files that a box of an array on disk lies in, whether they exist or not."""
    return [path_of(array) / key for key in shard_keys(array, box)]


def shard_key(array: Array, index: ZYX) -> str:
    """Return the key of the shard with this index."""
    return array.metadata.encode_chunk_key(index)


def missing_shards(array: Array, box: Box | None = None) -> list[str]:
    """Return the keys of the shard files that do not exist, of a box or of all; their voxels would read as 0.

    Raises
    ------
    StorageError
        When they lie in a storage that cannot be asked.
    """
    return files_of(array).missing(shard_keys(array, box or Box.of_shape(shape_of(array))))


def shard_of(array: Array) -> ZYX:
    """Return the shape of the shards of an array."""
    z, y, x = array.shards or array.chunks
    return (z, y, x)


def shape_of(array: Array) -> ZYX:
    """Return the extent of an array along (z, y, x)."""
    z, y, x = array.shape
    return (z, y, x)


def path_of(array: Array) -> Path:
    """Return the folder of an array in its volume on the local disk, where its shards may or may not be."""
    root = getattr(array.store, "root", None)
    return Path(str(root or array.store)) / array.path


def _aligned(box: Box, shards: ZYX, shape: tuple[int, ...]) -> bool:
    starts = all(a % s == 0 for a, s in zip(box.start, shards, strict=True))
    # The last shard of an axis ends with the array.
    stops = all(b % s == 0 or b == n for b, s, n in zip(box.stop, shards, shape, strict=True))
    return starts and stops


def _zyx(values: Iterable[int]) -> ZYX:
    z, y, x = values
    return (z, y, x)
