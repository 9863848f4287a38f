"""Folders of single-page TIFF or PNG files, one section a file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.config import Selection
from segem.errors import InputError
from segem.io.readers.reader import Described, Reader
from segem.io.readers.stack import check_alike

Open = Callable[[Path, Selection], Reader]


class SeriesReader(Reader):
    """The files of a folder in the natural order of their names, 2 before 10.

    Parameters
    ----------
    folder : Path
        Hidden files and subfolders are ignored; all others must have one extension.
    chosen : Selection
        What is done about missing sections.
    readers : mapping of str to callable
        What opens one file, by its extension in lower case.

    Raises
    ------
    InputError
        When there is nothing to read, the extensions are mixed, a file holds several pages, or the files differ in
        shape or type.
    """

    def __init__(self, folder: Path, chosen: Selection, readers: Mapping[str, Open]) -> None:
        self._files = list_section_files(folder, tuple(readers))
        self._open = readers[self._files[0].suffix.lower()]
        for z, file in enumerate(self._files):
            with closing(self._open(file, chosen)) as one:
                pages, plane = (
                    (one.found.shape[0], one.found.shape[1:]) if len(one.found.shape) > 2 else (1, one.found.shape)
                )
                if pages != 1:
                    raise InputError(
                        "a file of several pages in a folder of sections",
                        where=file,
                        expected="1 page",
                        found=f"{pages} pages",
                        fix="give the path of this one file, or split it into single pages",
                    )
                if z == 0:
                    shape, dtype = plane, one.found.dtype
                check_alike(file, (plane, one.found.dtype), self._files[0], (shape, dtype))
        found = Described(
            (len(self._files), *shape),
            dtype.newbyteorder("="),
            "zyx",
            "one section a file",
            warnings=tuple(_gaps(self._files)),
        )
        super().__init__(folder, found)
        self._chosen = chosen

    def label_of(self, z: int) -> str:
        """Return the file of a section."""
        return str(self._files[z])

    def read(self, part: tuple[slice, ...]) -> NDArray[Any]:
        """Read a part of the sections, each from its file."""
        return np.stack([self._section(z, part[1:]) for z in range(part[0].start, part[0].stop)])

    def _section(self, z: int, plane: tuple[slice, ...]) -> NDArray[Any]:
        with closing(self._open(self._files[z], self._chosen)) as one:
            first = (slice(0, 1),) * (len(one.found.shape) - 2)
            section = one.read((*first, *plane))
            # Files of one stack may differ in byte order.
            return section.reshape(section.shape[-2:]).astype(self.found.dtype, casting="equiv", copy=False)


def list_section_files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Return the files of a series in the natural order of their names.

    Parameters
    ----------
    folder : Path
        The folder.
    suffixes : tuple of str
        Extensions that can be read, in lower case.

    Raises
    ------
    InputError
        When there are none, or they are not all of one kind.
    """
    try:
        visible = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise InputError("the folder cannot be read", where=folder, found=error, fix="check its rights") from error
    # A folder named x.tif is kept, so that it is reported instead of being left out.
    files = sorted((p for p in visible if not p.is_dir() or p.suffix.lower() in suffixes), key=natural_key)
    kinds = Counter(path.suffix.lower() for path in files)
    if not files:
        folders = ", ".join(sorted(path.name for path in visible)[:5])
        raise InputError(
            "no sections in the folder",
            where=folder,
            expected=f"files ending in {', '.join(suffixes)}",
            found=f"only folders: {folders}" if folders else "nothing",
            fix="give the folder that holds the section images itself",
        )
    if len(kinds) > 1:
        raise InputError(
            "files of different kinds in one folder of sections",
            where=folder,
            expected="one extension",
            found=" and ".join(f"{count} {kind or 'without extension'}" for kind, count in kinds.most_common()),
            fix="move the files that are not sections elsewhere",
        )
    if (kind := next(iter(kinds))) not in suffixes:
        raise InputError(
            "unknown kind of section",
            where=folder,
            expected=", ".join(suffixes),
            found=kind or files[0].name,
            fix="convert the sections to TIFF, or give the folder that holds them",
        )
    return files


def natural_key(path: Path) -> tuple[list[str | int], str]:
    """Return a sort key that compares numbers in names as numbers.

    Examples
    --------
    >>> [p.name for p in sorted(map(Path, ["z10.png", "z2.png", "z02b.png"]), key=natural_key)]
    ['z2.png', 'z02b.png', 'z10.png']
    """
    parts = re.split(r"(\d+)", path.name.casefold())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], path.name


def _gaps(files: list[Path]) -> list[str]:
    """Return a warning for every gap in an otherwise evenly numbered series."""
    numbers = [[int(n) for n in re.findall(r"\d+", path.stem)[-1:]] for path in files]
    if len(files) < 3 or not all(numbers):
        return []
    steps = [b[0] - a[0] for a, b in pairwise(numbers)]
    usual = Counter(steps).most_common(1)[0][0]
    return [
        f"sections may be missing between {files[z].name} and {files[z + 1].name}; they are taken as neighbours"
        for z, step in enumerate(steps)
        if step != usual
    ]
