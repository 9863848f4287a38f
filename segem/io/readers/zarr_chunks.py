"""Which chunks of a zarr array are stored, shards looked into: zarr itself reads an absent one as the fill value."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from zarr.abc.store import RangeByteRequest, SuffixByteRequest
from zarr.codecs import BytesCodec, Crc32cCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from segem.geometry import ceil_div
from segem.io.readers.chunked import count_chunks
from segem.io.readers.remote_store import RemoteStore
from segem.io.readers.stack import chunk_indices

Index = tuple[int, ...]
_ABSENT = np.uint64(2**64 - 1)
_ENTRY_BYTES = 16
_CRC_BYTES = 4


class StoredChunks:
    """The chunks of an array, and how many of them were seen to be stored.

    Parameters
    ----------
    array : zarr array
        Of format 2 or 3, sharded or not.
    """

    def __init__(self, array: Any) -> None:
        self._array = array
        self._object_shape = array.shards or array.chunks
        self._per_object = count_chunks(self._object_shape, array.chunks)
        self._counts = count_chunks(array.shape, self._object_shape)
        self._codec: Any = array.metadata.codecs[0] if array.shards else None
        self._seen: dict[Index, tuple[int, int]] = {}
        self.total = 0
        self.missing = 0
        self.first: str | None = None

    def look_on_disk(self, folder: Path) -> None:
        """Count every chunk of the array in its folder."""
        files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        present = {at: key for key in sorted(files) if (at := self._index_of(key)) is not None}
        for at, key in present.items():
            self._note(at, key, partial(_read_part, folder / key))
        # Damaged metadata can declare any number of chunks, so those missing are counted without walking them.
        self.total = math.prod(count_chunks(self._array.shape, self._array.chunks))
        self.missing = self.total - sum(written for written, _ in self._seen.values())
        if self.first is None and len(present) < math.prod(self._counts):
            self.first = self._key(next(at for at in chunk_indices(self._counts) if at not in present))

    def look_elsewhere(self, store: RemoteStore, indices: Any) -> None:
        """Count chunks that were just asked of a store."""
        for at in indices:
            if at in self._seen:
                continue
            key = self._key(at)
            path = f"{self._array.path}/{key}".lstrip("/")
            if path in store.absent:
                self._seen[at] = 0, self._count_needed(at)
                self.first = self.first or key
            else:
                self._note(at, key, partial(_get_part, store, path))
        self.total = sum(needed for _, needed in self._seen.values())
        self.missing = self.total - sum(written for written, _ in self._seen.values())

    @property
    def object_shape(self) -> Index:
        """What one file holds: a shard, or a chunk where there are none."""
        return tuple(self._object_shape)

    def _note(self, at: Index, key: str, read: Callable[[int, int], bytes]) -> None:
        """Note how many chunks a stored file holds, of those it should."""
        needed = self._count_needed(at)
        written = needed if self._codec is None else self._count_written(at, read)
        self._seen[at] = written, needed
        if written < needed and self.first is None:
            self.first = f"in the shard {key}"

    def _count_needed(self, at: Index) -> int:
        return math.prod(self._needed(at))

    def _needed(self, at: Index) -> Index:
        """Return how many chunks of a shard lie within the array, along each axis."""
        rest = (n - i * edge for n, i, edge in zip(self._array.shape, at, self._object_shape, strict=True))
        return tuple(
            min(ceil_div(left, edge), most)
            for left, edge, most in zip(rest, self._array.chunks, self._per_object, strict=True)
        )

    def _count_written(self, at: Index, read: Callable[[int, int], bytes]) -> int:
        kinds = [type(codec) for codec in self._codec.index_codecs]
        if kinds[:1] != [BytesCodec] or kinds[1:] not in ([], [Crc32cCodec]):
            return self._count_needed(at)  # an index that only zarr itself can read: zarr raises where it is damaged
        size = math.prod(self._per_object) * _ENTRY_BYTES
        if self._codec.index_location.value == "start":
            index = read(0, size)
        else:
            index = read(-size - _CRC_BYTES * (len(kinds) - 1), size)
        if len(index) != size:
            return self._count_needed(at)  # as above
        order = "<" if self._codec.index_codecs[0].endian.value == "little" else ">"
        offsets = np.frombuffer(index, f"{order}u8").reshape(*self._per_object, 2)[..., 0]
        return int(np.count_nonzero(offsets[tuple(slice(n) for n in self._needed(at))] != _ABSENT))

    def _key(self, at: Index) -> str:
        return str(self._array.metadata.encode_chunk_key(at))

    def _index_of(self, key: str) -> Index | None:
        """Return which chunk or shard a file holds; None where it is something else."""
        parts = re.split(r"[./]", key.removeprefix("c").lstrip("./"))
        if len(parts) != len(self._counts) or not all(part.isascii() and part.isdigit() for part in parts):
            return None
        at = tuple(map(int, parts))
        inside = all(i < count for i, count in zip(at, self._counts, strict=True))
        return at if inside and self._key(at) == key else None


def _read_part(path: Path, start: int, count: int) -> bytes:
    """Return bytes of a file, from its end where the start is negative; fewer where it is shorter."""
    size = path.stat().st_size
    if -start > size:
        return b""
    with path.open("rb") as file:
        file.seek(start, 2 if start < 0 else 0)
        return file.read(min(count, size))


def _get_part(store: RemoteStore, key: str, start: int, count: int) -> bytes:
    part = SuffixByteRequest(-start) if start < 0 else RangeByteRequest(0, count)
    found = sync(store.get(key, default_buffer_prototype(), part))
    return b"" if found is None else found.to_bytes()[:count]
