"""Objects of a store such as S3: read, written whole, listed and removed, again where the store is busy."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from typing import Any

from segem.config import Url
from segem.errors import StorageError

CONNECT_SECONDS = 20
SILENT_SECONDS = 60
ATTEMPTS = 10
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 10.0
_AT_ONCE = 1000
"""Most objects that S3 removes in one request."""
_BUSY = (408, 429, 500, 502, 503, 504)
# What botocore and aiohttp raise where a connection breaks, by name: neither is needed where there is no storage.
_BROKEN = (
    "ConnectionError",
    "HTTPClientError",
    "ClientConnectionError",
    "ClientPayloadError",
    "IncompleteReadError",
    "ResponseParserError",
)
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "TokenRetrievalError")
_CREDENTIALS = (
    "give credentials in one of the usual places (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws) that may "
    "list, read, write and delete below this URL"
)

Call = Callable[..., Awaitable[Any]]
"""Calls a method of S3 for the bucket: its name, and its arguments by name."""
Work = Callable[[Call], Awaitable[Any]]


class ExistsError(Exception):
    """There is an object of this key, which must be new."""


@dataclass(frozen=True)
class Objects:
    """The objects below a URL of an object store; credentials come from the environment or the files of AWS.

    Parameters
    ----------
    url : Url
        ``s3://bucket/prefix``.

    Notes
    -----
    Whatever is done here raises StorageError where the store refuses, or does not answer for long.
    """

    url: Url

    def within(self, *keys: str) -> Objects:
        """Return the objects below a key."""
        return Objects(Url("/".join((self.url, *keys))))

    def read(self, key: str) -> bytes:
        """Return an object.

        Raises
        ------
        FileNotFoundError
            When there is none.
        """
        return self._read(key, [""])[0][0]

    def read_end(self, key: str, length: int) -> tuple[bytes, int]:
        """Return the last bytes of an object, as many as there are, and how many it has in all; else as `read`."""
        return self._read(key, [f"bytes=-{length}"])[0]

    def read_ranges(self, key: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return parts of an object by start and length, as far as it reaches, asked for at once; else as `read`."""
        parts = [f"bytes={start}-{start + length - 1}" for start, length in ranges]
        return [content for content, _ in self._read(key, parts)]

    def write(self, key: str, content: bytes, *, new: bool = False) -> None:
        """Write an object in one request, so that it is there whole or not at all.

        Raises
        ------
        ExistsError
            When it has to be `new`, and there is one.
        """
        only = {"IfNoneMatch": "*"} if new else {}
        self._do(key, [_method("put_object", Key=self._key(key), Body=content, **only)])

    def missing(self, keys: Sequence[str]) -> list[str]:
        """Return those keys for which there is no object, each asked for."""

        async def is_there(key: str, call: Call) -> bool:
            try:
                await call("head_object", Key=self._key(key))
            except FileNotFoundError:
                return False
            return True

        there = self._do("", [partial(is_there, key) for key in keys])
        return [key for key, found in zip(keys, there, strict=True) if not found]

    def list_keys(self) -> Iterator[str]:
        """Yield the keys of all objects, in order."""
        return (one["Key"][len(self._key("")) :] for page in self._pages() for one in page.get("Contents", ()))

    def list_folders(self) -> Iterator[str]:
        """Yield what the keys of several objects begin with, up to the first slash, in order."""
        pages = self._pages(Delimiter="/")
        return (one["Prefix"][len(self._key("")) : -1] for page in pages for one in page.get("CommonPrefixes", ()))

    def remove(self, keys: Iterable[str]) -> None:
        """Remove objects; those that are not there are left out."""
        left = iter(keys)
        while some := [{"Key": self._key(key)} for key in islice(left, _AT_ONCE)]:
            asked = {"Objects": some, "Quiet": True}
            (answer,) = self._do("", [_method("delete_objects", Delete=asked)])
            for kept in answer.get("Errors", ()):
                where = self.within(kept["Key"][len(self._key("")) :]).url
                raise StorageError(
                    "an object cannot be removed from the storage", where=where, found=kept["Code"], fix=_CREDENTIALS
                )

    def _read(self, key: str, parts: Sequence[str]) -> list[tuple[bytes, int]]:
        """Return parts of an object, each with the size of the whole."""

        async def read_one(part: str, call: Call) -> tuple[bytes, int]:
            try:
                answer = await call("get_object", Key=self._key(key), **({"Range": part} if part else {}))
            except OSError as error:
                if _describe(error)[1] == "InvalidRange":
                    return b"", 0
                raise
            # A connection may break while the content comes, so reading it is part of what is tried again.
            async with answer["Body"] as body:
                content = bytes(await body.read())
            return content, int(answer.get("ContentRange", f"/{len(content)}").rpartition("/")[2])

        return self._do(key, [partial(read_one, part) for part in parts])

    def _pages(self, **how: str) -> Iterator[dict[str, Any]]:
        more: dict[str, str] = {}
        while True:
            asked = {"Prefix": self._key(""), **how, **more}
            (page,) = self._do("", [_method("list_objects_v2", **asked)])
            yield page
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def _key(self, key: str) -> str:
        prefix = self.url.split("/", 3)[3:]
        return "/".join([*prefix, key])

    def _do(self, key: str, works: Sequence[Work]) -> list[Any]:
        """Carry out work side by side in the loop of fsspec, each again where what stands in its way may pass."""
        where = f"{self.url}/{key}".rstrip("/")
        bucket = self.url.split("/")[2]
        try:
            from fsspec.asyn import sync

            files = _connect()

            async def call(method: str, **asked: Any) -> Any:
                return await files._call_s3(method, Bucket=bucket, **asked)

            async def do_all() -> list[Any]:
                return await asyncio.gather(*(_try_again(work, call) for work in works))

            return list(sync(files.loop, do_all))
        except Exception as error:
            raise _explain(where, error) from error


def _method(name: str, **asked: Any) -> Work:
    def work(call: Call) -> Awaitable[Any]:
        return call(name, **asked)

    return work


@cache
def _connect() -> Any:
    """Return the file system of s3fs, shared by the threads of this process; its own retries are turned off."""
    import s3fs

    settings = {
        "retries": {"total_max_attempts": 1},
        "connect_timeout": CONNECT_SECONDS,
        "read_timeout": SILENT_SECONDS,
        "max_pool_connections": 32,
    }
    files = s3fs.S3FileSystem(anon=False, skip_instance_cache=True, use_listings_cache=False, config_kwargs=settings)
    files.retries = 1
    return files


# A forked process has no thread that runs the loop of its parent.
os.register_at_fork(after_in_child=_connect.cache_clear)


async def _try_again(work: Work, call: Call) -> Any:
    for attempt in range(ATTEMPTS - 1):
        try:
            return await work(call)
        except Exception as error:
            if not _may_pass(error):
                raise
        # Of different length for each, or all that were refused together would come again together.
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**attempt)
        await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - no secret
    return await work(call)


def _may_pass(error: BaseException) -> bool:
    status, _ = _describe(error)
    if status:
        return status in _BUSY
    kinds = {kind.__name__ for kind in type(error).__mro__}
    return isinstance(error, (ConnectionError, TimeoutError)) or not kinds.isdisjoint(_BROKEN)


def _describe(error: BaseException) -> tuple[int, str]:
    """Return the status and the code that a store answered with; 0 and nothing where it did not answer."""
    said = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
    if not isinstance(said, dict):
        return 0, ""
    return int(said.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)), str(said.get("Error", {}).get("Code", ""))


def _explain(where: str, error: Exception) -> Exception:
    """Return what is raised for an error on the way to an object; it names nothing secret."""
    status, code = _describe(error)
    kind = type(error).__name__
    if code == "NoSuchBucket":
        return StorageError("there is no such bucket", where=where, fix="make the bucket, or check the URL")
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(where)
    if code in ("PreconditionFailed", "ConditionalRequestConflict"):
        return ExistsError(where)
    if kind in _NO_CREDENTIALS:
        return StorageError("there are no credentials for the storage", where=where, found=kind, fix=_CREDENTIALS)
    if isinstance(error, PermissionError) or status in (401, 403):
        return StorageError("the storage denies access", where=where, found=code or status or kind, fix=_CREDENTIALS)
    if isinstance(error, ImportError):
        return StorageError("what speaks to the storage is not installed", where=where, fix="pip install segem[s3]")
    if _may_pass(error):
        return StorageError(
            "the storage does not answer",
            where=where,
            found=f"{code or status or kind}, {ATTEMPTS} times",
            fix="run the same command again later, or check the network and AWS_ENDPOINT_URL; finished blocks are kept",
        )
    return StorageError(
        "the storage refuses", where=where, found=code or f"{kind}: {error}"[:200], fix="check the URL and the bucket"
    )
