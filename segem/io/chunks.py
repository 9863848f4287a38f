"""Chunks of a shard file, encoded and decoded without zarr-python, which takes more than twice as long.

The bytes are those of the Zarr v3 sharding codec with the codecs that `segem.io.shards.create_sharded` writes into the
metadata of an array::

    ┌────────────────┬────────────────┬╌╌╌┬──────────────────────────────────────┬────────┐
    │ zstd │ crc32c  │ zstd │ crc32c  │   │ start and length of each, 2 × uint64 │ crc32c │
    └────────────────┴────────────────┴╌╌╌┴──────────────────────────────────────┴────────┘
      chunk            chunk                index

zarr-python can read these files, and this module can read those of zarr-python.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import chain, product
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, TypeVar

import google_crc32c
import imagecodecs
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.metadata import ArrayV3Metadata

from segem.errors import WorkspaceError
from segem.geometry import ZYX, Box, ceil_div, grid
from segem.io.shard_files import ShardBytes

Array: TypeAlias = zarr.Array[ArrayV3Metadata]

_CRC_BYTES = 4
_ABSENT = 2**64 - 1
"""Start and length of a chunk that was never written."""
_LONGEST = 2**42
"""More bytes than any shard file has."""
# Chunks that a thread takes at once, so that handing over costs little beside the work.
_CHUNKS_A_TASK = 8

A = TypeVar("A")
B = TypeVar("B")


class Piece(NamedTuple):
    """What a box and a chunk have in common.

    Parameters
    ----------
    chunk : tuple of int
        Index of the chunk in the array.
    in_box, in_chunk : tuple of slice
        Where it lies, counted from the start of the box and from that of the chunk.
    """

    chunk: ZYX
    in_box: tuple[slice, slice, slice]
    in_chunk: tuple[slice, slice, slice]


@dataclass(frozen=True)
class Layout:
    """How the voxels of an array are arranged in its files.

    Parameters
    ----------
    shard, chunk : tuple of int
        Shape of the part that one file holds, and of the part that is compressed at a time.
    dtype : dtype
        Type of a voxel, little endian as on disk.
    zstd_level : int
        Compression level.
    by_bit : bool
        Whether the first bits of all voxels come first, then the second bits, and so on (blosc's bit shuffle).
    """

    shard: ZYX
    chunk: ZYX
    dtype: np.dtype[Any]
    zstd_level: int
    by_bit: bool = False

    @classmethod
    def of(cls, array: Array) -> Layout:
        """Return the layout of an array.

        Raises
        ------
        WorkspaceError
            When its metadata describe something that segem never writes.
        """
        metadata = array.metadata
        # Only this layout is decoded here; any other falls through to the error below.
        codecs: list[Any] = [] if metadata.zarr_format == 2 else [codec.to_dict() for codec in metadata.codecs]
        match codecs:
            case [
                {
                    "name": "sharding_indexed",
                    "configuration": {
                        "codecs": [
                            {"name": "bytes"} as order,
                            compressor,
                            {"name": "crc32c"},
                        ],
                        "index_codecs": [{"name": "bytes"} as index_order, {"name": "crc32c"}],
                        "index_location": "end",
                    },
                }
            ] if _little(order) and _little(index_order) and metadata.fill_value == 0 and array.ndim == 3:
                shard, chunk = _zyx(array.shards or array.chunks), _zyx(array.chunks)
                dtype = array.dtype.newbyteorder("<")
                match compressor:
                    case {"name": "zstd", "configuration": {"level": int(level)}}:
                        return cls(shard, chunk, dtype, level)
                    case {
                        "name": "blosc",
                        "configuration": {"cname": "zstd", "clevel": int(level), "shuffle": "bitshuffle"},
                    }:
                        return cls(shard, chunk, dtype, level, by_bit=True)
        raise WorkspaceError(
            "an array that segem did not make",
            where=Path(str(getattr(array.store, "root", array.store))) / array.path,
            expected="three axes, sharded, chunks of zstd (or blosc with its bit shuffle) with crc32c, 0 where nothing "
            "was written",
            found=codecs,
            fix="ingest it as a source",
        )

    @property
    def chunks_a_shard(self) -> ZYX:
        """Chunks of a shard along (z, y, x)."""
        return _zyx(s // c for s, c in zip(self.shard, self.chunk, strict=True))

    def pieces_of(self, box: Box) -> Iterator[Piece]:
        """Yield what each chunk that a box touches has of it.

        Examples
        --------
        >>> layout = Layout((1, 8, 8), (1, 4, 4), np.dtype(np.uint8), 3)
        >>> [piece.chunk for piece in layout.pieces_of(Box((2, 3, 4), (3, 5, 8)))]
        [(2, 0, 1), (2, 1, 1)]
        """
        # Cut once an axis, in plain numbers: boxes of every chunk took a fifth as long as decoding it.
        axes = (_cut(a, b, edge) for a, b, edge in zip(box.start, box.stop, self.chunk, strict=True))
        for (z, *at_z), (y, *at_y), (x, *at_x) in product(*axes):
            yield Piece((z, y, x), (at_z[0], at_y[0], at_x[0]), (at_z[1], at_y[1], at_x[1]))


def encode_shard(voxels: NDArray[Any], layout: Layout) -> list[bytes]:
    """Return the content of a shard file, in parts.

    Parameters
    ----------
    voxels : (z, y, x) array
        Of the shape of a shard, or less at the end of the array: chunks that lie entirely outside are left out.
    layout : Layout
        Of the array.

    Returns
    -------
    list of bytes
        The same for the same voxels, however many threads encode them; in parts, to save a copy.

    Examples
    --------
    >>> layout = Layout((1, 4, 8), (1, 4, 4), np.dtype(np.uint8), 3)
    >>> content = b"".join(encode_shard(np.arange(5, dtype=np.uint8).reshape(1, 1, 5), layout))
    >>> int.from_bytes(content[-36:-28], "little")
    0
    """
    # The index comes last, so all chunks can be encoded before any position is known.
    cells = list(grid(_zyx(voxels.shape), layout.chunk))
    payloads = _spread(lambda cell: _encode(voxels[cell[1].slices], layout), cells)
    index = np.full((*layout.chunks_a_shard, 2), _ABSENT, "<u8")
    start = 0
    for (cell, _), payload in zip(cells, payloads, strict=True):
        index[cell] = start, len(payload)
        start += len(payload)
    return [*payloads, _checksummed(index.tobytes())]


def decode_chunks(content: ShardBytes, cells: Sequence[ZYX], layout: Layout) -> list[NDArray[Any]]:
    """Return chunks of a shard file.

    Parameters
    ----------
    content : ShardBytes
        The file.
    cells : sequence of (z, y, x)
        Which chunks, counted within the shard.
    layout : Layout
        Of the array.

    Returns
    -------
    list of (z, y, x) arrays
        Each of the shape of a chunk, read-only, 0 where it was never written.

    Raises
    ------
    ValueError
        When the file is too short, or a checksum does not match.
    OSError
        When the disk refuses.
    """
    index = _read_index(content, layout)
    places = [(int(start), int(length)) for start, length in (index[cell] for cell in cells)]
    # A store cannot be asked for what no object can hold.
    if any(start + length > _LONGEST for start, length in places if length != _ABSENT):
        raise ValueError("the file is too short")
    content.expect([place for place in places if place[1] != _ABSENT])
    # Read by the thread that decodes, so that the bytes are still in its cache. After an error, others may still read
    # from what is closed; what they get is dropped.
    return _spread(lambda place: _decode(content, place, layout), places)


def _read_index(content: ShardBytes, layout: Layout) -> NDArray[np.uint64]:
    length = 16 * prod(layout.chunks_a_shard) + _CRC_BYTES
    # Read first and checked first: without its checksum, a flipped bit would send reads to another chunk.
    entries = _checked(content.read_end(length), length, "the index")
    return np.frombuffer(entries, "<u8").reshape(*layout.chunks_a_shard, 2)


def _encode(voxels: NDArray[Any], layout: Layout) -> bytes:
    if voxels.shape != layout.chunk:
        # Chunks at the end of an axis are stored whole, as the Zarr format demands; nothing reads the padding.
        whole = np.zeros(layout.chunk, layout.dtype)
        whole[tuple(slice(n) for n in voxels.shape)] = voxels
        voxels = whole
    data = voxels.astype(layout.dtype, copy=False).tobytes()
    if not layout.by_bit:
        return _checksummed(imagecodecs.zstd_encode(data, level=layout.zstd_level))
    size, level = layout.dtype.itemsize, layout.zstd_level
    # One thread, since the chunks themselves are spread over threads.
    return _checksummed(
        imagecodecs.blosc_encode(data, level, compressor="zstd", typesize=size, shuffle="bitshuffle", numthreads=1)
    )


def _decode(content: ShardBytes, place: tuple[int, int], layout: Layout) -> NDArray[Any]:
    start, length = place
    if length == _ABSENT:
        return np.zeros(layout.chunk, layout.dtype)
    size = prod(layout.chunk) * layout.dtype.itemsize
    body = _checked(content.read(start, length), length, "a chunk")
    try:
        data = imagecodecs.blosc_decode(body, out=size) if layout.by_bit else imagecodecs.zstd_decode(body, out=size)
    except (imagecodecs.ZstdError, imagecodecs.BloscError, ValueError) as error:
        raise ValueError(f"a chunk does not decode: {error}") from error
    if len(data) != size:
        raise ValueError(f"a chunk of {len(data)} instead of {size} bytes")
    return np.frombuffer(data, layout.dtype).reshape(layout.chunk)


def _checksummed(data: bytes | bytearray) -> bytes:
    return bytes(data) + _crc32c(data)


def _checked(data: bytes, length: int, what: str) -> bytes:
    if len(data) < length or length < _CRC_BYTES:
        raise ValueError("the file is too short")
    body = data[:-_CRC_BYTES]
    if _crc32c(body) != data[-_CRC_BYTES:]:
        raise ValueError(f"the checksum of {what} does not match")
    return body


def _crc32c(data: bytes | bytearray) -> bytes:
    return int(google_crc32c.value(data)).to_bytes(_CRC_BYTES, "little")


def _spread(function: Callable[[A], B], items: Sequence[A]) -> list[B]:
    """Apply a function to every item, in several threads where there are several cores."""
    pool = _pool()
    if pool is None or len(items) <= _CHUNKS_A_TASK:
        return [function(item) for item in items]
    # `map` keeps the order of the items, so the bytes do not depend on the number of threads.
    runs = (items[i : i + _CHUNKS_A_TASK] for i in range(0, len(items), _CHUNKS_A_TASK))
    return list(chain.from_iterable(pool.map(lambda run: [function(item) for item in run], runs)))


@cache
def _pool() -> ThreadPoolExecutor | None:
    cores = len(os.sched_getaffinity(0))
    return None if cores == 1 else ThreadPoolExecutor(min(cores, 8), "chunks")


# A forked process inherits the pool but none of its threads, so its tasks would never run.
os.register_at_fork(after_in_child=_pool.cache_clear)


def _cut(start: int, stop: int, edge: int) -> list[tuple[int, slice, slice]]:
    """Return which chunks a range touches along an axis, and where in the range and in the chunk what they share is."""
    cuts = []
    for index in range(start // edge, ceil_div(stop, edge)):
        first, past = max(start, index * edge), min(stop, (index + 1) * edge)
        cuts.append((index, slice(first - start, past - start), slice(first - index * edge, past - index * edge)))
    return cuts


def _little(codec: dict[str, Any]) -> bool:
    return bool(codec.get("configuration", {}).get("endian", "little") == "little")


def _zyx(values: Any) -> ZYX:
    z, y, x = values
    return (z, y, x)
