"""PNG files: one section each."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngImageFile

from segem.config import Selection
from segem.errors import InputError
from segem.io.readers.reader import Described, Reader
from segem.io.readers.stack import check_declared, check_file, damaged, grey_levels, not_grey

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_DTYPES = {"1": "?", "L": "u1", "P": "u1", "I;16": "u2", "I": "u2", "I;16B": "u2"}


class PngReader(Reader):
    """The one section of a PNG file: 1-bit as bool, up to 8 bits as uint8, 16 bits as uint16.

    Of a palette image the grey levels are returned when all of its palette is grey, else the indices.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    InputError
        When the file is damaged or holds colour.
    """

    source: Path

    def __init__(self, path: Path, chosen: Selection) -> None:  # noqa: ARG002 - a section of grey leaves no choice
        size = check_file(path)
        # Not Image.open: its size limit is below that of a large section, and it guesses the format.
        with path.open("rb") as file:
            image = _open(path, file)
            if image.mode not in _DTYPES:
                raise not_grey(path, f"mode {image.mode}")
            shape, dtype = (image.height, image.width), np.dtype(_DTYPES[image.mode])
        check_declared(path, shape, dtype, size)
        super().__init__(path, Described(shape, dtype, "yx", "the format"))

    def label_of(self, z: int) -> str:  # noqa: ARG002 - there is only one
        """Return the file."""
        return str(self.source)

    def read(self, part: tuple[slice, ...]) -> NDArray[Any]:
        """Read a part of the section; all of it is decoded."""
        _check_chunks(self.source)
        with self.source.open("rb") as file:
            image = _open(self.source, file)
            try:
                section = np.asarray(image)
                palette = image.getpalette("RGB") if image.mode == "P" else None
            except Exception as error:
                # Pillow raises errors of several unrelated types on damage.
                raise damaged(self.source, None, cause=error) from error
        if palette is not None:
            levels = grey_levels(np.asarray(palette, np.uint8).reshape(-1, 3))
            if levels is not None and int(section.max()) < levels.size:
                section = levels[section]
        return section.astype(self.found.dtype, copy=False)[part]


def _open(path: Path, file: Any) -> PngImageFile:
    try:
        return PngImageFile(file)
    except Exception as error:
        raise damaged(path, None, cause=error) from error


def _check_chunks(path: Path) -> None:
    """Check the CRC of every chunk; Pillow skips those of the voxels."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError("the file cannot be read", where=path, found=error, fix="check the disk") from error
    at, kind = len(_SIGNATURE), b""
    while data.startswith(_SIGNATURE) and at + 12 <= len(data) and kind != b"IEND":
        (length,) = struct.unpack_from(">I", data, at)
        kind, end = data[at + 4 : at + 8], at + 12 + length
        if end > len(data) or zlib.crc32(data[at + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise damaged(path, f"a chunk at byte {at} that is cut off or fails its checksum")
        at = end
    if kind != b"IEND":
        raise damaged(path, "a PNG file without an end")
