"""TIFF stacks: one section a page.

tifffile repairs what it can and only logs the damage, so that a truncated stack reads as a shorter one. So all pages
are walked before the first voxel is used, the metadata are compared with the pages that exist, and whatever tifffile
logs counts as damage. Pages are read directly, so that an OME-TIFF can never cause another file to be opened.
"""

from __future__ import annotations

import json
import logging
import re
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from segem.config import Selection
from segem.errors import InputError
from segem.io.readers.reader import Described, Reader
from segem.io.readers.stack import check_alike, check_declared, check_file, damaged, grey_levels, not_grey

MINISWHITE, MINISBLACK, PALETTE = 0, 1, 3

# Log lines of tifffile on files that are unusual but intact.
_HARMLESS = re.compile(r"coercing invalid ASCII|GDAL_NODATA|GeoKeyDirectoryTag|<get_resolution>")
_UNCOMPRESSED = 1
_DESCRIPTION_READ = 1_000_000


class TiffReader(Reader):
    """The pages of a TIFF file.

    Values are as a viewer shows them: an image stored with white as zero is inverted, and a grey palette is looked up.
    With a coloured palette, the indices are returned.

    Parameters
    ----------
    path : Path
        The file; classic or BigTIFF of either byte order.

    Raises
    ------
    InputError
        When the file is damaged, holds colour, or holds pages of different shape or type.
    """

    source: Path

    def __init__(self, path: Path, chosen: Selection) -> None:  # noqa: ARG002 - one channel leaves no choice
        size = check_file(path)
        with ExitStack() as opened:
            with _no_damage(path):
                self._tiff = opened.enter_context(tifffile.TiffFile(path, is_ome=False))
            with _no_damage(path):
                self._walk(path, size)
            opened.pop_all()  # without damage the file stays open

    def label_of(self, z: int) -> str:
        """Return the file and the page of a section."""
        return f"{self.source} page {z + 1} (z={z})"

    def close(self) -> None:
        """Close the file."""
        self._tiff.close()

    def read(self, part: tuple[slice, ...]) -> NDArray[Any]:
        """Read a part of the pages; each is decoded whole."""
        return np.stack([self._page(z)[part[1:]] for z in range(part[0].start, part[0].stop)])

    def _page(self, z: int) -> NDArray[Any]:
        where = self.label_of(z)
        with _no_damage(where):
            page = self._tiff.pages[0 if self._packed_at is not None else z]
            if self._packed_at is None:
                section = page.asarray()
            else:
                count, dtype = page.shape[0] * page.shape[1], page.dtype.newbyteorder(self._tiff.byteorder)
                offset = self._packed_at + z * count * dtype.itemsize
                section = np.fromfile(self.source, dtype, count, offset=offset).reshape(page.shape)
        return _as_shown(section, page, where)

    def _walk(self, path: Path, size: int) -> None:
        offsets: set[int] = set()
        declared = stored = 0
        for z, page in enumerate(self._tiff.pages):
            where = f"{path} page {z + 1} (z={z})"
            if page.offset in offsets:
                raise damaged(where, "a page that points back to an earlier one")
            offsets.add(page.offset)
            _check_page(page, where, size)
            if z == 0:
                shape, dtype = page.shape, _shown_dtype(page)
            check_alike(where, (page.shape, _shown_dtype(page)), f"{path} page 1 (z=0)", (shape, dtype))
            declared += _declared_pages(page, where)
            stored += sum(page.databytecounts)
            if stored > size:
                raise damaged(where, "pages that share their voxels, more than the file can hold")
        if not offsets:
            raise damaged(path, "no pages")
        if (after := self._next_page(page)) != 0:
            raise damaged(path, f"page {len(offsets) + 1} at byte {after} of a file of {size}: it is truncated")
        count, self._packed_at = len(offsets), None
        if declared > count == 1 and _is_packed(page, declared, size):
            # ImageJ writes stacks of more than 4 GiB as one page with all further sections behind it.
            count, self._packed_at = declared, page.dataoffsets[0]
        elif declared not in (0, count):
            raise damaged(path, f"{count} pages, while its metadata promise {declared}")
        super().__init__(path, Described((count, *shape), dtype, "zyx", "the order of its pages"))

    def _next_page(self, page: Any) -> int:
        """Return where the file says the page after `page` begins; 0 after the last."""
        layout, file = self._tiff.tiff, self._tiff.filehandle
        file.seek(page.offset)
        (tags,) = struct.unpack(layout.tagnoformat, file.read(layout.tagnosize))
        file.seek(page.offset + layout.tagnosize + tags * layout.tagsize)
        (offset,) = struct.unpack(layout.offsetformat, file.read(layout.offsetsize))
        return int(offset)


def _check_page(page: Any, where: str, size: int) -> None:
    if page.samplesperpixel != 1 or page.photometric not in (MINISWHITE, MINISBLACK, PALETTE):
        raise not_grey(where, f"{page.samplesperpixel} channels, photometric {_name_of(page.photometric)}")
    if len(page.shape) != 2 or page.dtype is None:
        raise damaged(where, f"a page of shape {page.shape} and type {page.dtype}")
    check_declared(where, page.shape, page.dtype, sum(page.databytecounts))
    if not page.dataoffsets or len(page.dataoffsets) != len(page.databytecounts):
        raise damaged(where, f"{len(page.dataoffsets)} offsets for {len(page.databytecounts)} strips")
    for offset, length in zip(page.dataoffsets, page.databytecounts, strict=True):
        if length <= 0 or offset <= 0 or offset + length > size:
            raise damaged(where, f"voxels at bytes {offset} to {offset + length} of a file of {size}: it is truncated")
    expected = page.shape[0] * -(-page.shape[1] * page.bitspersample // 8)
    if page.compression == _UNCOMPRESSED and sum(page.databytecounts) < expected:
        raise damaged(where, f"{sum(page.databytecounts)} of {expected} bytes of voxels")


def _declared_pages(page: Any, where: str) -> int:
    """Return how many pages the description of a page promises; 0 where it promises nothing."""
    text = str(page.description)[:_DESCRIPTION_READ]
    if text.startswith("ImageJ="):
        named = {key: int(n) for key, n in re.findall(r"^(images|channels|slices|frames)=(\d+)\s*$", text, re.M)}
        _check_one_axis(where, {key: named.get(key, 1) for key in ("channels", "slices", "frames")})
        return named.get("images", 0)
    if text.startswith('{"shape":'):
        try:
            shape = json.loads(text)["shape"]
            return int(np.prod(shape, dtype=object)) // int(np.prod(page.shape))
        except (ValueError, TypeError, KeyError) as error:
            raise damaged(where, None, cause=error) from error
    if "<OME" in text[:10_000]:
        return _declared_by_ome(text, where)
    return 0


def _declared_by_ome(text: str, where: str) -> int:
    total = 0
    for pixels in re.findall(r"<(?:\w+:)?Pixels\b[^>]*>", text):
        sizes = {axis: int(n) for axis, n in re.findall(r'\bSize([ZCT])="(\d+)"', pixels)}
        _check_one_axis(where, sizes)
        total += int(np.prod(list(sizes.values()), dtype=object))
    return total


def _check_one_axis(where: str, sizes: dict[str, int]) -> None:
    if sum(n > 1 for n in sizes.values()) > 1:
        found = ", ".join(f"{n} {axis}" for axis, n in sizes.items())
        raise InputError(
            "a stack with more axes than z", where=where, found=found, fix="export one channel at one time point"
        )


def _is_packed(page: Any, count: int, size: int) -> bool:
    length = page.shape[0] * page.shape[1] * page.dtype.itemsize
    return bool(
        page.compression == _UNCOMPRESSED
        and page.is_contiguous
        and page.bitspersample == 8 * page.dtype.itemsize
        and page.dataoffsets[0] + count * length <= size
    )


def _as_shown(section: NDArray[Any], page: Any, where: str) -> NDArray[Any]:
    if page.photometric == MINISWHITE:
        if section.dtype == bool:
            return ~section
        if section.dtype.kind == "u":
            inverted: NDArray[Any] = section.dtype.type(2**page.bitspersample - 1) - section
            return inverted
    if page.photometric == PALETTE and (levels := _palette_of(page)) is not None:
        if section.size and int(section.max()) >= levels.size:
            raise damaged(where, f"index {section.max()} in a palette of {levels.size} entries")
        looked_up: NDArray[Any] = levels[section.astype(np.intp, copy=False)]
        return looked_up
    return section


def _shown_dtype(page: Any) -> np.dtype[Any]:
    greyed = page.photometric == PALETTE and _palette_of(page) is not None
    return np.dtype(np.uint8 if greyed else page.dtype)


def _palette_of(page: Any) -> NDArray[np.uint8] | None:
    if page.colormap is None or page.dtype.kind not in "bu":
        return None
    # TIFF palettes have 16 bits, of which the upper 8 are the grey.
    return grey_levels((np.asarray(page.colormap) >> 8).astype(np.uint8).T)


def _name_of(photometric: Any) -> str:
    return str(getattr(photometric, "name", photometric))


@contextmanager
def _no_damage(where: object) -> Iterator[None]:
    """Raise InputError for anything that tifffile raises or logs while the body runs."""
    logger = logging.getLogger("tifffile")
    heard = _Listener()
    propagate, level = logger.propagate, logger.level
    logger.addHandler(heard)
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        raise InputError("the file cannot be read", where=where, found=error, fix="check the disk") from error
    except Exception as error:
        # tifffile and its codecs raise a dozen unrelated types on damage.
        raise damaged(where, None, cause=error) from error
    finally:
        logger.removeHandler(heard)
        logger.propagate, logger.level = propagate, level
    if heard.messages:
        raise damaged(where, "; ".join(heard.messages))


class _Listener(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.thread = threading.get_ident()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.thread == self.thread and not _HARMLESS.search(message) and len(self.messages) < 3:
            self.messages.append(message)
