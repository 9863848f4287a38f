"""Boxes of voxels that are kept in a file while they are worked on, because they are too many to be held."""

from __future__ import annotations

import errno
import os
import tempfile
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from segem.geometry import ZYX
from segem.io.files import disk_errors


class ScratchBox:
    """A box of voxels in a file without a name, which is gone when nothing refers to it, or the process is killed.

    It is read and written and not mapped, so that what was touched does not count as memory of the process.

    Parameters
    ----------
    folder : Path
        Existing folder, on a disk with room for them: a temporary folder of the system may lie in memory.
    shape : tuple of int
        Extent along (z, y, x).
    dtype : dtype
        Type of a voxel; all are 0 at first.

    Raises
    ------
    WorkspaceError
        When the disk refuses, also later.

    Examples
    --------
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     box = ScratchBox(Path(folder), (1, 2, 3), np.uint8)
    ...     box[:, 1:, :] = np.array([[[4, 5, 6]]])
    ...     box[:, :, 1:].tolist(), list(Path(folder).iterdir())
    ([[[0, 0], [5, 6]]], [])
    """

    def __init__(self, folder: Path, shape: ZYX, dtype: DTypeLike) -> None:
        self.shape, self.dtype, self._folder = shape, np.dtype(dtype), folder
        with disk_errors(folder), tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            self._file = os.dup(file.fileno())
            weakref.finalize(self, os.close, self._file)
            os.ftruncate(self._file, prod(shape) * self.dtype.itemsize)

    def __getitem__(self, part: tuple[slice, slice, slice], /) -> NDArray[Any]:
        """Return some voxels, (z, y, x)."""
        spans = self._spans(part)
        voxels = np.empty([len(span) for span in spans], self.dtype)
        with disk_errors(self._folder):
            for place, run in self._runs(spans, voxels):
                _move(os.preadv, self._file, run, place)
        return voxels

    def __setitem__(self, part: tuple[slice, slice, slice], voxels: NDArray[Any], /) -> None:
        """Keep some voxels, (z, y, x)."""
        spans = self._spans(part)
        if voxels.shape != tuple(len(span) for span in spans):
            raise ValueError(f"voxels of shape {voxels.shape} for {part}")
        with disk_errors(self._folder):
            for place, run in self._runs(spans, np.ascontiguousarray(voxels, self.dtype)):
                _move(os.pwritev, self._file, run, place)

    def _spans(self, part: tuple[slice, slice, slice]) -> list[range]:
        return [range(n)[cut] for n, cut in zip(self.shape, part, strict=True)]

    def _runs(self, spans: list[range], voxels: NDArray[Any]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield where in the file each run of voxels lies that follow one another there, and the bytes of the run."""
        (zs, ys, xs), (_, height, width), size = spans, self.shape, self.dtype.itemsize
        for z, section in zip(zs, voxels, strict=True):
            # Whole rows follow one another.
            runs = section[None] if len(xs) == width else section
            for y, run in zip(ys, runs, strict=False):
                yield ((z * height + y) * width + xs.start) * size, run.reshape(-1).view(np.uint8)


@dataclass(frozen=True)
class SectionOf:
    """One section of a box of voxels, (y, x), as far as it is given by rows."""

    content: Any
    z: int

    @property
    def shape(self) -> tuple[int, int]:
        """Extent along (y, x)."""
        _, height, width = self.content.shape
        return height, width

    def __getitem__(self, rows: slice, /) -> NDArray[Any]:
        """Return some rows, (rows, x)."""
        found: NDArray[Any] = self.content[self.z : self.z + 1, rows, :][0]
        return found

    def __setitem__(self, rows: slice, values: NDArray[Any], /) -> None:
        """Keep some rows, (rows, x)."""
        self.content[self.z : self.z + 1, rows, :] = values[None]


def _move(call: Callable[[int, list[Any], int], int], file: int, run: NDArray[np.uint8], place: int) -> None:
    """Read or write a run of bytes, however many of them the system takes at once."""
    while run.size:
        count = call(file, [run], place)
        if not count:
            raise OSError(errno.EIO, "the file is shorter than it was made")
        run, place = run[count:], place + count
