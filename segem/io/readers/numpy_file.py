"""Arrays saved by NumPy: .npy, and .npz with one array or a named one."""

from __future__ import annotations

import io
import math
import shutil
import tempfile
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from segem.config import Selection
from segem.errors import InputError
from segem.io.readers.axes import UNKNOWN_AXIS
from segem.io.readers.chunked import check_numeric, refuse_choice
from segem.io.readers.contiguous import ContiguousArray
from segem.io.readers.reader import Described, Reader
from segem.io.readers.stack import check_file, damaged, no_damage

_SUFFIX = ".npy"
_LARGEST_HEADER = 2**17
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class NumpyReader(Reader):
    """An array in a file of NumPy; nothing in it is ever unpickled.

    Parameters
    ----------
    path : Path
        A .npy file, or an .npz archive, of which the array is unpacked into a temporary folder (that of ``TMPDIR``).
    chosen : Selection
        Names the array of an archive, which is needed when it holds several.

    Raises
    ------
    InputError
        When the file is damaged, or holds no array of numbers, or more or less than it declares.
    """

    source: Path

    def __init__(self, path: Path, chosen: Selection) -> None:
        size = check_file(path)
        self._unpacked: IO[bytes] | None = None
        self._name = str(path)
        with no_damage(path):
            if path.suffix.lower() == ".npz":
                self._unpacked, member, size = _unpack(path, chosen.dataset)
                self._name = f"{path}:{member}"
            try:
                stored = _find(self._unpacked or path, self._name, size)
            except BaseException:
                self.close()
                raise
        self._stored, shape = stored, stored.shape
        super().__init__(
            path, Described(shape, stored.dtype, UNKNOWN_AXIS * len(shape), "convention", axes_named=False)
        )

    def label_of(self, z: int) -> str:
        """Return the file and the index of a section."""
        return f"{self._name}[{z}]"

    def read(self, part: tuple[slice, ...]) -> NDArray[Any]:
        """Read a part of the array."""
        if self._unpacked is not None:
            return np.array(self._stored.map(self._unpacked)[part])
        # No memory map of a file that others can cut off meanwhile: it would kill the process.
        voxels = ContiguousArray(self.source, self._stored.start, self._stored.as_it_lies, self._stored.dtype)
        return voxels.read(part[::-1]).transpose() if self._stored.by_column else voxels.read(part)

    def close(self) -> None:
        """Close what was unpacked, which deletes it."""
        if self._unpacked is not None:
            self._unpacked.close()


@dataclass(frozen=True)
class _Stored:
    """How the array of a .npy file lies in it."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    start: int
    by_column: bool

    @property
    def as_it_lies(self) -> tuple[int, ...]:
        """The extent of each axis, the one along which neighbours lie beside each other last."""
        return self.shape[::-1] if self.by_column else self.shape

    def map(self, file: IO[bytes]) -> NDArray[Any]:
        """Return it, mapped into memory."""
        return np.memmap(file, self.dtype, "r", self.start, self.shape, "F" if self.by_column else "C")


def _find(file: IO[bytes] | Path, name: str, size: int) -> _Stored:
    """Find the array of a .npy file of so many bytes."""
    if isinstance(file, Path):
        with file.open("rb") as opened:
            shape, by_column, dtype, start = _read_header(opened)
    else:
        shape, by_column, dtype, start = _read_header(file)
    check_numeric(name, shape, dtype)
    # NumPy's own reading of the header takes them for numbers.
    if any(isinstance(edge, bool) for edge in shape):
        raise damaged(name, f"shape {shape}")
    declared = start + math.prod(shape) * dtype.itemsize
    if 0 in shape:
        raise InputError("a section without voxels", where=name, found=f"shape {shape}", fix="save another array")
    if min(shape) < 0 or declared != size:
        raise damaged(name, f"{size} bytes, while its header declares {shape} {dtype}, {declared} bytes")
    return _Stored(shape, dtype, start, by_column)


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Return shape, whether columns come first, type, and where the voxels begin."""
    # A header may call itself 4 GiB long, which NumPy would make room for.
    header = io.BytesIO(file.read(_LARGEST_HEADER))
    version = npy.read_magic(header)
    # Version 3 exists for the names of fields alone, so its arrays are no arrays of numbers.
    if version not in _HEADERS:
        raise ValueError(f"version {version} of the format")
    with warnings.catch_warnings():
        # That Python 2 wrote it, which changes nothing.
        warnings.simplefilter("ignore")
        shape, by_column, dtype = _HEADERS[version](header)
    return shape, by_column, dtype, header.tell()


def _unpack(path: Path, dataset: str | None) -> tuple[IO[bytes], str, int]:
    """Unpack an array of an archive into a file without a name; return it, its name in the archive and its size."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(_SUFFIX): info for info in archive.infolist()}
        if len(members) < len(archive.infolist()):
            raise damaged(path, "two arrays of one name")
        if dataset is None and len(members) != 1:
            raise refuse_choice(path, "array", list(members))
        member = next(iter(members)) if dataset is None else dataset
        if member not in members:
            raise InputError(
                f"no array named {dataset} in the file",
                where=path,
                found=f"arrays: {', '.join(list(members)[:10]) or 'none'}",
                fix="correct --dataset or --labels-dataset, or dataset in the manifest",
            )
        info = members[member]
        if info.file_size > shutil.disk_usage(tempfile.gettempdir()).free:
            raise InputError(
                "there is not enough room to unpack it",
                where=path,
                expected=f"{info.file_size} bytes free in {tempfile.gettempdir()}",
                fix="name a larger temporary folder by TMPDIR",
            )
        unpacked = tempfile.TemporaryFile(prefix="segem-")  # noqa: SIM115 - it stays open with the reader
        try:
            with archive.open(info) as packed:
                shutil.copyfileobj(packed, unpacked)
            unpacked.seek(0)
        except BaseException:
            unpacked.close()
            raise
    return unpacked, member, info.file_size
