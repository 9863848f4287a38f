"""Blocks as they lie on disk: read without ever taking a lost file for background, and digested."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.errors import WorkspaceError
from segem.geometry import Box, grid
from segem.io.shards import Array, path_of, shape_of, shard_files, shard_of

UNREADABLE = (ValueError, RuntimeError, OSError)
"""What zarr raises, by turns, for a bad checksum, a bad shard index or a short file."""


def read_block(array: Array, box: Box, fix: str) -> NDArray[Any]:
    """Return the voxels of any box of a layer.

    Parameters
    ----------
    array : Array
        Level of an image or a label.
    box : Box
        What to read; it need not lie on the shard grid.
    fix : str
        How to make the layer again, for the message.

    Returns
    -------
    (z, y, x) array
        Of the shape of `box`.

    Raises
    ------
    WorkspaceError
        When a file is missing, which zarr itself would read as zeros, or does not decode.
    """
    missing = [file for file in shard_files(array, box) if not file.is_file()]
    if missing:
        raise WorkspaceError("a block of the volume is missing", where=missing[0], fix=fix)
    try:
        return np.asarray(array[box.slices])
    except UNREADABLE as error:
        raise WorkspaceError(f"{box} cannot be read", where=path_of(array), found=error, fix=fix) from error


def voxel_digest(arrays: Iterable[NDArray[Any]]) -> str:
    """Return the sha256 of the bytes of several arrays, one after the other.

    Examples
    --------
    >>> voxel_digest([np.zeros(2, np.uint8)]) == voxel_digest([np.zeros(1, np.uint8), np.zeros(1, np.uint8)])
    True
    """
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def layer_digest(array: Array, fix: str) -> str:
    """Return the sha256 of all voxels of a layer as they lie on disk, block by block.

    Raises
    ------
    WorkspaceError
        When a block is missing or does not decode.
    """
    blocks = (box for _, box in grid(shape_of(array), shard_of(array)))
    return voxel_digest(read_block(array, box, fix) for box in blocks)


def stored_digest(arrays: Iterable[Array], box: Box) -> str | None:
    """Return the `voxel_digest` of a box as it lies on disk; None where a file is missing or does not decode."""
    try:
        return voxel_digest(read_block(array, box, "") for array in arrays)
    except WorkspaceError:
        return None


def shard_path(array: Array, box: Box) -> Path:
    """Return the file that holds a block; the box must start on the shard grid."""
    z, y, x = (start // edge for start, edge in zip(box.start, shard_of(array), strict=True))
    return path_of(array) / array.metadata.encode_chunk_key((z, y, x))
