"""The interface of all readers, and the checks they share."""

from __future__ import annotations

import math
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from segem.errors import InputError
from segem.geometry import ZYX

MAX_SECTION_BYTES = 4 * 2**30
MAX_RATIO = 2000
UNCHECKED_BYTES = 64 * 2**20

Plane = tuple[int, int]

NAME_IT = "name it by --dataset (for labels --labels-dataset), or as dataset in the manifest"
"""The fix where a file holds several arrays."""


class Stack(ABC):
    """Sections of one shape and type that are read one at a time; use it as a context manager.

    Parameters
    ----------
    source : Path
        Where the sections come from.
    shape : tuple of int
        Extent along (z, y, x).
    dtype : dtype
        Type of the voxels; sections are returned in the byte order of this machine.
    warnings : tuple of str
        What the user should know about the source.
    """

    def __init__(self, source: Path, shape: ZYX, dtype: np.dtype[Any], warnings: tuple[str, ...] = ()) -> None:
        self.source = source
        self.shape = shape
        self.dtype = dtype.newbyteorder("=")
        self.warnings = warnings

    def section(self, z: int) -> NDArray[Any]:
        """Read one section.

        Returns
        -------
        (y, x) array

        Raises
        ------
        InputError
            When it cannot be read, or differs from the first section in shape or type.
        """
        if not 0 <= z < self.shape[0]:
            raise InputError(
                "no such section",
                where=self.source,
                expected=f"0 to {self.shape[0] - 1}",
                found=z,
                fix="ask for a section of the stack",
            )
        section = self._read(z)
        section = section.astype(section.dtype.newbyteorder("="), copy=False)
        check_alike(self, z, section.shape, section.dtype)
        return section

    @abstractmethod
    def label_of(self, z: int) -> str:
        """Return the name of a section, for messages."""

    @abstractmethod
    def _read(self, z: int) -> NDArray[Any]: ...

    def close(self) -> None:  # noqa: B027 - most readers hold nothing open
        """Close open files."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_alike(stack: Stack, z: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Check that a section has the shape and type of the first.

    Raises
    ------
    InputError
        When it differs; the message names both sections.
    """
    for what, expected, found in (("shape", stack.shape[1:], shape), ("type", stack.dtype, dtype)):
        if expected != found:
            raise InputError(
                f"sections of different {what} in one stack",
                where=stack.label_of(z),
                expected=f"{expected} as in {stack.label_of(0)}",
                found=found,
                fix=f"give all sections the same {what}, or leave this one out",
            )


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
        raise InputError("a section without voxels", where=where, found=f"shape {shape}", fix="remove it")
    suspicious = decoded > UNCHECKED_BYTES and decoded > MAX_RATIO * stored_bytes
    if decoded > MAX_SECTION_BYTES or suspicious:
        raise InputError(
            "the declared size of a section is implausible",
            where=where,
            expected=f"at most {MAX_SECTION_BYTES // 2**30} GiB, and {MAX_RATIO} times what is stored",
            found=f"{shape} {dtype} = {decoded / 2**20:.0f} MiB in {stored_bytes} stored bytes",
            fix="the file is damaged or malicious; get it again from its source",
        )


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


def incomplete(where: object, missing: int, total: int, first: object) -> InputError:
    """Return the error for an array with missing chunks; they would read as one grey level."""
    return InputError(
        f"{missing} of {total} chunks are missing",
        where=where,
        found=f"the first missing one is {first}",
        fix="copy the source again; if it is sparse on purpose, write it out in full, empty chunks too",
    )


def not_grey(where: object, found: str) -> InputError:
    """Return the error for a colour image, which has no single intensity."""
    return InputError(
        "not a grey image",
        where=where,
        expected="one grey channel",
        found=found,
        fix="convert it to 8 or 16 bit grey (Fiji: Image > Type > 8-bit)",
    )


def grey_levels(palette: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Return the grey of every entry of an (n, 3) palette, or None where an entry is coloured.

    A grey palette is another way to store intensities, so they are looked up. The entries of a coloured palette stand
    for classes, or for intensities in false colour; in both cases the index is the value.

    Examples
    --------
    >>> grey_levels(np.array([[0, 0, 0], [255, 255, 255]], np.uint8))
    array([  0, 255], dtype=uint8)
    >>> grey_levels(np.array([[0, 0, 0], [255, 0, 0]], np.uint8)) is None
    True
    """
    red, green, blue = palette.T
    return red.copy() if bool(np.all((red == green) & (green == blue))) else None
