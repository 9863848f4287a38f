"""Zarr hierarchies elsewhere, read chunk by chunk."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Coroutine, Iterable
from typing import Any

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype

from segem.config import Url
from segem.io.readers.remote import connect, explain, is_absent, read_again

_LISTED = ("s3", "gs")


class RemoteStore(Store):
    """A store of zarr that reads what lies below a URL, and remembers what it was asked for in vain.

    Parameters
    ----------
    url : Url
        The top of the hierarchy.
    """

    supports_writes = False
    supports_deletes = False

    def __init__(self, url: Url) -> None:
        super().__init__(read_only=True)
        self.url = url
        self.present: set[str] = set()
        self.absent: set[str] = set()
        self._base, self._mark, self._query = url.partition("?")
        self._files = connect(url)

    @property
    def supports_listing(self) -> bool:
        """Whether it can be asked what there is."""
        return self.url.startswith(tuple(f"{scheme}://" for scheme in _LISTED))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemoteStore) and self.url == other.url

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Return the bytes of a key, or a part of them; None where there is no such key."""
        start, end = _limits(byte_range)
        address = self._address(key)
        try:
            content = await self._on_its_loop(read_again(self._files, address, start, end))
        except Exception as error:
            if not is_absent(error):
                raise explain(Url(address), error) from error
            self.absent.add(key)
            return None
        self.present.add(key)
        if len(content) > _length(start, end):
            # A server that knows no ranges sends the whole.
            content = content[start:end]
        return prototype.buffer.from_bytes(content)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Return parts of the bytes of several keys."""
        return list(await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges)))

    async def exists(self, key: str) -> bool:
        """Return whether there is such a key."""
        try:
            await self._on_its_loop(self._files._info(self._address(key)))
        except Exception as error:
            if not is_absent(error):
                raise explain(Url(self._address(key)), error) from error
            return False
        return True

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names directly below a prefix; none where the server cannot list."""
        if self.supports_listing:
            for found in await self._on_its_loop(self._files._ls(self._address(prefix), detail=False)):
                yield str(found).rstrip("/").rpartition("/")[2]

    async def list(self) -> AsyncIterator[str]:
        """Yield nothing: what a whole hierarchy holds is never asked."""
        nothing: tuple[str, ...] = ()
        for name in nothing:
            yield name

    def list_prefix(self, prefix: str) -> AsyncIterator[str]:  # noqa: ARG002 - as `list`
        """Yield nothing."""
        return self.list()

    async def set(self, key: str, value: Buffer) -> None:
        """Refuse: it is only read."""
        raise NotImplementedError

    async def delete(self, key: str) -> None:
        """Refuse: it is only read."""
        raise NotImplementedError

    def _address(self, key: str) -> str:
        return f"{self._base}/{key}".rstrip("/") + self._mark + self._query

    async def _on_its_loop(self, work: Coroutine[Any, Any, Any]) -> Any:
        # fsspec and zarr each have a loop of their own in a thread of their own.
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._files.loop))


def _limits(byte_range: ByteRequest | None) -> tuple[int | None, int | None]:
    match byte_range:
        case RangeByteRequest(start, end):
            return start, end
        case OffsetByteRequest(offset):
            return offset, None
        case SuffixByteRequest(suffix):
            return -suffix, None
        case _:
            return None, None


def _length(start: int | None, end: int | None) -> float:
    """Return how many bytes were asked for; endless where that depends on how many there are."""
    if start is None or (start >= 0 and end is None):
        return math.inf
    return -start if end is None else end - start
