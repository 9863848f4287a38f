"""Where the shard files of an array lie: what every such place can do, and the folder on disk."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from segem.io.files import disk_errors, fsync, fsync_directory, write_bytes

_durable: set[Path] = set()
"""Folders whose names this process has synced."""
# Bounds the memory of a process that writes many volumes; a folder that is forgotten is only synced once more.
_MOST_DURABLE = 4096


class ShardBytes(Protocol):
    """A shard file that is open to be read."""

    def read_end(self, length: int) -> bytes:
        """Return its last bytes; fewer or none where it is shorter."""

    def expect(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Be told of all that will be read now, as start and length; several threads may then read at once."""

    def read(self, start: int, length: int) -> bytes:
        """Return bytes of it; fewer or none where it ends before."""


class ShardFiles(Protocol):
    """The shard files of one array, by their keys, as in ``c/0/1/0``."""

    def name(self, key: str) -> Any:
        """Return what messages call a file."""

    def opened(self, key: str) -> Any:
        """Return a context manager of the `ShardBytes` of a file; raises FileNotFoundError where there is none."""

    def write(self, key: str, parts: Sequence[bytes]) -> None:
        """Write a file whole, or leave what was there; it is durable on return."""

    def settle(self, key: str) -> None:
        """Make a file durable that another process may have written and not synced."""

    def missing(self, keys: Sequence[str]) -> list[str]:
        """Return those keys for which there is no file."""


@dataclass(frozen=True)
class FolderShards:
    """Shard files in the folder of their array.

    Parameters
    ----------
    folder : Path
        The folder of the array.
    """

    folder: Path

    def name(self, key: str) -> Path:
        """Return the path of a file."""
        return self.folder / key

    @contextmanager
    def opened(self, key: str) -> Iterator[FileBytes]:
        """Open a file to read it."""
        with closing(FileBytes(self.name(key))) as content:
            yield content

    def write(self, key: str, parts: Sequence[bytes]) -> None:
        """Write a file atomically, with all names on the way to it durable."""
        file = self.name(key)
        self._make_folder(file.parent)
        write_bytes(file, *parts)

    def settle(self, key: str) -> None:
        """Sync a file and its name."""
        with disk_errors(self.folder):
            fsync(self.name(key))
            fsync_directory(self.name(key).parent)

    def missing(self, keys: Sequence[str]) -> list[str]:
        """Return those keys for which there is no file."""
        return [key for key in keys if not self.name(key).is_file()]

    def _make_folder(self, folder: Path) -> None:
        # The array's own folder was made durable when the volume was created. Another folder may just have been made by
        # a process that has not synced it yet, so its name is synced too, once per process.
        if folder == self.folder or (folder in _durable and folder.is_dir()):
            return
        self._make_folder(folder.parent)
        with disk_errors(folder):
            folder.mkdir(exist_ok=True)
            fsync_directory(folder.parent)
        if len(_durable) == _MOST_DURABLE:
            _durable.clear()
        _durable.add(folder)


class FileBytes:
    """A file on disk that is open to be read.

    Parameters
    ----------
    file : Path
        The file.
    """

    # Not memory-mapped: a file truncated while it is read would kill the process (SIGBUS).
    def __init__(self, file: Path) -> None:
        self._descriptor = os.open(file, os.O_RDONLY)

    def close(self) -> None:
        """Close it."""
        os.close(self._descriptor)

    def read_end(self, length: int) -> bytes:
        """Return the last bytes."""
        return self.read(self._size - length, length)

    def expect(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Do nothing: what is read by the thread that decodes it is still in its cache."""

    def read(self, start: int, length: int) -> bytes:
        """Return bytes of the file, none where it does not hold them all."""
        # An index may point anywhere: pread has errors of its own for what no file can hold.
        return os.pread(self._descriptor, length, start) if 0 <= start <= self._size - length else b""

    @property
    def _size(self) -> int:
        return os.fstat(self._descriptor).st_size
