"""A source as a stack of sections, and the checks that readers share."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from segem.config import LabelSource, Selection
from segem.errors import InputError
from segem.geometry import ZYX, Box
from segem.io.readers.axes import arrange
from segem.io.readers.reader import Described, Reader

MAX_SECTION_BYTES = 4 * 2**30
MAX_RATIO = 2000
UNCHECKED_BYTES = 64 * 2**20

Plane = tuple[tuple[int, ...], np.dtype[Any]]
"""Shape and type of a section."""

NAME_IT = "name it by --dataset (for labels --labels-dataset), or as dataset in the manifest"
"""The fix where a file holds several arrays."""


class Stack:
    """Sections of one shape and type, axes (z, y, x), read box by box; use it as a context manager.

    Parameters
    ----------
    reader : Reader
        Reads the array of the source.
    chosen : Selection
        What the user says of its axes and channel.

    Raises
    ------
    InputError
        When it cannot be known which axis of the source is which, or which channel is meant.
    """

    def __init__(self, reader: Reader, chosen: Selection | None = None) -> None:
        found = reader.found
        self._reader = reader
        self._arrangement = arrange(
            found.axes,
            found.shape,
            chosen or Selection(),
            where=reader.source,
            named=found.axes_named,
            names=found.axis_names,
        )
        shape = self._arrangement.shape
        # Only now it is known which axes a section has.
        check_declared(reader.source, shape[1:] if shape[0] else shape, found.dtype, 2**62)
        self._start: ZYX = (0, 0, 0)
        self.source = reader.source
        self.shape = self._arrangement.shape
        self.dtype = found.dtype.newbyteorder("=")
        self.axes_from = "you" if chosen is not None and chosen.axes is not None else found.axes_from

    @property
    def found(self) -> Described:
        """What the source says of itself."""
        return self._reader.found

    @property
    def axes(self) -> str:
        """What each axis of the array of the source is taken for."""
        return self._arrangement.axes

    @property
    def axes_guessed(self) -> bool:
        """Whether neither the user nor the source names the axes."""
        return self.axes_from != "you" and not self.found.axes_named

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know about the source."""
        found = self._reader.found
        if not found.axis_names or self.axes_from == "you":
            return found.warnings
        named, taken = (", ".join(axes) for axes in (found.axis_names, self._arrangement.axes))
        return (
            *found.warnings,
            f"its axes are called {named}, which says nothing to segem, and are taken for {taken}: if they are others, "
            "name them by --axes (axes in a manifest)",
        )

    @property
    def chunk(self) -> ZYX:
        """What is decoded at a time, along (z, y, x): to read less than that decodes it several times."""
        chunk = self._reader.found.chunk
        if chunk is None:
            return (1, *self.shape[1:])
        z, y, x = self._arrangement.positions
        return (1 if z is None else chunk[z], chunk[y], chunk[x])

    @property
    def numbers(self) -> tuple[float, ...] | None:
        """The number that each section has in the source, if it has one."""
        numbers = self._reader.found.numbers
        return None if numbers is None else numbers[self._start[0] : self._start[0] + self.shape[0]]

    @property
    def filled(self) -> tuple[int, ...]:
        """Sections that the source lacks, with something that stands in for them."""
        return self._within_z(self._reader.found.filled)

    @property
    def masked(self) -> tuple[int, ...]:
        """Those of the filled sections of which nothing is known: to be left out of scores, with unknown labels."""
        return self._within_z(self._reader.found.masked)

    def _within_z(self, sections: tuple[int, ...]) -> tuple[int, ...]:
        first, depth = self._start[0], self.shape[0]
        return tuple(z - first for z in sections if first <= z < first + depth)

    def within(self, box: Box) -> Stack:
        """Return a part of the stack as a stack of its own, which shares the open source.

        Raises
        ------
        InputError
            When the part is empty or reaches beyond the stack.
        """
        if not box.size or not Box.of_shape(self.shape).contains(box):
            raise InputError(
                "no such part of the stack",
                where=self.source,
                expected=f"a box within {Box.of_shape(self.shape)}",
                found=box,
                fix="correct --box",
            )
        part = copy(self)
        z, y, x = (a + b for a, b in zip(self._start, box.start, strict=True))
        part._start, part.shape = (z, y, x), box.shape
        return part

    def read(self, box: Box) -> NDArray[Any]:
        """Read a box.

        Parameters
        ----------
        box : Box
            Within the stack.

        Returns
        -------
        (z, y, x) array
            In the byte order of this machine.

        Raises
        ------
        InputError
            When it cannot be read, or differs from what the source declares.
        """
        if not Box.of_shape(self.shape).contains(box):
            raise InputError(
                "no such voxels",
                where=self.source,
                expected=f"a box within {Box.of_shape(self.shape)}",
                found=box,
                fix="ask for voxels of the stack",
            )
        start, stop = ([a + b for a, b in zip(self._start, end, strict=True)] for end in (box.start, box.stop))
        moved = Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))
        part = self._arrangement.to_zyx(self._reader.read(self._arrangement.select(moved)))
        part = np.ascontiguousarray(part, part.dtype.newbyteorder("="))
        first, last = self.label_of(box.start[0]), self.label_of(max(box.stop[0] - 1, box.start[0]))
        check_alike(last, (part.shape, part.dtype), first, (box.shape, self.dtype))
        return part

    def section(self, z: int) -> NDArray[Any]:
        """Read one section.

        Returns
        -------
        (y, x) array

        Raises
        ------
        InputError
            As `read`.
        """
        _, height, width = self.shape
        section: NDArray[Any] = self.read(Box((z, 0, 0), (z + 1, height, width)))[0]
        return section

    def label_of(self, z: int) -> str:
        """Return the name of a section, for messages."""
        return self._reader.label_of(z + self._start[0])

    def close(self) -> None:
        """Close open files."""
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_alike(where: object, found: Plane, first: object, expected: Plane) -> None:
    """Check that a section has the shape and type of the first.

    Parameters
    ----------
    where, first : object
        The section and the first one, for the message.
    found, expected : Plane
        Shape and type of both.

    Raises
    ------
    InputError
        When they differ, but for the order of bytes.
    """
    for what, seen, wanted in zip(("shape", "type"), _native(found), _native(expected), strict=True):
        if seen != wanted:
            raise InputError(
                f"sections of different {what} in one stack",
                where=where,
                expected=f"{wanted} as in {first}",
                found=seen,
                fix=f"give all sections the same {what}, or leave this one out",
            )


def _native(plane: Plane) -> Plane:
    shape, dtype = plane
    return shape, dtype.newbyteorder("=")


def check_reachable(path: Path) -> os.stat_result:
    """Return the status of a file or folder.

    Raises
    ------
    InputError
        When it is missing or out of reach.
    """
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        found = "a link to nothing" if os.path.lexists(path) else None
        raise InputError("no such file or folder", where=path, found=found, fix="check the path") from None
    except OSError as error:
        raise InputError("cannot be opened", where=path, found=error.strerror, fix="check the path") from None


def check_file(path: Path) -> int:
    """Return the size of a file in bytes, after checking that it is a regular file with something in it.

    Raises
    ------
    InputError
        When it is missing, empty, unreadable, a folder or a special file.
    """
    status = check_reachable(path)
    if not stat.S_ISREG(status.st_mode):
        found = "a folder" if stat.S_ISDIR(status.st_mode) else "a device, pipe or socket"
        raise InputError("not a regular file", where=path, found=found, fix="give the path of an image file")
    if status.st_size == 0:
        raise InputError("the file is empty", where=path, found="0 bytes", fix="copy or download it again")
    try:
        path.open("rb").close()
    except OSError as error:
        raise InputError("cannot be opened", where=path, found=error.strerror, fix="check its rights") from None
    return status.st_size


def check_declared(where: object, shape: tuple[int, ...], dtype: np.dtype[Any], stored_bytes: int) -> None:
    """Refuse sections that would unpack to an implausible size, before anything is unpacked.

    Raises
    ------
    InputError
        When a section has no voxels, or takes more memory than any microscope's section.
    """
    decoded = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if decoded == 0:
        raise InputError("a section without voxels", where=where, found=f"shape {shape}", fix="leave it out")
    suspicious = decoded > UNCHECKED_BYTES and decoded > MAX_RATIO * stored_bytes
    if decoded > MAX_SECTION_BYTES or suspicious:
        raise InputError(
            "the declared size of a section is implausible",
            where=where,
            expected=f"at most {MAX_SECTION_BYTES // 2**30} GiB, and {MAX_RATIO} times what is stored",
            found=f"{shape} {dtype} = {decoded / 2**20:.0f} MiB in {stored_bytes} stored bytes",
            fix="the file is damaged or malicious; get it again from its source",
        )


@contextmanager
def no_damage(where: object) -> Iterator[None]:
    """Raise InputError for anything that a library raises while the body runs: many types, where a file is damaged."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise damaged(where, None, cause=error) from error


def damaged(where: object, found: object, *, cause: BaseException | None = None) -> InputError:
    """Return the error for a file that cannot be trusted."""
    text = found if cause is None else f"{type(cause).__name__}: {cause}"
    return InputError(
        "the file is damaged or not what its name says",
        where=where,
        found=str(text)[:300],
        fix="copy or export it again from its source",
    )


def chunk_indices(counts: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Yield the indices of so many chunks along each axis, the last axis fastest, one at a time.

    Examples
    --------
    >>> list(chunk_indices((2, 2)))
    [(0, 0), (0, 1), (1, 0), (1, 1)]
    """
    # Not itertools.product, which unrolls every axis at once: damaged metadata can promise any number of chunks.
    for number in range(math.prod(counts)):
        index, rest = [], number
        for count in reversed(counts):
            rest, at = divmod(rest, count)
            index.append(at)
        yield tuple(reversed(index))


def not_grey(where: object, found: str, chosen: Selection | None = None) -> InputError:
    """Return the error for a colour image, which has no single intensity, or for coloured labels."""
    grey = "convert it to 8 or 16 bit grey (Fiji: Image > Type > 8-bit)"
    # Two classes may have one grey, and of many thousand cells most have.
    numbers = "save the number of the class or cell of each pixel in place of its colour"
    return InputError(
        "not a grey image",
        where=where,
        expected="one grey channel",
        found=found,
        fix=numbers if isinstance(chosen, LabelSource) else grey,
    )
