"""MRC files (also .rec, .map, .st): stacks and tomograms of transmission microscopes.

The layout is that of MRC2014 (Cheng et al., J. Struct. Biol. 192:146, 2015, doi:10.1016/j.jsb.2015.04.002), with what
IMOD notes in the header.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE
from mrcfile.utils import dtype_from_mode
from numpy.typing import NDArray

from segem.config import Selection
from segem.errors import InputError
from segem.io.readers.contiguous import ContiguousArray
from segem.io.readers.reader import Described, Reader, StatedVoxelSize
from segem.io.readers.stack import check_file, damaged, not_grey

Order = Literal["<", ">"]
ORDERS: tuple[Order, Order] = ("<", ">")
_NM_PER_ANGSTROM = 0.1
_BYTES, _COLOURS, _LAST_MODE = 0, 16, 101
_OTHER_MODES = {3: "complex numbers", 4: "complex numbers", 101: "4 bits a voxel"}
_LONGEST = 2**20
"""Edge in voxels that no stack has, but that a size read in the wrong byte order mostly exceeds."""
_IMAGE_STACK, _VOLUME_STACKS = 0, range(401, 631)
"""Space groups that stand for a stack of images, and for several volumes."""

_IMOD_STAMP_AT, _IMOD_STAMP, _SIGNED_BYTES, _HALF_BYTES = 40, 1146047817, 1, 16
"""Where IMOD's stamp and flags lie in the field that mrcfile calls extra2; the flags that bytes are signed, and that
each holds two voxels."""
_SAMPLED, _SAMPLED_VOXELS, _MOST_CLASSES = 8, 2**20, 16
"""Sections, and voxels of each, by which signed bytes are told from unsigned ones; how many values may be classes."""


class MrcReader(Reader):
    """The sections of an MRC file.

    Bytes are signed by the standard, unsigned in most files of microscopes, and in those of IMOD either, with 128 taken
    off where they are signed. IMOD's flag decides, then the smallest and largest value in the header, then the
    histogram.

    Parameters
    ----------
    path : Path
        The file, of either byte order, with or without an extended header.

    Raises
    ------
    InputError
        When the file is truncated, damaged, or holds complex numbers, colours or several volumes.
    """

    def __init__(self, path: Path, chosen: Selection) -> None:  # noqa: ARG002 - the header leaves no choice
        size = check_file(path)
        header = _read_header(path, size)
        self._voxels = ContiguousArray(path, header.data_offset, header.shape, header.dtype)
        self._voxels.check(size)
        warnings = []
        if beyond := size - header.data_stop:
            warnings.append(f"{path.name}: {beyond} bytes after the last section are ignored")
        self._added, dtype = 0, header.dtype
        if header["mode"] == _BYTES:
            self._added, dtype, doubts = self._tell_bytes(header)
            warnings += doubts
        found = Described(header.shape, dtype, header.axes, "its header", voxel=header.voxel, warnings=tuple(warnings))
        super().__init__(path, found)

    def label_of(self, z: int) -> str:
        """Return the file and the section."""
        return f"{self.source} section {z + 1} (z={z})"

    def read(self, part: tuple[slice, ...]) -> NDArray[Any]:
        """Read a part of the sections."""
        voxels = self._voxels.read(part)
        if self._added:
            # It wraps around, as it must: the byte 128, which is -128, stands for 0.
            return voxels + np.uint8(self._added)
        return voxels if voxels.dtype.itemsize > 1 else voxels.view(self.found.dtype)

    def _tell_bytes(self, header: _Header) -> tuple[int, np.dtype[Any], list[str]]:
        """Return what is to be added to the bytes, what type they then have, and a warning where that is a guess."""
        signed, unsigned = np.dtype(np.int8), np.dtype(np.uint8)
        if (flags := header.imod_flags) is not None:
            return 128 if flags & _SIGNED_BYTES else 0, unsigned, []
        least, largest = float(header.fields["dmin"]), float(header.fields["dmax"])
        # By the standard, a largest value below the smallest means that neither is known.
        if least <= largest and (least < 0 or largest > np.iinfo(np.int8).max):
            return 0, signed if least < 0 else unsigned, []
        sample = self._sample()
        if least < largest and int(sample.max()) <= np.iinfo(np.int8).max:
            # From 0 to 127, where both ways are the same.
            return 0, unsigned, []
        dtype = signed if are_signed(sample) else unsigned
        span = f"{np.iinfo(dtype).min} to {np.iinfo(dtype).max}"
        return 0, dtype, [f"{self._voxels.path.name} does not say whether its bytes are signed: taken as {span}"]

    def _sample(self) -> NDArray[np.uint8]:
        """Return the middle of some sections, spread over the file."""
        depth, height, width = self._voxels.shape
        rows = max(1, min(height, _SAMPLED_VOXELS // width))
        band = slice((height - rows) // 2, (height - rows) // 2 + rows), slice(0, width)
        chosen = sorted({index * depth // _SAMPLED for index in range(_SAMPLED)})
        return np.concatenate([self._voxels.read((slice(z, z + 1), *band)).ravel() for z in chosen])


def are_signed(voxels: NDArray[np.uint8]) -> bool:
    """Return whether bytes are signed intensities: read in the wrong way, the greys of tissue are cut in the middle.

    The two halves then lie at both ends of the range, so the right way is the one with the smaller variance. A few
    values are classes, which nobody numbers below 0.

    Examples
    --------
    >>> greys = np.arange(100, 160)
    >>> are_signed(greys.astype(np.uint8)), are_signed((greys - 128).astype(np.int8).view(np.uint8))
    (False, True)
    """
    values = np.arange(256, dtype=np.uint8)
    counts = np.bincount(voxels.ravel(), minlength=values.size)
    signed, unsigned = (
        float(np.cov(read.astype(float), fweights=counts, ddof=0)) for read in (values.view(np.int8), values)
    )
    return signed < unsigned and int(np.count_nonzero(counts)) > _MOST_CLASSES


class _Header:
    """The header of an MRC file, in one of the two byte orders."""

    def __init__(self, path: Path, content: bytes, order: Order) -> None:
        self.path = path
        self.fields: Any = np.frombuffer(content, HEADER_DTYPE.newbyteorder(order))[0]
        self.order = order

    def __getitem__(self, name: str) -> int:
        return int(self.fields[name])

    @property
    def data_offset(self) -> int:
        return int(HEADER_DTYPE.itemsize) + self["nsymbt"]

    @property
    def data_stop(self) -> int:
        return self.data_offset + math.prod(self.shape) * self.dtype.itemsize

    @property
    def shape(self) -> tuple[int, int, int]:
        return self["nz"], self["ny"], self["nx"]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the voxels as they are stored, bytes as unsigned ones."""
        mode = self["mode"]
        packed = mode == _BYTES and (self.imod_flags or 0) & _HALF_BYTES
        if mode == _BYTES and not packed:
            return np.dtype(np.uint8)
        if mode == _COLOURS:
            raise not_grey(self.path, "mode 16, red, green and blue")
        try:
            dtype = np.dtype(np.void) if packed else np.dtype(dtype_from_mode(mode))
        except ValueError:
            dtype = np.dtype(np.void)
        if dtype.kind not in "iuf":
            raise InputError(
                "numbers that are no intensities",
                where=self.path,
                expected="bytes, 16 bit, float32 or float16 (mode 0, 1, 6, 2 or 12)",
                found=f"mode {mode}, {_OTHER_MODES.get(_LAST_MODE if packed else mode, 'which is not known')}",
                fix="convert it with IMOD: newstack -mode 1 IN OUT",
            )
        return dtype.newbyteorder(self.order)

    @property
    def axes(self) -> str:
        """The letter of each axis of the array: sections, rows, columns."""
        order = self["maps"], self["mapr"], self["mapc"]
        if order == (0, 0, 0):
            # Left empty by old programs, which knew no other order.
            return "zyx"
        if sorted(order) != [1, 2, 3]:
            raise damaged(self.path, f"axes {order}, where 1, 2 and 3 are wanted")
        return "".join("xyz"[axis - 1] for axis in order)

    @property
    def voxel(self) -> StatedVoxelSize | None:
        """The voxel size, if it is known."""
        cell, z_is_section = self.fields["cella"], self["ispg"] == _IMAGE_STACK
        size = {axis: float(cell[axis]) / self[f"m{axis}"] if self[f"m{axis}"] > 0 else 0.0 for axis in "zyx"}
        # Programs write a cell of 1 Angstrom a voxel, or none, where they do not know it.
        if set(size.values()) <= {0.0, 1.0} or min(size["y"], size["x"]) <= 0:
            return None
        z, y, x = (size[axis] * _NM_PER_ANGSTROM for axis in "zyx")
        # In a stack of images, as opposed to a volume, what stands there for z is no distance between sections.
        return StatedVoxelSize(None if z_is_section or z <= 0 else z, y, x, "the header of the MRC file")

    @property
    def imod_flags(self) -> int | None:
        """What IMOD notes, or None in files of other programs."""
        integer = np.dtype(np.int32).newbyteorder(self.order)
        stamp, flags = np.frombuffer(bytes(self.fields["extra2"]), integer, 2, _IMOD_STAMP_AT)
        return int(flags) if int(stamp) == _IMOD_STAMP else None

    @property
    def is_plausible(self) -> bool:
        sides = (*self.shape, *(self[name] for name in ("mx", "my", "mz")))
        return min(self.shape) > 0 and max(sides) <= _LONGEST and 0 <= self["mode"] <= _LAST_MODE

    @property
    def is_stamped(self) -> bool:
        """Whether the file says that this is its byte order."""
        return bytes(self.fields["machst"])[0] == {"<": 0x44, ">": 0x11}[self.order]


def _read_header(path: Path, size: int) -> _Header:
    if size < HEADER_DTYPE.itemsize:
        raise damaged(path, f"{size} bytes, fewer than the header of an MRC file has")
    with path.open("rb") as file:
        content = file.read(HEADER_DTYPE.itemsize)
    found = [header for header in (_Header(path, content, order) for order in ORDERS) if header.is_plausible]
    if len(found) > 1:
        # The stamp is missing in files from before 2000 and wrong in some, so it is asked only where both may be right.
        found = [header for header in found if header.is_stamped] or [one for one in found if one.data_stop <= size]
    if len(found) != 1:
        raise damaged(path, "no header of an MRC file")
    (header,) = found
    if not 0 <= header["nsymbt"] <= size:
        raise damaged(path, f"an extended header of {header['nsymbt']} bytes in a file of {size}")
    if header["ispg"] in _VOLUME_STACKS and header["mz"] not in (0, header["nz"]):
        raise InputError(
            "a stack of several volumes",
            where=path,
            found=f"{header['nz']} sections, {header['mz']} in each volume",
            fix="write one of them to a file of its own (IMOD: newstack)",
        )
    return header
