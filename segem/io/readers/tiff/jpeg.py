"""The rules of a JPEG stream, for strips and tiles: what breaks them would be decoded all the same."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_START, _END, _SCAN, _RESTART_INTERVAL = 0xD8, 0xD9, 0xDA, 0xDD
_STUFFED, _FILL = 0x00, 0xFF
_RESTARTS = range(0xD0, 0xD8)
_STREAM_END = b"\xff\xd9"
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
# Tables, comments and what programs add; the others are reserved, so that they only turn up in damaged data.
_SEGMENTS = _FRAMES | {0xC4, 0xCC, *range(0xDA, 0xE0), *range(0xE0, 0xF0), 0xFE}
# What libjpeg decodes in 8 bits, and to which space by the number of components; the codes are checked in any.
_HUFFMAN_FRAMES, _BITS, _SPACES = {0xC0, 0xC1, 0xC2}, 8, {1: "GRAY", 3: "GRAY", 4: "CMYK"}


class JpegError(ValueError):
    """A JPEG stream that breaks a rule of its format."""


def check_jpeg(data: bytes, columns: int, rows: int, tables: bytes | None = None) -> None:
    """Check the markers and codes of a JPEG stream, and that it decodes to no more than it should.

    Parameters
    ----------
    data : bytes
        From start to end of the image.
    columns, rows : int
        Size of the strip or tile, in pixels.
    tables : bytes, optional
        A stream of tables that it shares with others.

    Raises
    ------
    JpegError
        When a rule is broken.

    Examples
    --------
    >>> check_jpeg(b"not a stream", 8, 8)
    Traceback (most recent call last):
        ...
    segem.io.readers.tiff.jpeg.JpegError: no JPEG image begins here
    """
    codes = np.frombuffer(data, np.uint8)
    if data[:2] != bytes([_FILL, _START]):
        raise JpegError("no JPEG image begins here")
    at, scans, space = 2, 0, None
    restarts = tables is not None and bytes([_FILL, _RESTART_INTERVAL]) in tables
    while True:
        marker, at = _marker_at(data, at)
        if marker == _END:
            break
        if marker not in _SEGMENTS:
            raise JpegError(f"marker {marker:02X} in JPEG data")
        length = int.from_bytes(data[at : at + 2], "big")
        body = data[at + 2 : at + length]
        if length < 2 or len(body) != length - 2:
            raise JpegError("JPEG data end within their header")
        at += length
        if marker in _FRAMES:
            height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
            if height > rows or width > columns:
                raise JpegError(f"a JPEG image of {height} x {width} where at most {rows} x {columns} fit")
            space = _SPACES.get(body[5]) if marker in _HUFFMAN_FRAMES and body[0] == _BITS else None
        elif marker == _RESTART_INTERVAL:
            restarts = any(body)
        elif marker == _SCAN:
            scans += 1
            at = _end_of_scan(codes, at, restarts=restarts)
    if not scans:
        raise JpegError("a JPEG image without pixels")
    if space is not None:
        # imagecodecs keeps to itself what libjpeg warns of, and returns damaged pixels as they come.
        import simplejpeg

        stream = tables.rstrip(b"\0").removesuffix(_STREAM_END) + data[2:] if tables else data
        simplejpeg.decode_jpeg(stream, space, strict=True)


def _marker_at(data: bytes, at: int) -> tuple[int, int]:
    """Return the marker at a position, and the position behind it."""
    if data[at : at + 1] != bytes([_FILL]):
        raise JpegError("JPEG data without a marker where one belongs")
    while data[at : at + 1] == bytes([_FILL]):
        at += 1
    if at >= len(data):
        raise JpegError("JPEG data without an end")
    return data[at], at + 1


def _end_of_scan(codes: NDArray[np.uint8], at: int, *, restarts: bool) -> int:
    """Return where the marker behind entropy-coded data begins."""
    marks = at + np.flatnonzero(codes[at:-1] == _FILL)
    markers = codes[marks + 1]
    is_restart = (markers >= _RESTARTS.start) & (markers < _RESTARTS.stop)
    behind = np.flatnonzero((markers != _STUFFED) & (markers != _FILL) & ~is_restart)
    if not behind.size:
        raise JpegError("JPEG data without an end")
    found = markers[: behind[0]][is_restart[: behind[0]]]
    if found.size and not restarts:
        raise JpegError("restarts in JPEG data that have none")
    if np.any(found != _RESTARTS.start + np.arange(found.size) % len(_RESTARTS)):
        raise JpegError("restarts out of order in JPEG data")
    return int(marks[behind[0]])
