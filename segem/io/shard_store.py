"""Arrays whose shards lie in an object store, while their metadata lie in the workspace.

In the workspace, the folder of such an array holds `ELSEWHERE` in place of ``zarr.json``: where its shards are, and the
metadata. A program that knows nothing of it finds no array there, and so cannot take what lies elsewhere for zeros.
"""

from __future__ import annotations

import asyncio
import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.storage import MemoryStore

from segem.config import Url
from segem.errors import WorkspaceError
from segem.io.files import write_text
from segem.io.objects import Objects

ELSEWHERE = "elsewhere.json"
METADATA = "zarr.json"

_ASKED_MOST = 16
"""So many files are asked for one by one; of more, all there are is listed, a thousand in one request."""
_END_BYTES = 2**19
"""So much of the end of a shard is read with its index: of a mask, most often all there is."""
_GAP_BYTES = 2**19
"""Parts of a shard are read in one request where no more than this lies between them: it comes in the time of one."""


@dataclass(frozen=True)
class ObjectShards:
    """Shard files that are objects below a URL.

    Parameters
    ----------
    objects : Objects
        Those below the URL of the array.
    """

    objects: Objects

    def name(self, key: str) -> Url:
        """Return the URL of a file."""
        return self.objects.within(key).url

    @contextmanager
    def opened(self, key: str) -> Iterator[ObjectBytes]:
        """Read what is needed of a file."""
        yield ObjectBytes(self.objects, key)

    def write(self, key: str, parts: Sequence[bytes]) -> None:
        """Write a file in one request; a store says that it has it when it is durable."""
        self.objects.write(key, b"".join(parts))

    def settle(self, key: str) -> None:
        """Do nothing: what can be read is durable."""

    def missing(self, keys: Sequence[str]) -> list[str]:
        """Return those keys for which there is no file."""
        if len(keys) <= _ASKED_MOST:
            return self.objects.missing(keys)
        there = set(self.objects.list_keys())
        return [key for key in keys if key not in there]


class ObjectBytes:
    """An object that is read in as few requests as its parts allow.

    Parameters
    ----------
    objects : Objects
        Where it is.
    key : str
        Its key.
    """

    def __init__(self, objects: Objects, key: str) -> None:
        self._objects, self._key = objects, key
        self._starts: list[int] = []
        self._parts: list[bytes] = []
        """What was fetched, by where it starts; the end of the object comes last."""

    def read_end(self, length: int) -> bytes:
        """Return the last bytes, and keep what came with them."""
        end, size = self._objects.read_end(self._key, max(length, _END_BYTES))
        self._starts, self._parts = [size - len(end)], [end]
        return end[-length:]

    def expect(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Fetch all that will be read and did not come with the end."""
        joined = join_ranges([(start, length) for start, length in ranges if start < self._starts[-1]], _GAP_BYTES)
        if joined:
            self._starts[:0] = [start for start, _ in joined]
            self._parts[:0] = self._objects.read_ranges(self._key, joined)

    def read(self, start: int, length: int) -> bytes:
        """Return bytes of what was fetched."""
        part = bisect_right(self._starts, start) - 1
        first = start - self._starts[part]
        return self._parts[part][first : first + length] if part >= 0 else b""


def join_ranges(ranges: Sequence[tuple[int, int]], gap: int) -> list[tuple[int, int]]:
    """Return ranges that hold all of some ranges, sorted, with more than a gap between them.

    Examples
    --------
    >>> join_ranges([(40, 10), (0, 10), (12, 8)], 5)
    [(0, 20), (40, 10)]
    """
    joined: list[tuple[int, int]] = []
    for start, length in sorted(ranges):
        if joined and start - sum(joined[-1]) <= gap:
            first, so_far = joined.pop()
            joined.append((first, max(so_far, start + length - first)))
        else:
            joined.append((start, length))
    return joined


class ShardStore(MemoryStore):
    """What zarr reads such an array from: its metadata from memory, its shards from the object store.

    Parameters
    ----------
    root : Path
        Folder of the array in the workspace.
    """

    def __init__(self, root: Path) -> None:
        noted = json.loads((root / ELSEWHERE).read_text(encoding="utf-8"))
        self.root = root
        self.shards = ObjectShards(Objects(Url(noted["url"])))
        content = default_buffer_prototype().buffer.from_bytes(json.dumps(noted["metadata"]).encode())
        super().__init__({METADATA: content}, read_only=True)

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return the bytes of a key, or a part of them; None where there is no such key."""
        if key == METADATA:
            return await super().get(key, prototype, byte_range)
        if not key.startswith("c/"):
            return None
        try:
            content = await asyncio.to_thread(self._read, key, byte_range)
        except FileNotFoundError:
            return None
        return (prototype or default_buffer_prototype()).buffer.from_bytes(content)

    def _read(self, key: str, part: ByteRequest | None) -> bytes:
        objects = self.shards.objects
        match part:
            case RangeByteRequest(start, end):
                return objects.read_ranges(key, [(start, end - start)])[0]
            case SuffixByteRequest(suffix):
                return objects.read_end(key, suffix)[0]
            case OffsetByteRequest(offset):
                return objects.read(key)[offset:]
        return objects.read(key)


def open_elsewhere(folder: Path) -> ShardStore | None:
    """Return the store of an array whose shards lie elsewhere; None where they lie in its folder.

    Raises
    ------
    OSError, ValueError, KeyError, TypeError
        When what is noted of it cannot be read.
    """
    return ShardStore(folder) if (folder / ELSEWHERE).is_file() else None


def send_elsewhere(folder: Path, url: Url) -> None:
    """Make the shards of all new arrays below a folder lie below a URL; none may be written yet.

    Raises
    ------
    StorageError
        When the store refuses.
    WorkspaceError
        When the disk refuses.
    """
    # What is made again under its old name, as a label may be, must find nothing of the one before.
    below = Objects(url)
    below.remove(below.list_keys())
    for path in sorted(folder.rglob(METADATA)):
        text = path.read_text(encoding="utf-8")
        metadata: dict[str, Any] = json.loads(text)
        if metadata["node_type"] == "array":
            place = below.within(path.parent.relative_to(folder).as_posix())
            place.write(METADATA, text.encode())
            write_text(path.with_name(ELSEWHERE), json.dumps({"url": place.url, "metadata": metadata}, indent=1))
            path.unlink()


def find_elsewhere(folder: Path) -> Iterator[Url]:
    """Yield the URLs of all arrays below a folder whose shards lie elsewhere.

    Raises
    ------
    WorkspaceError
        When what is noted of one cannot be read.
    """
    for path in sorted(folder.rglob(ELSEWHERE)):
        try:
            yield Url(json.loads(path.read_text(encoding="utf-8"))["url"])
        except (ValueError, KeyError, TypeError) as error:
            raise WorkspaceError(
                "where the shards of an array lie cannot be read",
                where=path,
                found=type(error).__name__,
                fix="take up the copy in the storage in a new folder: segem storage take-up URL --workspace FOLDER",
            ) from error
