"""One TIFF file: its pages, each checked before a voxel is used, and read by part."""

from __future__ import annotations

import struct
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile
from numpy.typing import NDArray

from segem.io.readers.stack import check_declared, check_file, damaged, not_grey
from segem.io.readers.tiff.damage import no_damage, unreadable
from segem.io.readers.tiff.segments import JPEG, UNCOMPRESSED, Segments, bytes_of_row, bytes_of_segment
from segem.io.readers.tiff.shown import (
    MINISBLACK,
    MINISWHITE,
    PALETTE,
    RGB,
    YCBCR,
    dtype_shown,
    palette_of_indices,
    show,
)

_OFFSETS, _COUNTS = (324, 273), (325, 279)
_REDUCED, _MASK = 1, 4
_DESCRIPTION_READ = 1_000_000
# Pages are read directly, so that tifffile never opens another file or makes up pages.
_NO_FLAGS = {"is_ome": False, "is_scanimage": False, "is_ndpi": False}


class Kind(NamedTuple):
    """What pages of one stack have in common."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    """As shown."""
    axes: str
    """Letters of ``zcyx``."""
    bits: int
    """Of a voxel, in the file."""
    palette: bytes = b""
    """Red, green and blue of each entry, where voxels are indices."""

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.shape[self.axes.index("y")], self.shape[self.axes.index("x")]

    @property
    def channels(self) -> int:
        """How many values a pixel has."""
        return self.shape[self.axes.index("c")] if "c" in self.axes else 1


@dataclass
class Walked:
    """What was found on the way through all pages of a file."""

    kinds: list[Kind] = field(default_factory=list)
    sections: list[int] = field(default_factory=list)
    """Numbers of the pages that are no smaller copies or masks of others."""
    descriptions: list[tuple[int, str]] = field(default_factory=list)
    """Of the pages that have one: number and text; the first one in full."""
    segments: int = 0
    unwritten: int = 0
    """How many of the strips or tiles were never written."""
    first_unwritten: str = ""
    room: int = 1
    """How many sections fit between the first voxel of a single page and the end of the file."""
    is_closed: bool = False
    """Whether a single page cannot have had further sections behind it, as something else is there, or nothing."""


class TiffPages:
    """An open TIFF file.

    Parameters
    ----------
    path : Path
        Classic or BigTIFF of either byte order.
    walked : Walked, optional
        What was found when it was opened before.

    Raises
    ------
    InputError
        When it is damaged, or of a kind that cannot be read.
    """

    def __init__(self, path: Path, walked: Walked | None = None) -> None:
        self.path, self.size = path, check_file(path)
        self._last: tuple[int, Segments] | None = None
        with ExitStack() as opened:
            with no_damage(path):
                self._tiff = opened.enter_context(tifffile.TiffFile(path, **_NO_FLAGS))
            with no_damage(path):
                self.walked = walked or self._walk()
                first = self._tiff.pages[0]
                self.by_tifffile = "tifffile" in first.software or bool(first.is_shaped)
            opened.pop_all()  # without damage the file stays open

    def close(self) -> None:
        """Close the file."""
        self._tiff.close()

    def label_of(self, number: int) -> str:
        """Return the file and a page, for messages."""
        return f"{self.path} page {number + 1} (z={number})"

    def page(self, number: int) -> Any:
        """Return a page as tifffile reads it."""
        with no_damage(self.label_of(number)):
            return self._segments(number).page

    def first_description(self) -> str:
        """Return the description of the first page, in full."""
        return next((text for number, text in self.walked.descriptions if number == 0), "")

    def read(self, number: int, part: tuple[slice, ...], where: str, packed: int = 0) -> NDArray[Any]:
        """Read a part of a page.

        Parameters
        ----------
        number : int
            Of the page.
        part : tuple of slice
            Along the axes of the page.
        where : str
            The section, for messages.
        packed : int
            How many sections behind the page itself it lies, in a file that has one page for all.

        Returns
        -------
        array
            Of that shape, as a viewer shows it.
        """
        with no_damage(where):
            segments = self._segments(number)
            page = segments.page
            named = dict(zip(page.axes, part, strict=True))
            planar = page.axes.startswith("S")
            whole = slice(0, 1)
            samples = named.get("S", whole)
            sides = (
                samples if planar else whole,
                named.get("Z", whole),
                named["Y"],
                named["X"],
                whole if planar else samples,
            )
            found = segments.read(sides, page.nodata, packed * page.nbytes).reshape(
                [side.stop - side.start for side in part]
            )
            return show(found, page, where, by_tifffile=self.by_tifffile)

    def chunk(self, number: int) -> tuple[int, ...]:
        """Return what is decoded at a time, along the axes of a page."""
        page = self.page(number)
        sample, depth, row, column, interleaved = self._segments(number).chunk
        axes = page.axes
        sizes = {"S": sample if axes.startswith("S") else interleaved, "Z": depth, "Y": row, "X": column}
        return tuple(min(sizes[axis], whole) for axis, whole in zip(axes, page.shape, strict=True))

    def _segments(self, number: int) -> Segments:
        if self._last is None or self._last[0] != number:
            page = self._tiff.pages[number]
            _count_bytes(page)
            self._last = number, Segments(page, self._read_at)
        return self._last[1]

    def _read_at(self, offset: int, count: int) -> bytes:
        file = self._tiff.filehandle
        file.seek(offset)
        data: bytes = file.read(count)
        if len(data) != count:
            raise ValueError(f"{len(data)} of {count} bytes at {offset}")
        return data

    def _walk(self) -> Walked:
        walked = Walked()
        directories: set[int] = set()
        places: set[int] = set()
        stored = 0
        for number, page in enumerate(self._tiff.pages):
            where = self.label_of(number)
            if page.offset in directories:
                raise damaged(where, "a page that points back to an earlier one")
            directories.add(page.offset)
            stored += self._check_page(page, number, walked)
            place = next((offset for offset in page.dataoffsets if offset), 0)
            if stored > self.size or (place and place in places):
                raise damaged(where, "pages that share their voxels, more than the file can hold")
            places.add(place)
        if not directories:
            raise damaged(self.path, "no pages")
        if (after := self._next_page(page)) != 0:
            found = f"page {len(directories) + 1} at byte {after} of a file of {self.size}: it is truncated"
            raise damaged(self.path, found)
        walked.sections = walked.sections or list(range(len(directories)))
        if len(directories) == 1:
            start = page.dataoffsets[0]
            can_go_on = page.compression == UNCOMPRESSED and page.is_contiguous and not page.is_tiled
            walked.room = (self.size - start) // page.nbytes if can_go_on else 1
            walked.is_closed = not can_go_on or page.offset > start or start + page.nbytes == self.size
        return walked

    def _check_page(self, page: Any, number: int, walked: Walked) -> int:
        """Note what a page holds, and return how many bytes its voxels take in the file."""
        where = self.label_of(number)
        if not number and (page.is_lsm or page.is_stk):
            raise unreadable(where, "a MetaMorph or Zeiss LSM stack")
        kind = _kind_of(page, where)
        if walked.kinds and kind == walked.kinds[-1]:
            kind = walked.kinds[-1]  # one object for all pages of a long stack
        is_section = not int(page.subfiletype) & (_REDUCED | _MASK)
        if is_section and walked.sections and kind.channels not in (1, walked.kinds[walked.sections[0]].channels):
            raise not_grey(where, f"{kind.channels} channels, photometric {_name_of(page.photometric)}")
        stored, segments, unwritten = _check_segments(page, where, self.size)
        if unwritten and not walked.unwritten:
            walked.first_unwritten = where
        walked.segments += segments
        walked.unwritten += unwritten
        walked.kinds.append(kind)
        if is_section:
            walked.sections.append(number)
        if page.description:
            text = page.description if not number else page.description[:_DESCRIPTION_READ]
            walked.descriptions.append((number, text))
        return stored

    def _next_page(self, page: Any) -> int:
        """Return where the file says the page after `page` begins; 0 after the last."""
        layout, file = self._tiff.tiff, self._tiff.filehandle
        file.seek(page.offset)
        (tags,) = struct.unpack(layout.tagnoformat, file.read(layout.tagnosize))
        file.seek(page.offset + layout.tagnosize + tags * layout.tagsize)
        (offset,) = struct.unpack(layout.offsetformat, file.read(layout.offsetsize))
        return int(offset)


def read_description(path: Path) -> str:
    """Return the description of the first page of a TIFF file, without looking at any other.

    Raises
    ------
    InputError
        When it cannot be read.
    """
    check_file(path)
    with no_damage(path), tifffile.TiffFile(path, **_NO_FLAGS) as file:
        return str(file.pages[0].description)


def _kind_of(page: Any, where: str) -> Kind:
    samples, photometric = page.samplesperpixel, page.photometric
    grey = photometric in (MINISWHITE, MINISBLACK, PALETTE) and (samples == 1 or photometric == MINISBLACK)
    colour = samples >= 3 and (photometric == RGB or (photometric == YCBCR and page.compression in JPEG))
    if not grey and not colour:
        raise not_grey(where, f"{samples} channels, photometric {_name_of(photometric)}")
    if page.dtype is None or page.dtype.kind == "c" or not isinstance(page.bitspersample, int):
        raise unreadable(where, f"voxels of {page.bitspersample} bits, sample format {_name_of(page.sampleformat)}")
    if page.compression not in tifffile.TIFF.DECOMPRESSORS:
        raise unreadable(where, f"compression {_name_of(page.compression)}")
    axes = page.axes.lower().replace("s", "c")
    return Kind(tuple(page.shape), dtype_shown(page), axes, page.bitspersample, palette_of_indices(page))


def _check_segments(page: Any, where: str, size: int) -> tuple[int, int, int]:
    """Return the bytes of a page's strips or tiles, how many there are, and how many of them were never written."""
    expected = int(np.prod(page.chunked, dtype=object))
    for what, codes in (("offsets", _OFFSETS), ("lengths", _COUNTS)):
        tag = next((page.tags[code] for code in codes if code in page.tags), None)
        if tag is not None and tag.count != expected:
            raise damaged(where, f"{tag.count} {what} for {expected} strips or tiles")
    if not _count_bytes(page):
        raise unreadable(where, "compressed strips without their lengths (StripByteCounts)")
    if len(page.dataoffsets) != len(page.databytecounts) or not page.dataoffsets:
        raise damaged(where, f"{len(page.dataoffsets)} offsets for {len(page.databytecounts)} strips")
    offsets, counts = np.array(page.dataoffsets, np.int64), np.array(page.databytecounts, np.int64)
    written = (offsets != 0) | (counts != 0)
    ends = offsets + counts
    for at in np.flatnonzero(written & ((counts <= 0) | (offsets <= 0) | (ends > size) | (ends < 0)))[:1]:
        raise damaged(where, f"voxels at bytes {offsets[at]} to {ends[at]} of a file of {size}: it is truncated")
    stored = _check_apart(page, where, offsets[written], counts[written])
    empty = int(np.count_nonzero(~written))
    # What was never written takes no room on purpose, so it is counted as if it were stored.
    check_declared(where, page.shape, page.dtype, stored + empty * bytes_of_segment(page))
    check_declared(where, page.chunks, page.dtype, max(int(counts.max()), 1))
    if page.compression == UNCOMPRESSED:
        needed = _bytes_of_segments(page, expected)
        if np.any(short := written & (counts < needed)):
            if expected == 1 or not page.is_tiled:
                raise damaged(where, f"{stored} of {int(needed.sum())} bytes of voxels")
            raise damaged(where, f"{counts[short][0]} of {needed[short][0]} bytes of a tile")
    return stored, expected, empty


def _check_apart(page: Any, where: str, offsets: NDArray[np.int64], counts: NDArray[np.int64]) -> int:
    """Check that strips or tiles do not overlap, and return how many bytes they take together.

    A tile may stand for several that are alike, as background; strips never do.
    """
    places = np.stack([offsets, counts], axis=1)
    places = np.unique(places, axis=0) if page.is_tiled else places[np.argsort(offsets, kind="stable")]
    ends = places[:-1].sum(axis=1)
    if np.any(over := ends > places[1:, 0]):
        at = int(np.argmax(over))
        raise damaged(where, f"strips or tiles that overlap, at bytes {places[at + 1, 0]} to {ends[at]}")
    return int(places[:, 1].sum())


def _count_bytes(page: Any) -> bool:
    """Work out the lengths of strips where a writer left them out, and return whether they are known then."""
    if any(code in page.tags for code in (*_COUNTS, 514)):
        return True
    if page.compression != UNCOMPRESSED or page.is_tiled:
        return False
    page.databytecounts = tuple(_bytes_of_segments(page, len(page.dataoffsets)).tolist())
    page.__dict__.pop("is_contiguous", None)
    return True


def _bytes_of_segments(page: Any, count: int) -> NDArray[np.int64]:
    """Return the bytes of each strip or tile, uncompressed."""
    if page.is_tiled:
        return np.full(count, bytes_of_segment(page), np.int64)
    strips = -(-page.imagelength // page.rowsperstrip)
    rows = np.full(count, page.rowsperstrip, np.int64)
    rows[strips - 1 :: strips] = page.imagelength - (strips - 1) * page.rowsperstrip
    return rows * bytes_of_row(page, page.imagewidth)


def _name_of(value: Any) -> str:
    return str(getattr(value, "name", value))
