"""Finds what of an image is no tissue while it is read, and writes it as a label."""

from __future__ import annotations

import math
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from segem.geometry import ZYX, Box, Halo, ceil_div, grid
from segem.io.blocks import read_block
from segem.io.volume import OUTSIDE, Volume, write_block
from segem.kernels.flat import FlatArea, find_flat_areas, find_tolerance, has_flat_run
from segem.kernels.normalize import histogram
from segem.kernels.outside import (
    CELL_PX,
    LEAST_LEVELS,
    NO_VALUE,
    WRITING_PX,
    Area,
    choose_cell_px,
    find_constant_cells,
    find_outside_cells,
    grow_outside,
    measure_cells,
    spread_cells,
)

Part = tuple[slice, slice]
"""Rows and columns of cells."""

_WORTH_A_WORD = 0.0005
"""Share of the volume from which a user is told; what a scale bar covers is less."""
_WORTH_A_FLAG = 0.01
"""Share of a section."""


class Areas:
    """The areas of each section that are no tissue, by their cells, see `segem.kernels.outside`."""

    def __init__(self, shape: ZYX) -> None:
        self._plane = (shape[1], shape[2])
        self._cell_px = choose_cell_px(self._plane)
        # Compressed, here and below: a map of a large section takes tens of megabytes, and most of it is the same.
        self._unfinished: dict[int, list[tuple[Part, bytes]]] = defaultdict(list)
        self._edges: dict[int, _Edges] = {}
        self._found: dict[int, list[_Packed]] = {}
        self._unpacked: tuple[int | None, list[Area]] = (None, [])
        self.doubtful: dict[int, int] = {}
        """Sections with an edge that is flat, but not of one value, and by how much a flat cell of them differs."""

    def __contains__(self, z: int) -> bool:
        return z in self._found

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, z: int, start: tuple[int, int], part: NDArray[Any]) -> None:
        """Look at a part of section `z` that starts at a row and a column that are multiples of `CELL_PX`."""
        measured = measure_cells(part)
        cells = find_constant_cells(*(measured if self._cell_px == CELL_PX else measure_cells(part, self._cell_px)))
        if (cells != NO_VALUE).any():
            (y, x), (height, width) = (n // self._cell_px for n in start), cells.shape
            at = slice(y, y + height), slice(x, x + width)
            self._unfinished[z].append((at, zlib.compress(cells.data, 1)))
        if z not in self._edges:
            self._edges[z] = _Edges(self._plane)
        self._edges[z].add(start, *measured)

    def finish(self, z: int, counts: NDArray[np.int64]) -> None:
        """Find the areas of a section with this histogram, all parts of which were added."""
        parts, edges = self._unfinished.pop(z, []), self._edges.pop(z)
        if np.count_nonzero(counts) < LEAST_LEVELS:
            return
        if edges.are_flat(tolerance := find_tolerance(counts)):
            self.doubtful[z] = tolerance
        if not parts:
            return
        cells = np.full(_count_cells(self._plane, self._cell_px), NO_VALUE, np.int32)
        for at, packed in parts:
            cells[at] = np.frombuffer(zlib.decompress(packed), np.int32).reshape(cells[at].shape)
        self.note(z, find_outside_cells(cells, self._cell_px))

    def note(self, z: int, areas: Iterable[Area]) -> None:
        """Keep areas of a section."""
        packed = [
            _Packed(area.low, area.high, area.cell_px, zlib.compress(np.packbits(area.cells).data, 1)) for area in areas
        ]
        if packed:
            self._found.setdefault(z, []).extend(packed)

    def within(self, z: int, rows: slice, columns: slice) -> list[Area]:
        """Return the areas in a part of a section, which starts at whole cells."""
        if self._unpacked[0] != z:
            # All parts of a large section are asked for, one after the other.
            self._unpacked = z, [packed.unpack(self._plane) for packed in self._found.get(z, ())]
        return [area.within(rows, columns) for area in self._unpacked[1]]


class _Packed(NamedTuple):
    """An area whose cells are compressed."""

    low: int
    high: int
    cell_px: int
    cells: bytes

    def unpack(self, plane: tuple[int, int]) -> Area:
        shape = _count_cells(plane, self.cell_px)
        bits = np.frombuffer(zlib.decompress(self.cells), np.uint8)
        cells = np.unpackbits(bits, count=math.prod(shape)).astype(bool).reshape(shape)
        return Area(self.low, self.high, cells, self.cell_px)


class _Edges:
    """Least and largest intensity of the cells along the top, bottom, left and right edge of a section."""

    def __init__(self, plane: tuple[int, int]) -> None:
        self._shape = _count_cells(plane, CELL_PX)
        rows, columns = self._shape
        # Nothing is flat that was not added.
        self._cells = [np.stack([np.zeros(n, np.int32), np.full(n, 2**16)]) for n in (columns, columns, rows, rows)]

    def add(self, start: tuple[int, int], lows: NDArray[np.int32], highs: NDArray[np.int32]) -> None:
        first = tuple(n // CELL_PX for n in start)
        for side, cells in enumerate(self._cells):
            axis, along = side // 2, 1 - side // 2
            at = (self._shape[axis] - 1 if side % 2 else 0) - first[axis]
            if 0 <= at < lows.shape[axis]:
                part = slice(first[along], first[along] + lows.shape[along])
                cells[:, part] = lows.take(at, axis), highs.take(at, axis)

    def are_flat(self, tolerance: int) -> bool:
        return any(has_flat_run(lows, highs, tolerance) for lows, highs in self._cells)


def _count_cells(plane: tuple[int, int], cell_px: int) -> tuple[int, int]:
    return ceil_div(plane[0], cell_px), ceil_div(plane[1], cell_px)


def find_flat(volume: Volume, areas: Areas) -> dict[int, str]:
    """Look for padding that is not of one value in the sections whose edges are flat, and note what surely is.

    Parameters
    ----------
    volume : Volume
        Its image is written.
    areas : Areas
        What was found while the image was read; it takes what is found here.

    Returns
    -------
    dict
        Of sections that may have padding, or may be tissue that is flat, by their index, what was found in words.
    """
    (_, rows, _), (_, height, width) = volume.write_block, volume.shape
    unsure: dict[int, str] = {}
    for z, tolerance in areas.doubtful.items():
        bands = []
        for _, box in grid((1, height, width), (1, rows, width)):
            moved = Box((z, *box.start[1:]), (z + 1, *box.stop[1:]))
            bands.append(measure_cells(read_block(volume.raw, moved, "run the command again")[0]))
        lows, highs = (np.concatenate(parts) for parts in zip(*bands, strict=True))
        found = list(find_flat_areas(lows, highs, tolerance))
        areas.note(z, (flat.area for flat in found if flat.sure))
        if told := describe_unsure(found):
            unsure[z] = told
    return unsure


def describe_unsure(found: Iterable[FlatArea]) -> str:
    """Return in words which flat areas of a section may be padding or tissue; nothing where there are none."""
    left = [flat.area for flat in found if not flat.sure and flat.area.cells.mean() >= _WORTH_A_FLAG]
    if not left:
        return ""
    share = sum(float(area.cells.mean()) for area in left)
    low, high = min(area.low for area in left), max(area.high for area in left)
    return f"flat along its edge: {share:.0%} of it has intensities from {low} to {high}, as padding with noise has"


def estimate_outside(section: NDArray[Any]) -> tuple[NDArray[np.bool_], str]:
    """Return where a section shows no tissue, to the nearest cell, and what else may show none, in words.

    Parameters
    ----------
    section : (y, x) uint8 or uint16
        As it is stored; ingest looks more closely at the borders.
    """
    outside, counts = np.zeros(section.shape, bool), histogram(section)
    if np.count_nonzero(counts) < LEAST_LEVELS:
        return outside, ""
    cell_px = choose_cell_px((section.shape[0], section.shape[1]))
    flat = list(find_flat_areas(*measure_cells(section), find_tolerance(counts)))
    constant = find_outside_cells(find_constant_cells(*measure_cells(section, cell_px)), cell_px)
    for area in (*constant, *(one.area for one in flat if one.sure)):
        outside |= spread_cells(area.cells, section.shape, area.cell_px)
    return outside, describe_unsure(flat)


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
    flat: Mapping[int, str] = field(default_factory=dict)
    """What looks like padding with noise and may be tissue, in words, by the section."""

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
                "intensity, or flat ones along the edge, such as padding or bars, which no mask or score counts"
            ).replace("%", " %", 1)
        if self.flat:
            first, what = next(iter(self.flat.items()))
            yield (
                f"{len(self.flat)} of {self.shape[0]} sections are flat along an edge and are taken for tissue, the "
                f"first is section {first} ({what}): if it is padding, cut it off by --box or give it one intensity"
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
    flat = find_flat(volume, areas)
    found = Outside(volume.shape, np.zeros(int(np.iinfo(volume.dtype).max) + 1, np.int64), whole=whole, flat=flat)
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
