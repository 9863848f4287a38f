"""TIFF stacks, of one file or of several that OME metadata tie together."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.config import LabelSource, Selection
from segem.errors import InputError
from segem.io.readers.jpeg import say_lossy
from segem.io.readers.orientation import ORIENTATION, UPRIGHT, say_turned
from segem.io.readers.palette import check_palettes
from segem.io.readers.reader import Described, Reader
from segem.io.readers.stack import check_alike, damaged
from segem.io.readers.tiff.layout import PAGES, Layout, lay_out
from segem.io.readers.tiff.ome import OmeImage, find_files, is_ome, lay_out_ome, read_ome
from segem.io.readers.tiff.pages import Kind, TiffPages, Walked, read_description
from segem.io.readers.tiff.segments import JPEG
from segem.io.readers.tiff.shown import grey_of, is_white_zero
from segem.io.readers.tiff.voxel import state_voxel

_MOST_OPEN = 32
_BAND_BYTES = 2**24


class TiffReader(Reader):
    """The pages of a TIFF file, and of those beside it that its OME metadata name.

    Values are as a viewer shows them: an image stored with white as zero is inverted, and a grey palette is looked up.
    With a coloured palette, the indices are returned. Colours that are all alike are read as the grey that they are.

    Parameters
    ----------
    path : Path
        The file; classic or BigTIFF of either byte order.
    chosen : Selection
        What the user says of axes, channel and parts that were never written.
    source : Path, optional
        What messages call it, where that is not the file.

    Raises
    ------
    InputError
        When a file is damaged, missing or of a kind that cannot be read, or when pages differ in shape or type.
    """

    def __init__(self, path: Path, chosen: Selection, source: Path | None = None) -> None:
        self._open_files: OrderedDict[Path, TiffPages] = OrderedDict()
        self._walked: dict[Path, Walked] = {}
        self._paths = [path]
        self._lock = threading.RLock()
        try:
            file = self._file(path)
            text = file.first_description()
            image = read_ome(text, path) if is_ome(text) else None
            if image is None:
                layout = lay_out(file)
            else:
                layout, self._paths = lay_out_ome(image, file, self._file)
            self._kind = self._check_alike(layout.planes.reshape(-1, 3).tolist(), image)
            found = self._describe(layout.squeezed(), image, chosen)
        except BaseException:
            self.close()
            raise
        super().__init__(source or path, found)
        self._channel = chosen.channel or 0
        letters = chosen.axes if chosen.axes and len(chosen.axes) == len(found.axes) else found.axes
        self._letters = letters[: self._planes.ndim - 1]

    def close(self) -> None:
        """Close all files."""
        while self._open_files:
            self._open_files.popitem()[1].close()

    def label_of(self, z: int) -> str:
        """Return the file and the page of a section."""
        at = {"z": z, "c": self._channel}
        return self._label(tuple(at.get(letter, 0) for letter in self._letters), z)

    def read(self, part: tuple[slice, ...]) -> NDArray[Any]:
        """Read a part of the array; only strips and tiles that meet it are decoded."""
        outer = self._planes.ndim - 1
        inner = part[outer:]
        if self._grey_axis is not None:
            colours = slice(0, self._kind.channels)
            inner = (*inner[: self._grey_axis], colours, *inner[self._grey_axis :])
        found = np.empty([side.stop - side.start for side in part], self.found.dtype.newbyteorder("="))
        for at in itertools.product(*(range(side.start, side.stop) for side in part[:outer])):
            z = at[self._letters.index("z")] if "z" in self._letters else 0
            voxels = self._plane(at, inner, self._label(at, z))
            found[tuple(a - side.start for a, side in zip(at, part, strict=False))] = voxels
        return found

    def _plane(self, at: tuple[int, ...], inner: tuple[slice, ...], where: str) -> NDArray[Any]:
        file, number, behind = self._planes[at].tolist()
        with self._lock:
            pages = self._file(self._paths[file])
            voxels = pages.read(number, inner, where, behind)
            if self._grey_axis is None:
                return voxels
            grey = grey_of(np.moveaxis(voxels, self._grey_axis, -1), pages.page(number))
        if grey is None:
            raise InputError(
                "colours in a stack that begins grey",
                where=where,
                found=f"{self._kind.channels} channels that differ",
                fix=f"name a channel by --channel 0 to {self._kind.channels - 1}, or make it grey throughout",
            )
        return grey

    def _label(self, at: tuple[int, ...], z: int) -> str:
        file, number, behind = self._planes[at].tolist()
        return f"{self._paths[file]} page {number + behind + 1} (z={z})"

    def _file(self, path: Path) -> TiffPages:
        """Return a file, open; of many files, only those used last stay open."""
        if path not in self._open_files:
            self._open_files[path] = file = TiffPages(path, self._walked.get(path))
            self._walked[path] = file.walked
            if len(self._open_files) > _MOST_OPEN:
                self._open_files.popitem(last=False)[1].close()
        self._open_files.move_to_end(path)
        return self._open_files[path]

    def _check_alike(self, planes: list[list[int]], image: OmeImage | None) -> Kind:
        """Check that all planes are of one shape and type, and return what they have in common."""
        path = self._paths[planes[0][0]]
        first, kind = f"{path} page {planes[0][1] + 1} (z=0)", self._walked[path].kinds[planes[0][1]]
        for z, (file, number, _) in enumerate(planes):
            other = self._walked[self._paths[file]].kinds[number]
            if other != kind:
                where = f"{self._paths[file]} page {number + 1} (z={z})"
                check_alike(where, (other.shape, other.dtype), first, (kind.shape, kind.dtype))
                check_palettes(where, other.palette, first, kind.palette)
                raise InputError(
                    "sections that are stored in different ways in one stack",
                    where=where,
                    expected=f"{kind.bits} bits, axes {kind.axes} as in {first}",
                    found=f"{other.bits} bits, axes {other.axes}",
                    fix="convert all sections to one kind of image",
                )
        if image is not None and kind.size != image.size:
            raise damaged(path, f"pages of {kind.size}, while its OME metadata promise {image.size}")
        return kind

    def _describe(self, layout: Layout, image: OmeImage | None, chosen: Selection) -> Described:
        file, number, _ = layout.planes.reshape(-1, 3)[0].tolist()
        pages = self._file(self._paths[file])
        extents = zip(self._kind.shape, pages.chunk(number), strict=True)
        sides = dict(zip(layout.inner or self._kind.axes, extents, strict=True))
        planes, outer, inner = layout.planes, layout.axes, "".join(sides)
        self._grey_axis = None
        if inner == self._kind.axes and "c" in inner and chosen.channel is None:
            whole = inner if planes.size == 3 else outer + inner
            if not _fits(chosen.axes, whole) and self._begins_grey(pages, number):
                self._grey_axis = inner.index("c")
                inner = inner.replace("c", "")
        if planes.size == 3 and len(inner) > 2:
            # A single page with an axis of its own is no stack of pages.
            planes, outer = planes.reshape(3), ""
        self._planes = planes
        return Described(
            (*planes.shape[:-1], *(sides[axis][0] for axis in inner)),
            self._kind.dtype,
            outer + inner,
            layout.axes_from,
            (*(1 for _ in outer), *(sides[axis][1] for axis in inner)),
            (image and image.voxel) or state_voxel(pages.page(number)),
            warnings=(*layout.warnings, *self._warnings(pages.page(number), pages, chosen)),
            axes_named=layout.axes_from != PAGES,
            palette=self._kind.palette,
        )

    def _begins_grey(self, pages: TiffPages, number: int) -> bool:
        """Return whether all colours of the first page are alike; the others are checked when they are read."""
        shape, axes = self._kind.shape, self._kind.axes
        row = self._kind.dtype.itemsize * int(np.prod(shape)) // self._kind.size[0]
        step = max(_BAND_BYTES // row, pages.chunk(number)[axes.index("y")])
        for y in range(0, self._kind.size[0], step):
            rows = slice(y, min(y + step, self._kind.size[0]))
            part = tuple(rows if axis == "y" else slice(0, n) for axis, n in zip(axes, shape, strict=True))
            colours = pages.read(number, part, pages.label_of(number))
            if grey_of(np.moveaxis(colours, axes.index("c"), -1), pages.page(number)) is None:
                return False
        return True

    def _warnings(self, page: Any, pages: TiffPages, chosen: Selection) -> Iterator[str]:
        """Yield what the user should know, and refuse parts that were never written unless they may be filled."""
        walked = [self._walked[path] for path in dict.fromkeys(self._paths)]
        where = pages.path
        if unwritten := sum(file.unwritten for file in walked):
            parts = f"{unwritten} of {sum(file.segments for file in walked)} strips or tiles"
            if chosen.unwritten == "fail":
                raise InputError(
                    f"{parts} are missing",
                    where=where,
                    found=f"the first missing one is in {next(f.first_unwritten for f in walked if f.unwritten)}",
                    fix="copy the source again; if they were never written on purpose, accept their fill value by "
                    "--unwritten fill (for labels --labels-unwritten)",
                )
            yield f"{where}: {parts} were never written, and are taken for their fill value {page.nodata}"
        if is_white_zero(page, by_tifffile=pages.by_tifffile):
            if page.dtype.kind not in "bu":
                yield f"{where}: white is its smallest value, and values of type {page.dtype} are not inverted"
            elif isinstance(chosen, LabelSource):
                # Fiji shows such labels inverted, and the value under its cursor as it is stored.
                most, why = 2**page.bitspersample - 1, "white is its smallest value (in Fiji an inverting LUT)"
                yield f"{where}: {why}: {most} is read as 0, and 0 as {most}"
        if page.compression in JPEG:
            yield f"{where}: {say_lossy(chosen)}"
        if page.tags.valueof(ORIENTATION, default=UPRIGHT) != UPRIGHT:
            yield say_turned(where)


def open_ome_set(files: Sequence[Path], chosen: Selection, source: Path) -> TiffReader | None:
    """Open the files of a folder as the one stack that their OME metadata describe.

    Parameters
    ----------
    files : sequence of Path
        The TIFF files of the folder.
    chosen : Selection
        What the user says of axes, channel and parts that were never written.
    source : Path
        The folder, for messages.

    Returns
    -------
    TiffReader or None
        None where the metadata of the first file tell of no other file.

    Raises
    ------
    InputError
        When a file is damaged or missing, or does not belong to the others.
    """
    text = read_description(files[0])
    image = read_ome(text, files[0]) if is_ome(text) else None
    if image is None or len(image.names) < 2:
        return None
    if others := sorted({file.name for file in files} - image.names):
        raise InputError(
            "files that do not belong to the set that the OME metadata describe",
            where=source,
            expected=f"the {len(image.names)} files of the set",
            found=", ".join(others[:3]) + (" ..." if len(others) > 3 else ""),
            fix="move them elsewhere",
        )
    return TiffReader(files[0], chosen, source)


def list_tiff_files(path: Path) -> list[Path]:
    """Return a TIFF file and those beside it that hold planes of its stack, by its OME metadata.

    Of a file that cannot be read, only its own path: what is wrong is said where it is opened.
    """
    try:
        text = read_description(path)
        image = read_ome(text, path) if is_ome(text) else None
        others = [] if image is None else [image.master, *find_files(image, path).values()]
    except InputError:
        others = []
    return list(dict.fromkeys([path, *(file for file in others if file is not None)]))


def _fits(chosen: str | None, axes: str) -> bool:
    """Return whether the axes that a user names can be those of an array with all its channels."""
    return chosen is not None and len(chosen) == len(axes) and all(chosen.index(a) == axes.index(a) for a in "yx")
