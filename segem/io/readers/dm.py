"""DM3 and DM4 files of Gatan's DigitalMicrograph.

The format is not published by Gatan; it was described by C. Boothroyd and G. Jefferis from files. A file is a tree of
tags, of which those of ``ImageList`` hold images. Read here, since packages for it either take DM4 alone, hold whole
files in memory, or trust the lengths that a damaged file declares.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from segem.config import Selection
from segem.errors import InputError
from segem.io.readers.axes import UNKNOWN_AXIS
from segem.io.readers.contiguous import ContiguousArray
from segem.io.readers.reader import Described, Reader, StatedVoxelSize
from segem.io.readers.stack import check_file, damaged, not_grey

Tags = dict[str, Any]
"""Tags by their names; those without a name by their number."""

_GROUP, _DATA = 20, 21
_STRUCT, _STRING, _ARRAY = 15, 18, 20
_NUMBERS = {2: "i2", 3: "i4", 4: "u2", 5: "u4", 6: "f4", 7: "f8", 8: "u1", 9: "u1", 10: "i1", 11: "i8", 12: "u8"}
"""Types of numbers in tags."""
_MARK = b"%%%%"
_DEEPEST = 64
_LONGEST_TEXT = 1024

_PIXELS = {1: "i2", 2: "f4", 6: "u1", 7: "i4", 9: "i1", 10: "u2", 11: "u4", 12: "f8", 14: "u1", 39: "i8", 40: "u8"}
"""Types of images."""
_COLOURS = (8, 23)
_NM = {
    "nm": 1.0,
    "\u00b5m": 1e3,
    "\u03bcm": 1e3,
    "um": 1e3,
    "mm": 1e6,
    "m": 1e9,
    "pm": 1e-3,
    "\u00c5": 0.1,
    "\u212b": 0.1,
    "A": 0.1,
}
"""Units of length; Unicode has two signs for micro, and two for Angstrom."""
_NO_LENGTHS = ("eV", "keV", "1/nm", "mrad")


class DmReader(Reader):
    """The image, or the stack of images, in a DM3 or DM4 file.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    InputError
        When the file is truncated or damaged, or holds several images, colours, complex numbers or spectra.
    """

    def __init__(self, path: Path, chosen: Selection) -> None:  # noqa: ARG002 - there is one image
        size = check_file(path)
        with path.open("rb") as file:
            reader = _TagReader(path, file, size)
            image = _choose_image(reader.read(), path)
        shape, dtype, data = _extents(image, path), _dtype_of(image, reader.order, path), image.get("Data")
        stored = data.count * data.dtype.itemsize if isinstance(data, _Extent) else 0
        if not isinstance(data, _Extent) or stored != math.prod(shape) * dtype.itemsize:
            raise damaged(path, f"{stored} bytes for an image of shape {shape} {dtype}")
        self._voxels = ContiguousArray(path, data.offset, shape, dtype)
        self._voxels.check(size)
        axes = "zyx"[-len(shape) :] if len(shape) <= 3 else UNKNOWN_AXIS * len(shape)
        super().__init__(path, Described(shape, dtype, axes, "the format", voxel=_voxel_of(image, path)))

    def label_of(self, z: int) -> str:
        """Return the file, and the section where there are several."""
        return f"{self.source} section {z + 1} (z={z})" if len(self.found.shape) > 2 else str(self.source)

    def read(self, part: tuple[slice, ...]) -> NDArray[Any]:
        """Read a part of the image."""
        return self._voxels.read(part)


@dataclass(frozen=True)
class _Extent:
    """Where an array lies in the file."""

    offset: int
    dtype: np.dtype[Any]
    count: int
    beginning: bytes
    """Enough of it for a text."""

    @property
    def text(self) -> str:
        """What it says, if it is a text."""
        return self.beginning[: self.count * self.dtype.itemsize].decode(
            "utf-16-be" if self.dtype.str[0] == ">" else "utf-16-le", "replace"
        )


class _TagReader:
    """Reads the tree of tags; voxels, and whatever else is long, stay in the file.

    Lengths and counts are big endian in every file, and the values of tags in the order that its header names.
    """

    def __init__(self, path: Path, file: BinaryIO, size: int) -> None:
        self._path, self._file, self._size = path, file, size
        self._integer, self.order = ">i", "<"

    def read(self) -> Tags:
        """Return the tags; `order` is then the byte order of values."""
        (version,) = struct.unpack(">i", self._take(4))
        if version not in (3, 4):
            raise damaged(self._path, f"version {version} of a DM file, where 3 or 4 is wanted")
        self._integer = ">q" if version == 4 else ">i"
        length, (little,) = self._count(), struct.unpack(">i", self._take(4))
        if little not in (0, 1):
            raise damaged(self._path, f"byte order {little} in a DM file")
        if self._file.tell() + length > self._size:
            raise damaged(self._path, f"{self._size} of {self._file.tell() + length} bytes: it is truncated")
        self.order = "<" if little else ">"
        return self._group(0)

    def _group(self, depth: int) -> Tags:
        if depth > _DEEPEST:
            raise damaged(self._path, f"groups of tags {depth} deep")
        self._take(2)
        tags: Tags = {}
        for number in range(self._count()):
            kind, name_length = struct.unpack(">BH", self._take(3))
            name = self._take(name_length).decode("latin-1") or str(number)
            if self._integer == ">q":
                # The length of the tag, which follows from what is in it.
                self._take(8)
            if kind not in (_GROUP, _DATA):
                raise damaged(self._path, f"a tag of kind {kind} at byte {self._file.tell()}")
            tags[name] = self._group(depth + 1) if kind == _GROUP else self._value()
        return tags

    def _value(self) -> Any:
        """Return a number or an array; None for anything else, since it says nothing of an image."""
        if (mark := self._take(len(_MARK))) != _MARK:
            raise damaged(self._path, f"{mark!r} at byte {self._file.tell()}, where a value begins")
        kind, *more = self._counts() or (0,)
        if kind in _NUMBERS:
            dtype = self._dtype(kind)
            return np.frombuffer(self._take(dtype.itemsize), dtype)[0].item()
        if kind == _ARRAY and len(more) == 2:
            dtype, at = self._dtype(more[0]), self._file.tell()
            self._skip(more[1] * dtype.itemsize)
            after = self._file.tell()
            self._file.seek(at)
            found = _Extent(at, dtype, more[1], self._file.read(_LONGEST_TEXT))
            self._file.seek(after)
            return found
        if kind == _STRUCT:
            self._skip(sum(self._dtype(one).itemsize for one in more[3::2]))
        elif kind == _ARRAY and more[:1] == [_STRUCT]:
            self._skip(sum(self._dtype(one).itemsize for one in more[4:-1:2]) * more[-1])
        elif kind == _STRING and len(more) == 1:
            self._skip(more[0])
        else:
            raise damaged(self._path, f"a value of type {kind} at byte {self._file.tell()}")
        return None

    def _dtype(self, kind: int) -> np.dtype[Any]:
        if kind not in _NUMBERS:
            raise damaged(self._path, f"a number of type {kind} at byte {self._file.tell()}")
        return np.dtype(self.order + _NUMBERS[kind])

    def _counts(self) -> tuple[int, ...]:
        count, width = self._count(), struct.calcsize(self._integer)
        return struct.unpack(f">{count}{self._integer[1]}", self._take(count * width))

    def _count(self) -> int:
        (count,) = struct.unpack(self._integer, self._take(struct.calcsize(self._integer)))
        if count < 0:
            raise damaged(self._path, f"a length of {count} at byte {self._file.tell()}")
        return int(count)

    def _take(self, count: int) -> bytes:
        # Before it is read: a damaged length would otherwise ask for any amount of memory.
        self._require(count)
        return self._file.read(count)

    def _skip(self, count: int) -> None:
        self._require(count)
        self._file.seek(count, 1)

    def _require(self, count: int) -> None:
        if not 0 <= count <= self._size - self._file.tell():
            raise damaged(self._path, f"{count} bytes at byte {self._file.tell()} of a file of {self._size}")


def _choose_image(tags: Tags, path: Path) -> Tags:
    """Return the one image that is no thumbnail of another."""
    thumbnails = {str(one.get("ImageIndex")) for one in _groups(tags.get("Thumbnails"))}
    listed = tags.get("ImageList")
    images: dict[str, Tags] = {
        number: one["ImageData"]
        for number, one in (listed.items() if isinstance(listed, dict) else ())
        if isinstance(one, dict) and isinstance(one.get("ImageData"), dict)
    }
    images = {number: one for number, one in images.items() if number not in thumbnails} or images
    if len(images) != 1:
        raise InputError(
            "which image of the file is meant?" if images else "no image in the file",
            where=path,
            expected="one image or one stack, beside its thumbnail",
            found=f"{len(images)} images",
            fix="save the one that is wanted to a file of its own in DigitalMicrograph",
        )
    (image,) = images.values()
    return image


def _dtype_of(image: Tags, order: str, path: Path) -> np.dtype[Any]:
    kind = image.get("DataType")
    if kind in _COLOURS:
        raise not_grey(path, "red, green and blue")
    if kind not in _PIXELS:
        raise InputError(
            "numbers that are no intensities",
            where=path,
            expected="whole or real numbers",
            found=f"type {kind} of a DM image, complex numbers for example",
            fix="convert it in DigitalMicrograph (Edit > Change Data Type) to 2-byte unsigned integers",
        )
    return np.dtype(order + _PIXELS[kind])


def _voxel_of(image: Tags, path: Path) -> StatedVoxelSize | None:
    """Return the calibration of the axes, of which x comes first."""
    calibrations = image.get("Calibrations")
    sizes: list[float | None] = []
    for one in _groups(calibrations.get("Dimension") if isinstance(calibrations, dict) else None):
        unit, scale = one.get("Units"), one.get("Scale")
        name = unit.text.strip("\0 ") if isinstance(unit, _Extent) else ""
        if name in _NO_LENGTHS:
            raise InputError(
                "a spectrum or a diffraction pattern, and no image of tissue",
                where=path,
                found=f"an axis in {name}",
                fix="give the image itself",
            )
        sizes.append(abs(scale) * _NM[name] if name in _NM and isinstance(scale, float) else None)
    x, y, z = (*sizes, None, None, None)[:3]
    return None if x is y is z is None else StatedVoxelSize(z, y, x, "the calibration in the DM file")


def _groups(tags: object) -> list[Tags]:
    return [one for one in tags.values() if isinstance(one, dict)] if isinstance(tags, dict) else []


def _extents(image: Tags, path: Path) -> tuple[int, ...]:
    """Return the shape of an image, x last."""
    stated = image.get("Dimensions")
    extents = tuple(stated.values()) if isinstance(stated, dict) else ()
    if len(extents) < 2 or not all(isinstance(one, int) and one > 0 for one in extents):
        raise damaged(path, f"an image of extents {extents}")
    return extents[::-1]
