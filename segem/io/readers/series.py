"""Folders with one section a file: TIFF, PNG or JPEG."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.config import Selection
from segem.errors import InputError
from segem.io.readers.numbering import Number, Numbering, natural_key, number_sections, say_gaps
from segem.io.readers.palette import check_palettes
from segem.io.readers.reader import Described, Reader
from segem.io.readers.stack import Plane, check_alike

Open = Callable[[Path, Selection], Reader]

_SIDE_FILES = frozenset(
    (".txt", ".xml", ".csv", ".tsv", ".json", ".yaml", ".yml", ".md", ".log", ".ini", ".hdr", ".html", ".pdf", ".db")
)
"""Endings of what programs and people leave beside images."""
_SECTION_AXES = "cyx"
_MOST_NAMED = 5
_MOST_LOST = 1000
"""More sections than this are hardly lost between others: their numbers are of another kind."""
_STANDS_IN = {
    "copy": "filled by the section before",
    "black": "filled by black",
    "mask": "filled by black that no score counts",
}


@dataclass(frozen=True)
class _Places:
    """What stands where in the stack."""

    files: tuple[Path | None, ...]
    """The file of each section; None for a black one."""
    numbers: tuple[float, ...] | None
    filled: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()


class SeriesReader(Reader):
    """The files of a folder, in the order of the numbers in their names.

    Parameters
    ----------
    folder : Path
        Subfolders, hidden files and those that go with images (text, tables, thumbnails) are left out; all others must
        be of one kind.
    chosen : Selection
        What stands in for missing sections.
    readers : mapping of str to callable
        What opens one file, by its extension in lower case.

    Raises
    ------
    InputError
        When there is nothing to read; when files differ in kind, shape or type, or hold several pages; when their names
        leave the order in doubt; or when sections are missing and nothing is to stand in for them.
    """

    def __init__(self, folder: Path, chosen: Selection, readers: Mapping[str, Open]) -> None:
        files, left_out = _list_folder(folder, readers)
        numbering = number_sections([file.name for file in files], where=folder)
        files = [files[at] for at in numbering.order]
        self._open = readers[files[0].suffix.lower()]
        # A file alone has the axes that it says, and none of its sections is missing.
        self._chosen = chosen.model_copy(update={"axes": None, "missing": "fail"})
        sections = []
        for file in files:
            with closing(self._open(file, self._chosen)) as one:
                sections.append(_describe_section(file, one.found)[0])
        bits = sum(section.dtype == bool for section in sections)
        self._widens = 0 < bits < len(sections) and {section.dtype for section in sections} == {
            np.dtype(bool),
            np.dtype(np.uint8),
        }
        self._first = str(files[0])
        self._plane: Plane = (sections[0].shape, np.dtype(np.uint8) if self._widens else sections[0].dtype)
        # Programs leave out the last entries where a section does not use them.
        self._palette, self._coloured = max(
            ((section.palette, str(file)) for file, section in zip(files, sections, strict=True)),
            key=lambda one: len(one[0]),
        )
        for file, section in zip(files, sections, strict=True):
            self._check_alike(file, section)
        self._places = _place(folder, files, numbering, chosen.missing)
        warnings = [*_say_left_out(left_out), *numbering.warnings, *self._places.warnings]
        if self._widens:
            warnings.append(f"{bits} of {len(files)} sections have 1 bit and the others 8: they are read as 0 and 255")
        voxels = {section.voxel for section in sections}
        if len(voxels) > 1:
            warnings.append("the files state different voxel sizes, or not all of them one: none is taken from them")
        chunk = sections[0].chunk
        found = Described(
            (len(self._places.files), *self._plane[0]),
            self._plane[1].newbyteorder("="),
            f"z{sections[0].axes}",
            "one section a file",
            chunk=None if chunk is None else (1, *chunk),
            voxel=sections[0].voxel if len(voxels) == 1 else None,
            numbers=self._places.numbers,
            filled=self._places.filled,
            masked=self._places.filled if chosen.missing == "mask" else (),
            warnings=(
                *(f"{folder}: {warning}" for warning in warnings),
                *_distinct([section.warnings for section in sections]),
            ),
        )
        super().__init__(folder, found)

    def label_of(self, z: int) -> str:
        """Return the file of a section."""
        if z in self._places.filled:
            return f"{self.source} z={z}, which is missing there"
        return str(self._places.files[z])

    def read(self, part: tuple[slice, ...]) -> NDArray[Any]:
        """Read a part of the sections, each from its file."""
        sections = np.empty([side.stop - side.start for side in part], self.found.dtype)
        for at, file in enumerate(self._places.files[part[0]]):
            sections[at] = self._section(file, part[1:])
        return sections

    def _section(self, file: Path | None, plane: tuple[slice, ...]) -> NDArray[Any]:
        shape = tuple(side.stop - side.start for side in plane)
        if file is None:
            return np.zeros(shape, self.found.dtype)
        with closing(self._open(file, self._chosen)) as one:
            # Once more: the file may be another one by now.
            section, spare = _describe_section(file, one.found)
            self._check_alike(file, section)
            part = list(plane)
            for axis in spare:
                part.insert(axis, slice(0, 1))
            pixels = one.read(tuple(part)).squeeze(spare)
        check_alike(file, (pixels.shape, pixels.dtype), "its header", (shape, section.dtype))
        if self._widens and pixels.dtype == bool:
            pixels = pixels * np.uint8(255)
        # Files of one stack may differ in byte order.
        return pixels.astype(self.found.dtype, copy=False)

    def _check_alike(self, file: Path, section: Described) -> None:
        dtype = self._plane[1] if self._widens and section.dtype == bool else section.dtype
        check_alike(file, (section.shape, dtype), self._first, self._plane)
        check_palettes(file, section.palette, self._coloured, self._palette)


def list_section_files(folder: Path, readers: Mapping[str, Open]) -> list[Path]:
    """Return the files of a series, in a fixed order.

    Parameters
    ----------
    folder : Path
        The folder.
    readers : mapping of str to callable
        What opens one file, by its extension in lower case.

    Raises
    ------
    InputError
        When there are none, or they are not all of one kind.
    """
    return _list_folder(folder, readers)[0]


def _list_folder(folder: Path, readers: Mapping[str, Open]) -> tuple[list[Path], list[str]]:
    """Return the files of a series, and the names of what is left out."""
    files: list[str] = []
    left_out: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                suffix = Path(entry.name).suffix.lower()
                # A folder named x.tif is kept, so that it is reported instead of being left out.
                image = suffix in readers and not entry.name.startswith(".")
                aside = not image and (entry.name.startswith(".") or suffix in _SIDE_FILES or entry.is_dir())
                (left_out if aside else files).append(entry.name)
                if image and entry.is_symlink():
                    _check_link(folder, folder / entry.name)
    except OSError as error:
        raise InputError("the folder cannot be read", where=folder, found=error, fix="check its rights") from error
    if not files:
        found = f"only {_name_some(sorted(left_out))}" if left_out else "nothing"
        raise InputError(
            "no sections in the folder",
            where=folder,
            expected=f"files ending in {', '.join(readers)}",
            found=found,
            fix="give the folder that holds the section images itself",
        )
    files.sort(key=natural_key)
    kinds = Counter(Path(name).suffix.lower() for name in files)
    # .tif and .tiff are one kind.
    if len({readers.get(kind, kind) for kind in kinds}) > 1:
        raise InputError(
            "files of different kinds in one folder of sections",
            where=folder,
            expected="one kind",
            found=" and ".join(f"{count} {kind or 'without extension'}" for kind, count in kinds.most_common()),
            fix="move the files that are not sections elsewhere",
        )
    if (kind := next(iter(kinds))) not in readers:
        raise InputError(
            "unknown kind of section",
            where=folder,
            expected=", ".join(readers),
            found=kind or files[0],
            fix="convert the sections to TIFF, or give the folder that holds them",
        )
    return [folder / name for name in files], sorted(left_out)


def _check_link(folder: Path, link: Path) -> None:
    target = Path(os.path.realpath(link))
    # A link to nothing is reported where the file is opened.
    if target.exists() and not target.is_relative_to(os.path.realpath(folder)):
        raise InputError(
            "a link that leads out of the folder",
            where=link,
            found=target,
            fix=f"give the folder {target.parent} where the files are together there, or copy the files in place of "
            "the links (cp -rL FOLDER COPY)",
        )


def _describe_section(file: Path, found: Described) -> tuple[Described, tuple[int, ...]]:
    """Return what a file says of its one section, and which axes of the file have no place in a section."""
    kept = [axis for axis, letter in enumerate(found.axes) if letter in _SECTION_AXES]
    spare = tuple(axis for axis in range(len(found.axes)) if axis not in kept)
    pages = math.prod(found.shape[axis] for axis in spare)
    if pages != 1:
        raise InputError(
            "a file of several pages in a folder of sections",
            where=file,
            expected="1 page",
            found=f"{pages} pages",
            fix="give the path of this one file, or split it into single pages",
        )
    section = replace(
        found,
        shape=tuple(found.shape[axis] for axis in kept),
        dtype=found.dtype.newbyteorder("="),
        axes="".join(found.axes[axis] for axis in kept),
        chunk=None if found.chunk is None else tuple(found.chunk[axis] for axis in kept),
    )
    return section, spare


def _place(folder: Path, files: Sequence[Path], numbering: Numbering, missing: str) -> _Places:
    """Return what stands where, with something for each section that is missing."""
    if numbering.numbers is None:
        return _Places(tuple(files), None)
    lost = sum(gap.count for gap in numbering.gaps)
    fillable = lost <= max(_MOST_LOST, len(files))
    if lost and (missing == "fail" or not fillable):
        raise refuse_missing(folder, len(files), lost, say_gaps(numbering.gaps), fillable=fillable)
    gaps = {gap.position: gap.numbers for gap in numbering.gaps}
    places: list[Path | None] = []
    numbers: list[float] = []
    filled: list[int] = []
    for at, (file, number) in enumerate(zip(files, numbering.numbers, strict=True)):
        for absent in gaps.get(at, ()):
            filled.append(len(places))
            places.append(files[at - 1] if missing == "copy" else None)
            numbers.append(_as_plain(absent))
        places.append(file)
        numbers.append(_as_plain(number))
    what = "no file for section" if len(filled) == 1 else "no files for sections"
    told = (f"{what} {say_gaps(numbering.gaps)}: {_STANDS_IN[missing]}",) if filled else ()
    return _Places(tuple(places), tuple(numbers), tuple(filled), told)


def refuse_missing(where: object, present: int, lost: int, numbers: str, *, fillable: bool = True) -> InputError:
    """Return the error for a series with gaps.

    Parameters
    ----------
    where : object
        The folder.
    present, lost : int
        How many sections there are, and how many are missing.
    numbers : str
        The numbers of those that are missing, in words.
    fillable : bool
        False where too many are missing for anything to stand in for them.
    """
    fix = "copy the missing files there, or say what is to stand in for them (missing, --missing: copy, black or mask)"
    return InputError(
        f"{lost} sections are missing" if lost > 1 else "a section is missing",
        where=where,
        expected="a file for every number",
        found=f"{present} files, and none for {numbers}",
        fix=fix if fillable else "copy the missing files there, or leave in the folder what belongs together",
    )


def _as_plain(number: Number) -> float:
    return int(number) if number.denominator == 1 else float(number)


def _say_left_out(names: Sequence[str]) -> list[str]:
    return [f"left out, since they are no sections: {_name_some(names)}"] if names else []


def _name_some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def _distinct(warnings: Sequence[tuple[str, ...]]) -> list[str]:
    """Return what files warn of, each thing once, and not more than a reader takes in."""
    told = list(dict.fromkeys(warning for one in warnings for warning in one))
    rest = len(told) - _MOST_NAMED
    return [*told[:_MOST_NAMED], *([f"and {rest} warnings more about single files"] if rest > 0 else [])]
