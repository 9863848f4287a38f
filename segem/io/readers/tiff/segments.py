"""The strips and tiles of a page: which of them meet a part, and their voxels, decoded strictly."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from copy import copy
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from segem.io.readers.tiff.jpeg import check_jpeg

UNCOMPRESSED = 1
LZW = 5
JPEG = frozenset({7, 33007, 34892})
# Deflate under its three numbers, PackBits, LZMA, and zstd under its two: bytes in, bytes out.
_BYTE_CODES = frozenset({LZW, 8, 32946, 50013, 32773, 34925, 34926, 50000})
_LZW_PADDING = 4
_BAND_BYTES = 2**24

ReadAt = Callable[[int, int], bytes]
"""Reads so many bytes from a position in the file."""


class Segments:
    """The strips or tiles of one page.

    Parameters
    ----------
    page : tifffile.TiffPage
        A page that has been checked.
    read_at : callable
        Reads bytes of its file.
    """

    def __init__(self, page: Any, read_at: ReadAt) -> None:
        self.page = page
        self._read_at = read_at
        # Bytes are decompressed here; what tifffile decodes then is an uncompressed page of the same layout.
        self._unpacked = uncompressed(page) if page.compression in _BYTE_CODES else page
        # Any rows of uncompressed strips can be read alone, and strips that lie end to end are as good as one.
        self._by_rows = page.compression == UNCOMPRESSED and not page.is_tiled
        self._joined = self._by_rows and page.is_contiguous

    @property
    def chunk(self) -> tuple[int, int, int, int, int]:
        """What is decoded at a time, along sample plane, depth, row, column and interleaved sample."""
        page = self.page
        samples = page.shaped[4]
        if page.is_tiled:
            return (1, page.tiledepth, page.tilelength, page.tilewidth, samples)
        return (1, 1, 1 if self._by_rows else page.rowsperstrip, page.imagewidth, samples)

    def read(self, part: tuple[slice, ...], fill: Any, behind: int = 0) -> NDArray[Any]:
        """Read a part of the page.

        Parameters
        ----------
        part : tuple of 5 slices
            Along sample plane, depth, row, column and interleaved sample.
        fill : number
            What stands for strips or tiles that were never written.
        behind : int
            Read so many bytes behind the page, for sections without a page of their own; only if it is uncompressed.

        Returns
        -------
        array
            Of that shape, as stored but in the byte order of this machine.
        """
        found = np.empty([side.stop - side.start for side in part], self.page.dtype)
        for start, stop, voxels in self._pieces(part, behind):
            inside = [
                slice(max(side.start, a), min(side.stop, b)) for side, a, b in zip(part, start, stop, strict=True)
            ]
            there = tuple(
                slice(s.start - side.start, s.stop - side.start) for s, side in zip(inside, part, strict=True)
            )
            if voxels is None:
                found[there] = fill
            else:
                found[there] = voxels[tuple(slice(s.start - a, s.stop - a) for s, a in zip(inside, start, strict=True))]
        return found

    def _pieces(
        self, part: tuple[slice, ...], behind: int
    ) -> Iterator[tuple[list[int], list[int], NDArray[Any] | None]]:
        """Yield where each strip or tile that meets the part begins and ends, and its voxels if it was written."""
        page, shaped = self.page, self.page.shaped
        strip = (1, 1, shaped[2] if self._joined else page.rowsperstrip, *shaped[3:])
        size = self.chunk if page.is_tiled else strip
        counts = [math.ceil(whole / each) for whole, each in zip(shaped, size, strict=True)]
        met = [range(side.start // each, math.ceil(side.stop / each)) for side, each in zip(part, size, strict=True)]
        for at in itertools.product(*met):
            number = int(np.ravel_multi_index(at, counts))
            start = [a * each for a, each in zip(at, size, strict=True)]
            stop = [min(a + each, whole) for a, each, whole in zip(start, size, shaped, strict=True)]
            if self._by_rows:
                top, last = start[2], min(stop[2], part[2].stop)
                # A column of a large section takes all of its rows, but not all at once.
                step = max(_BAND_BYTES // bytes_of_row(page, page.imagewidth), 1)
                for y in range(max(top, part[2].start), last, step):
                    start[2], stop[2] = y, min(y + step, last)
                    yield start, stop, self._rows(number, y - top, stop[2] - top, behind)
            else:
                yield start, stop, self._decoded(number, stop[2] - start[2])

    def _rows(self, number: int, first: int, last: int, behind: int) -> NDArray[Any] | None:
        """Return rows of an uncompressed strip."""
        page = self.page
        row_bytes = bytes_of_row(page, page.imagewidth)
        offset = page.dataoffsets[0 if self._joined else number]
        if offset == 0:
            return None
        if self._joined:
            offset += number * page.imagelength * row_bytes
        data = self._read_at(offset + behind + first * row_bytes, (last - first) * row_bytes)
        voxels: NDArray[Any] = uncompressed(page, last - first).decode(data, 0)[0]
        return voxels[None]

    def _decoded(self, number: int, rows: int) -> NDArray[Any] | None:
        """Return a strip or tile of so many rows of the page."""
        page = self.page
        offset, count = page.dataoffsets[number], page.databytecounts[number]
        if offset == 0:
            return None
        data = self._read_at(offset, count)
        if page.compression in _BYTE_CODES:
            data = _decompress(page, data, rows)
        elif page.compression in JPEG:
            columns, rows = (page.tilewidth, page.tilelength) if page.is_tiled else (page.imagewidth, page.rowsperstrip)
            check_jpeg(data, columns, rows, page.jpegtables)
        tables = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
        voxels: NDArray[Any] = self._unpacked.decode(data, number, **tables)[0]
        return voxels[None]


def bytes_of_row(page: Any, columns: int) -> int:
    """Return how many bytes a row of so many columns takes, uncompressed; rows begin with a byte of their own."""
    return int(-(-columns * page.shaped[4] * page.bitspersample // 8))


def bytes_of_segment(page: Any) -> int:
    """Return how many bytes a whole strip or tile takes, uncompressed."""
    if page.is_tiled:
        return int(page.tiledepth * page.tilelength * bytes_of_row(page, page.tilewidth))
    return int(page.rowsperstrip * bytes_of_row(page, page.imagewidth))


def uncompressed(page: Any, rows: int | None = None) -> Any:
    """Return the page as if it were not compressed, and had so many rows in one strip."""
    plain = copy(page)
    for computed in ("decode", "hash", "chunks", "chunked", "is_contiguous"):
        plain.__dict__.pop(computed, None)
    if page.compression != UNCOMPRESSED:
        # The bits were put in order before they were decompressed.
        plain.compression, plain.fillorder = UNCOMPRESSED, 1
    if rows is not None:
        plain.imagelength = plain.rowsperstrip = rows
        plain.shaped = (1, 1, rows, *page.shaped[3:])
    return plain


def _decompress(page: Any, data: bytes, rows: int) -> bytes:
    if page.fillorder == 2:
        data = bytes(imagecodecs.bitorder_decode(data))
    decompress = tifffile.TIFF.DECOMPRESSORS[page.compression]
    whole = bytes_of_segment(page)
    # The last strip may be written in full. Tiles are, but for a few that end with the page, which tifffile knows.
    least = whole if page.is_tiled else rows * bytes_of_row(page, page.imagewidth)
    # Room for a byte too many: cut to length, garbage that goes on for ever would look like a whole strip.
    found: bytes = decompress(data, out=whole + 1)
    if len(found) <= least or len(found) == whole:
        return found
    if page.compression == LZW and len(decompress(data[:-_LZW_PADDING], out=least)) < least:
        # Some writers leave out the code that ends the data, so that what fills the last bytes is decoded as well.
        return found[:least]
    raise ValueError(f"compressed data go on after the {least} bytes that belong to a strip or tile")
