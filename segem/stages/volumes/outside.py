"""Finds what of an image is no tissue while it is read, and writes it as a label."""

from __future__ import annotations

import math
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.geometry import ZYX, Box, Halo, ceil_div, grid
from segem.io.blocks import read_block
from segem.io.volume import OUTSIDE, Volume, write_block
from segem.kernels.normalize import histogram
from segem.kernels.outside import (
    CELL_PX,
    LEAST_LEVELS,
    NO_VALUE,
    WRITING_PX,
    find_constant_cells,
    find_outside_cells,
    grow_outside,
)

Part = tuple[slice, slice]
"""Rows and columns of cells."""

_WORTH_A_WORD = 0.0005
"""Share of the volume from which a user is told; what a scale bar covers is less."""


class Areas:
    """The areas of each section that are no tissue, by their cells, see `segem.kernels.outside`."""

    def __init__(self, shape: ZYX) -> None:
        self._shape = (ceil_div(shape[1], CELL_PX), ceil_div(shape[2], CELL_PX))
        # Compressed, here and below: a map of a large section takes tens of megabytes, and most of it is the same.
        self._unfinished: dict[int, list[tuple[Part, bytes]]] = defaultdict(list)
        self._found: dict[int, list[tuple[int, bytes]]] = {}
        self._unpacked: tuple[int | None, list[tuple[int, NDArray[np.bool_]]]] = (None, [])

    def __contains__(self, z: int) -> bool:
        return z in self._found

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, z: int, start: tuple[int, int], part: NDArray[Any]) -> None:
        """Look at a part of section `z` that starts at a row and a column that are multiples of `CELL_PX`."""
        cells = find_constant_cells(part)
        if (cells != NO_VALUE).any():
            (y, x), (height, width) = (n // CELL_PX for n in start), cells.shape
            at = slice(y, y + height), slice(x, x + width)
            self._unfinished[z].append((at, zlib.compress(cells.data, 1)))

    def finish(self, z: int, levels: int) -> None:
        """Find the areas of a section of so many intensities, all parts of which were added."""
        parts = self._unfinished.pop(z, [])
        if not parts or levels < LEAST_LEVELS:
            return
        cells = np.full(self._shape, NO_VALUE, np.int32)
        for at, packed in parts:
            cells[at] = np.frombuffer(zlib.decompress(packed), np.int32).reshape(cells[at].shape)
        areas = [(value, zlib.compress(np.packbits(of_it).data, 1)) for value, of_it in find_outside_cells(cells)]
        if areas:
            self._found[z] = areas

    def within(self, z: int, rows: slice, columns: slice) -> list[tuple[int, NDArray[np.bool_]]]:
        """Return value and cells of the areas in a part of a section, which starts at whole cells."""
        part = tuple(slice(one.start // CELL_PX, ceil_div(one.stop, CELL_PX)) for one in (rows, columns))
        if self._unpacked[0] != z:
            # All parts of a large section are asked for, one after the other.
            self._unpacked = z, [(value, self._unpack(packed)) for value, packed in self._found.get(z, ())]
        return [(value, cells[part]) for value, cells in self._unpacked[1]]

    def _unpack(self, packed: bytes) -> NDArray[np.bool_]:
        bits = np.frombuffer(zlib.decompress(packed), np.uint8)
        return np.unpackbits(bits, count=math.prod(self._shape)).astype(bool).reshape(self._shape)


@dataclass
class Outside:
    """What of a volume is no tissue."""

    shape: ZYX
    counts: NDArray[np.int64]
    """How many voxels of each intensity."""
    sections: dict[int, int] = field(default_factory=dict)
    """Voxels that are no tissue, by the section."""
    whole: Collection[int] = ()
    """Sections without tissue."""

    @property
    def voxels(self) -> int:
        """Number of voxels."""
        return sum(self.sections.values())

    def facts(self) -> dict[str, Any]:
        """Return the facts that the volume keeps."""
        area = self.shape[1] * self.shape[2]
        return {
            "voxels": self.voxels,
            "fraction": self.voxels / (self.shape[0] * area),
            "sections": {str(z): voxels / area for z, voxels in self.sections.items()},
        }

    def warnings(self, not_numbers: int) -> Iterator[str]:
        """Yield what the user should know, where so many voxels are NaN or infinite."""
        if not_numbers:
            yield f"{not_numbers} voxels are NaN or infinite: they count as no tissue"
        partly = {z: voxels for z, voxels in self.sections.items() if z not in self.whole}
        share = sum(partly.values()) / np.prod(self.shape, dtype=float)
        if share >= _WORTH_A_WORD:
            yield (
                f"{share:.1%} of the volume, in {len(partly)} of {self.shape[0]} sections, is no tissue: areas of one "
                "intensity, such as padding or bars, which no mask or score counts".replace("%", " %", 1)
            )


def write_outside(volume: Volume, areas: Areas, whole: Collection[int], nothing: int | None) -> Outside:
    """Write the label ``outside`` of a volume whose image is written; none where all of it is tissue.

    Parameters
    ----------
    volume : Volume
        Not yet open anywhere else.
    areas : Areas
        What was found while its image was read.
    whole : collection of int
        Sections without tissue.
    nothing : int, optional
        The intensity that stands for no value.

    Returns
    -------
    Outside
    """
    found = Outside(volume.shape, np.zeros(int(np.iinfo(volume.dtype).max) + 1, np.int64), whole=whole)
    if not areas and not whole and nothing is None:
        return found
    volume.add_label(OUTSIDE, np.uint8)
    if volume.outside is None:
        raise TypeError("a label that was just added is not there")
    for _, box in grid(volume.shape, volume.write_block):
        block = np.zeros(box.shape, np.uint8)
        for z in range(box.start[0], box.stop[0]):
            if z in whole or z in areas or nothing is not None:
                section = Box((z, *box.start[1:]), (z + 1, *box.stop[1:]))
                image, mask = _find(volume, section, areas, nothing)
                if z in whole:
                    mask[:] = True
                block[z - box.start[0]] = mask
                if mask.any():
                    found.counts += histogram(image[mask])
                    found.sections[z] = found.sections.get(z, 0) + int(np.count_nonzero(mask))
        write_block(volume.outside, box, block)
    return found


def _find(volume: Volume, section: Box, areas: Areas, nothing: int | None) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the intensities of a part of a section, and where they are no tissue."""
    # Far enough to see whether something is enclosed by an area, and a multiple of a cell.
    seen = section.grow(Halo(0, WRITING_PX, WRITING_PX), Box.of_shape(volume.shape))
    (image,) = read_block(volume.raw, seen, "run the command again")
    _, rows, columns = seen.slices
    inner = section.relative_to(seen.start).slices[1:]
    mask = grow_outside(image, areas.within(section.start[0], rows, columns))
    if nothing is not None:
        mask |= image == nothing
    return image[inner], mask[inner]
