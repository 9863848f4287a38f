"""Files compressed by gzip, as archives of electron microscopy hand them out."""

from __future__ import annotations

import gzip
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from segem.config import Selection
from segem.errors import InputError
from segem.io.readers.reader import Reader
from segem.io.readers.stack import UNCHECKED_BYTES, check_file, damaged

_MOST_RATIO = 200
"""Bytes unpacked for one that is stored. Images give 2 to 5 and labels 100; a file made to fill disks gives 1000."""
_STEP_BYTES = 2**20

Open = Callable[[Path, Selection], Reader]


class GzipReader(Reader):
    """What a file holds that was compressed by gzip; it is unpacked into a temporary folder while it is read.

    Parameters
    ----------
    path : Path
        The file, called like the one within and ``.gz``.
    chosen : Selection
        What is chosen of the one within.
    opens : callable
        Opens the one within.

    Raises
    ------
    InputError
        When it is damaged, unpacks to implausibly much, or there is no room for it.
    """

    source: Path

    def __init__(self, path: Path, chosen: Selection, opens: Open) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="segem-")
        self._unpacked = Path(self._folder.name) / path.stem
        try:
            _unpack(path, self._unpacked)
            with self._named_as(path):
                self._within = opens(self._unpacked, chosen)
        except BaseException:
            self._folder.cleanup()
            raise
        super().__init__(path, self._within.found)

    def label_of(self, z: int) -> str:
        """Return the name of a section, by the file that was given."""
        return self._within.label_of(z).replace(str(self._unpacked), str(self.source))

    def read(self, part: tuple[slice, ...]) -> NDArray[Any]:
        """Read a part of the array."""
        with self._named_as(self.source):
            return self._within.read(part)

    def close(self) -> None:
        """Close the file, and remove what was unpacked."""
        self._within.close()
        self._folder.cleanup()

    @contextmanager
    def _named_as(self, path: Path) -> Iterator[None]:
        """Let errors of the body name the file that was given, not the one that is gone afterwards."""
        try:
            yield
        except InputError as error:
            where = (error.where or "").replace(str(self._unpacked), str(path))
            raise InputError(
                error.what, where=where, expected=error.expected, found=error.found, fix=error.fix
            ) from error


def _unpack(path: Path, out: Path) -> None:
    most = max(UNCHECKED_BYTES, _MOST_RATIO * check_file(path))
    try:
        with gzip.open(path) as packed, out.open("wb", buffering=0) as file:
            while step := packed.read(_STEP_BYTES):
                if file.tell() + len(step) > most:
                    raise InputError(
                        "it unpacks to implausibly much",
                        where=path,
                        expected=f"at most {most / 2**20:.0f} MiB, {_MOST_RATIO} times what is stored",
                        found="more",
                        fix="if you trust it, unpack it with gunzip, and give what comes out",
                    )
                try:
                    file.write(step)
                except OSError as error:
                    raise InputError(
                        "there is no room to unpack it",
                        where=path,
                        found=f"{error.strerror} in {out.parent}",
                        fix="set TMPDIR to a folder with room, or unpack it with gunzip",
                    ) from error
    except (EOFError, OSError, zlib.error) as error:
        raise damaged(path, None, cause=error) from error
