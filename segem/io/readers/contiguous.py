"""Arrays that lie uncompressed and in one piece in a file, as MRC and DM files hold them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.errors import InputError
from segem.io.readers.stack import check_declared, damaged


@dataclass(frozen=True)
class ContiguousArray:
    """An array in a file, last axis fastest.

    Parameters
    ----------
    path : Path
        The file.
    offset : int
        Byte at which it begins.
    shape : tuple of int
        Extent of each axis, two or more.
    dtype : dtype
        Type of the voxels, with their byte order.
    """

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def check(self, size: int) -> None:
        """Check that a file of so many bytes can hold it.

        Raises
        ------
        InputError
            When it cannot, or a section has no voxels or is implausibly large.
        """
        if min(self.shape) <= 0:
            raise damaged(self.path, f"an array of shape {self.shape}")
        stop = self.offset + math.prod(self.shape) * self.dtype.itemsize
        if self.offset < 0 or stop > size:
            raise damaged(self.path, f"voxels at bytes {self.offset} to {stop} of a file of {size}: it is truncated")
        check_declared(self.path, self.shape[-2:], self.dtype, size)

    def read(self, part: tuple[slice, ...]) -> NDArray[Any]:
        """Read a part, plane by plane.

        Raises
        ------
        InputError
            When the file has become shorter, or the disk fails.
        """
        *outer, rows, columns = part
        found = np.empty([one.stop - one.start for one in part], self.dtype)
        count = self.shape[-1] * (rows.stop - rows.start)
        # No memory map: a file that is cut off, or a disk that fails, while it is read would kill the process.
        try:
            for index in np.ndindex(found.shape[:-2]):
                plane = 0
                for one, at, extent in zip(outer, index, self.shape, strict=False):
                    plane = plane * extent + one.start + at
                start = (plane * self.shape[-2] + rows.start) * self.shape[-1]
                voxels = np.fromfile(self.path, self.dtype, count, offset=self.offset + start * self.dtype.itemsize)
                if voxels.size < count:
                    raise damaged(self.path, "fewer voxels than there were when it was opened")
                found[index] = voxels.reshape(-1, self.shape[-1])[:, columns]
        except OSError as error:
            raise InputError("the file cannot be read", where=self.path, found=error, fix="check the disk") from error
        return found
