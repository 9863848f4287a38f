"""PNG files: one section each."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from segem.errors import InputError
from segem.io.readers.orientation import warn_of_orientation
from segem.io.readers.palette import grey_levels
from segem.io.readers.picture import PictureReader
from segem.io.readers.reader import Described, StatedVoxelSize
from segem.io.readers.stack import damaged

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _COLOUR, _PALETTE, _GREY_ALPHA, _COLOUR_ALPHA = 0, 2, 3, 4, 6
_DEPTHS = {
    _GREY: (1, 2, 4, 8, 16),
    _PALETTE: (1, 2, 4, 8),
    **dict.fromkeys((_COLOUR, _GREY_ALPHA, _COLOUR_ALPHA), (8, 16)),
}
_LARGEST_PIXEL_NM = 10_000.0
"""Pixels stated to be larger are those of a screen or printer: 72 or 300 dots an inch."""


class PngReader(PictureReader):
    """The one section of a PNG file: 1-bit as bool, up to 8 bits as uint8, 16 bits as uint16.

    Colours are read where all of them are grey and opaque. Of a palette image the grey levels are returned when all of
    its palette is grey, else the indices.
    """

    def describe(self, path: Path, file: IO[bytes]) -> Described:
        """Return what the header says."""
        chunks = _read_header(path, file)
        width, height, depth, kind, compression, filtering, interlace = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
        if depth not in _DEPTHS.get(kind, ()) or compression or filtering or interlace > 1:
            found = f"{depth} bits, colour type {kind}, methods {compression}, {filtering} and {interlace}"
            raise damaged(path, f"{found}, which no PNG file has")
        if b"acTL" in chunks:
            raise InputError(
                "an animated PNG (APNG), of which only one picture would be read",
                where=path,
                expected="one picture",
                found=f"{struct.unpack_from('>I', chunks[b'acTL'])[0]} frames",
                fix="save each frame as a file of its own, or all of them as a TIFF stack",
            )
        # An index of one bit is no intensity: either colour may be any grey.
        dtype = np.dtype("?" if (kind, depth) == (_GREY, 1) else "u2" if depth == 16 else "u1")
        palette = chunks.get(b"PLTE", b"") if kind == _PALETTE else b""
        return Described(
            (height, width),
            dtype,
            "yx",
            "the format",
            voxel=_find_size(chunks.get(b"pHYs")),
            warnings=warn_of_orientation(path, chunks.get(b"eXIf", b"")),
            palette=palette if grey_levels(_read_palette(palette)) is None else b"",
        )

    def decode(self, data: bytes) -> NDArray[Any]:
        """Return the pixels of a file."""
        import imagecodecs

        chunks = list(_walk(self.source, data))
        (header,) = (bytes(chunk[8:-4]) for kind, chunk in chunks if kind == b"IHDR")
        depth, kind = header[8], header[9]
        if kind == _PALETTE:
            # Indices are stored as greys are. Decoded as a palette, they would become colours.
            header = header[:9] + bytes([_GREY]) + header[10:]
        # Bare of all that changes how pixels are shown, and of text that may be damaged without harm. Pillow would fill
        # up rows that are missing with black; libpng refuses them.
        body = (chunk for kind, chunk in chunks if kind in (b"IDAT", b"IEND"))
        pixels: NDArray[Any] = imagecodecs.png_decode(b"".join([_SIGNATURE, _pack(b"IHDR", header), *body]))
        if kind == _GREY and depth == 1:
            return pixels.astype(bool)
        if kind != _PALETTE:
            return pixels
        # libpng stretches greys of few bits to the range of 8.
        indices: NDArray[np.uint8] = pixels // (255 // (2**depth - 1))
        (palette,) = (bytes(chunk[8:-4]) for kind, chunk in chunks if kind == b"PLTE")
        levels = grey_levels(_read_palette(palette))
        if levels is None:
            return indices
        if int(indices.max()) >= levels.size:
            raise damaged(self.source, f"index {indices.max()} in a palette of {levels.size} entries")
        looked_up: NDArray[np.uint8] = levels[indices]
        return looked_up


def _read_header(path: Path, file: IO[bytes]) -> dict[bytes, bytes]:
    """Return the chunks before the pixels."""
    chunks: dict[bytes, bytes] = {}
    if file.read(len(_SIGNATURE)) != _SIGNATURE:
        raise damaged(path, "no PNG signature")
    while True:
        length, kind = struct.unpack(">I4s", file.read(8))
        if kind in (b"IDAT", b"IEND"):
            return chunks
        body = file.read(length)
        if struct.pack(">I", zlib.crc32(kind + body)) != file.read(4):
            raise damaged(path, f"a {kind!r} chunk that is cut off or fails its checksum")
        chunks.setdefault(kind, body)


def _read_palette(chunk: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(chunk, np.uint8).reshape(-1, 3)


def _find_size(chunk: bytes | None) -> StatedVoxelSize | None:
    if chunk is None or len(chunk) != 9:
        return None
    per_metre_x, per_metre_y, is_metre = struct.unpack(">IIB", chunk)
    if is_metre != 1 or not per_metre_x or not per_metre_y:
        return None
    y_nm, x_nm = 1e9 / per_metre_y, 1e9 / per_metre_x
    return StatedVoxelSize(None, y_nm, x_nm, "its header (pHYs)") if max(y_nm, x_nm) <= _LARGEST_PIXEL_NM else None


def _walk(path: Path, data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Yield kind and all of every chunk, without copying them."""
    at, kind, view = len(_SIGNATURE), b"", memoryview(data)
    while kind != b"IEND":
        if at + 12 > len(data):
            raise damaged(path, "a PNG file without an end")
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data) or struct.pack(">I", zlib.crc32(view[at + 4 : end - 4])) != view[end - 4 : end]:
            raise damaged(path, f"a chunk at byte {at} that is cut off or fails its checksum")
        yield kind, view[at:end]
        at = end


def _pack(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body), kind) + body + struct.pack(">I", zlib.crc32(kind + body))
