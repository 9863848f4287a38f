"""Sources elsewhere: what a URL leads to is looked at, downloaded or read in place, without credentials."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

from numpy.typing import NDArray

from segem.config import Url
from segem.errors import InputError
from segem.io.readers.reader import Reader

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 20
SILENT_SECONDS = 60
PAUSE_SECONDS = 1.0
_ATTEMPTS = 3
_BROKEN = ("ServerDisconnectedError", "ClientPayloadError")
_BUSY = (429, 503)
_GONE = (404, 410)
_PUBLIC: dict[str, dict[str, Any]] = {"s3": {"anon": True}, "gs": {"token": "anon"}}
_VERSION_KEYS = ("size", "ETag", "etag", "Last-Modified", "LastModified", "updated", "md5Hash")


class RedirectError(OSError):
    """A server leads from a safe address to one that is not."""


def connect(url: Url) -> Any:
    """Return the file system of fsspec that a URL is read by; public sources only, so nothing secret is looked for.

    Raises
    ------
    InputError
        When it needs a package that is not installed.
    """
    import fsspec

    scheme = urlsplit(url).scheme
    options = _PUBLIC.get(scheme, {})
    with naming(url):
        if scheme in ("http", "https"):
            options = _web_options()
        # Not one that is shared: its connections end with the reader.
        return fsspec.filesystem(scheme, skip_instance_cache=True, use_listings_cache=False, **options)


def _web_options() -> dict[str, Any]:
    import aiohttp

    watch = aiohttp.TraceConfig()
    watch.on_request_redirect.append(_refuse_downgrade)
    # No limit in total: a large file takes as long as it takes, but a server that falls silent is left.
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENT_SECONDS)
    return {
        "client_kwargs": {"timeout": timeout, "trace_configs": [watch], "trust_env": True},
        # The size that is announced is then that of the file, and not of what is sent.
        "headers": {"Accept-Encoding": "identity"},
    }


async def _refuse_downgrade(_session: Any, _context: SimpleNamespace, asked: Any) -> None:
    scheme = urlsplit(asked.response.headers.get("Location", "")).scheme
    if scheme and scheme not in ("https", asked.url.scheme):
        raise RedirectError(f"a redirect from {asked.url.scheme} to {scheme}")


@contextmanager
def naming(url: Url) -> Iterator[None]:
    """Raise InputError, with the URL, for whatever goes wrong on the way to it while the body runs."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise explain(url, error) from error


def explain(url: Url, error: BaseException) -> InputError:
    """Return the error that says in words why a URL cannot be read."""
    if isinstance(error, FileNotFoundError) and not is_absent(error) and error.__cause__ is not None:
        error = error.__cause__
    status = getattr(error, "status", None)
    kind = type(error).__name__
    if isinstance(error, FileNotFoundError) or status in _GONE:
        return InputError("there is nothing at this address", where=url, found=status, fix="check the URL")
    if isinstance(error, PermissionError) or status in (401, 403):
        return InputError(
            "access is denied",
            where=url,
            expected="a public source, since no credentials are used",
            found=status or kind,
            fix="download it by the means of its owner, and give the file",
        )
    if isinstance(error, ImportError):
        return InputError(
            "what reads such URLs is not installed",
            where=url,
            found=error.name or error,
            # The versions of gcsfs are not those of s3fs, so that both do not always go together.
            fix=f"pip install {'gcsfs' if url.startswith('gs:') else 'segem[s3]'}",
        )
    if isinstance(error, TimeoutError) or "Timeout" in kind:
        return InputError(
            "the server does not answer",
            where=url,
            found=f"nothing for {SILENT_SECONDS} seconds",
            fix="try again later, or check the network",
        )
    if isinstance(error, RedirectError) or "Redirect" in kind:
        found = error if isinstance(error, RedirectError) else "a redirect that is not of the web, or too many"
        return InputError("the address leads elsewhere", where=url, found=found, fix="give the address it leads to")
    if status is not None:
        return InputError("the server refuses", where=url, found=f"status {status}", fix="try again later")
    return InputError(
        "it cannot be read", where=url, found=f"{kind}: {error}"[:200], fix="check the URL and the network"
    )


def read_small(url: Url, *names: str) -> dict[str, bytes]:
    """Return those of a few small files below a URL that exist, by their names; empty where it is not a folder.

    Raises
    ------
    InputError
        When the server cannot be reached, or denies access.
    """
    from fsspec.asyn import sync

    files, found = connect(url), {}
    base, mark, query = url.partition("?")
    for name in names:
        try:
            found[name] = sync(files.loop, read_again, files, f"{base}/{name}{mark}{query}")
        except Exception as error:
            if not is_absent(error):
                raise explain(url, error) from error
    return found


async def read_again(files: Any, address: str, start: int | None = None, end: int | None = None) -> bytes:
    """Read bytes, and again where the server is busy or the connection breaks, which a long ingest will meet."""
    for attempt in range(1, _ATTEMPTS):
        try:
            content: bytes = await files._cat_file(address, start, end)
        except Exception as error:
            if not _is_passing(error):
                raise
        else:
            return content
        await asyncio.sleep(PAUSE_SECONDS * attempt)
    last: bytes = await files._cat_file(address, start, end)
    return last


def is_absent(error: BaseException) -> bool:
    """Return whether an error says that there is no such file, and not that it could not be asked for."""
    if not isinstance(error, (FileNotFoundError, IsADirectoryError, NotADirectoryError)):
        return False
    # fsspec raises FileNotFoundError for whatever goes wrong when it asks for the size of a file.
    cause = error.__cause__
    return not isinstance(cause, OSError) and getattr(cause, "status", 404) in _GONE


def _is_passing(error: Exception) -> bool:
    broken = isinstance(error, ConnectionError) or type(error).__name__ in _BROKEN
    return broken or getattr(error, "status", 0) in _BUSY


def describe_version(url: Url) -> dict[str, str]:
    """Return what a server says of the present state of a file: size, ETag and time of change, as far as it does.

    Raises
    ------
    InputError
        When there is no such file, or it cannot be reached.
    """
    files = connect(url)
    with naming(url):
        said = files.info(url)
    return {key: str(said[key]) for key in _VERSION_KEYS if said.get(key) is not None}


class DownloadedReader(Reader):
    """A file from elsewhere, kept in a temporary folder (that of ``TMPDIR``) while it is read.

    Parameters
    ----------
    url : Url
        Where it lies.
    open_file : callable
        Opens the file that was downloaded.

    Raises
    ------
    InputError
        When it cannot be downloaded whole, or there is not enough room for it; else as the reader of its format.
    """

    def __init__(self, url: Url, open_file: Callable[[Path], Reader]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="segem-")
        self._file = Path(self._folder.name) / url.name
        try:
            digest = _download(url, self._file)
            with self._as_url(url):
                self._reader = open_file(self._file)
        except BaseException:
            self._folder.cleanup()
            raise
        super().__init__(url, replace(self._reader.found, digest=digest))

    def read(self, part: tuple[slice, ...]) -> NDArray[Any]:
        """Read a part of the array."""
        with self._as_url(self.source):
            return self._reader.read(part)

    def label_of(self, z: int) -> str:
        """Return the name of a section, with the URL in place of the file."""
        return self._reader.label_of(z).replace(str(self._file), str(self.source))

    def close(self) -> None:
        """Close the file and delete it."""
        self._reader.close()
        self._folder.cleanup()

    @contextmanager
    def _as_url(self, url: object) -> Iterator[None]:
        """Name the URL in errors, and not the file that nobody knows."""
        try:
            yield
        except InputError as error:
            said = (error.where, error.expected, error.found, error.fix)
            where, expected, found, fix = (
                None if text is None else text.replace(str(self._file), str(url)) for text in said
            )
            raise InputError(error.what, where=where, expected=expected, found=found, fix=fix) from error.__cause__


def _download(url: Url, file: Path) -> str:
    """Download a file, and return its sha256."""
    files = connect(url)
    with naming(url):
        announced = files.info(url).get("size")
        free = shutil.disk_usage(file.parent).free
        if announced is not None and announced > free:
            raise InputError(
                "there is not enough room to download it",
                where=url,
                expected=f"{announced / 2**20:.0f} MiB free in {file.parent.parent}",
                found=f"{free / 2**20:.0f} MiB",
                fix="name a larger temporary folder by TMPDIR",
            )
        size = "of unknown size" if announced is None else f"{announced / 2**20:.1f} MiB"
        logger.info("downloading %s, %s", url, size)
        files.get_file(url, str(file))
    received = file.stat().st_size
    if announced is not None and received != announced:
        raise InputError(
            "the download is not whole", where=url, expected=f"{announced} bytes", found=received, fix="try again"
        )
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
