"""JPEG files: one section each, in which no value is exact."""

from __future__ import annotations

import os
import struct
from io import BytesIO
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segem.config import LabelSource, Selection
from segem.errors import InputError
from segem.io.readers.orientation import warn_of_orientation
from segem.io.readers.picture import PictureReader
from segem.io.readers.reader import Described
from segem.io.readers.stack import damaged, not_grey

_SPACES = {1: "GRAY", 3: "RGB"}
"""What a JPEG file with so many components is decoded to."""
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_APP1, _EXIF = 0xE1, b"Exif\0\0"
_LOSSY = (
    "stored as JPEG, which loses detail and adds ripples at edges, such as membranes; use the files it was made of if "
    "there are any"
)
_LOSSY_LABELS = (
    "labels stored as JPEG: many pixels have other values than were painted, most of them at the edges of membranes; "
    "save the labels as PNG or TIFF from the program that made them, and trust no score against these"
)


class JpegReader(PictureReader):
    """The one section of a JPEG file, uint8; of a coloured one, where all of its pixels are grey."""

    def describe(self, path: Path, file: IO[bytes]) -> Described:
        """Return what the header says."""
        frame = _read_frame(path, file)
        bits, components = frame.bits, frame.components
        if bits != 8:
            raise InputError(
                "a JPEG file of an unusual kind",
                where=path,
                expected="8 bits",
                found=f"{bits} bits",
                fix="convert it to PNG or TIFF with the program that made it",
            )
        if components not in _SPACES:
            raise not_grey(path, f"{components} channels", self.chosen)
        warnings = (say_lossy(self.chosen), *warn_of_orientation(path, frame.exif))
        return Described((frame.height, frame.width), np.dtype("u1"), "yx", "the format", warnings=warnings)

    def decode(self, data: bytes) -> NDArray[Any]:
        """Return the pixels of a file."""
        # Pillow and imagecodecs keep to themselves what libjpeg warns of, and return damaged pixels as they come.
        import simplejpeg

        components = _read_frame(self.source, BytesIO(data)).components
        pixels: NDArray[Any] = simplejpeg.decode_jpeg(data, _SPACES[components], strict=True)
        return pixels[..., 0] if components == 1 else pixels


def say_lossy(chosen: Selection) -> str:
    """Return what the user should know about images or labels that are compressed as JPEG, in any file."""
    return _LOSSY_LABELS if isinstance(chosen, LabelSource) else _LOSSY


class _Frame(NamedTuple):
    """What stands before the pixels."""

    bits: int
    """A sample."""
    height: int
    width: int
    components: int
    exif: bytes


def _read_frame(path: Path, file: IO[bytes]) -> _Frame:
    exif = b""
    if file.read(2) != b"\xff\xd8":
        raise damaged(path, "no JPEG signature")
    while (marker := file.read(1)) == b"\xff":
        while marker == b"\xff":  # any number of them may come before a marker
            marker = file.read(1)
        (length,) = struct.unpack(">H", file.read(2))
        if marker[0] in _FRAMES:
            bits, height, width, components = struct.unpack(">BHHB", file.read(6))
            return _Frame(bits, height, width, components, exif)
        if marker[0] == _APP1:
            body = file.read(length - 2)
            exif = body.removeprefix(_EXIF) if body.startswith(_EXIF) else exif
        else:
            file.seek(length - 2, os.SEEK_CUR)
    raise damaged(path, "no frame header")
