"""Zarr arrays and the full resolution of OME-Zarr images."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from segem.errors import InputError
from segem.geometry import ceil_div
from segem.io.readers.stack import NAME_IT, Stack, check_declared, chunk_indices, damaged, incomplete
from segem.io.shards import path_of

MARKERS = ("zarr.json", ".zgroup", ".zarray")


class ZarrStack(Stack):
    """An array of axes (z, y, x), or with leading axes of length 1, in a zarr folder of format 2 or 3.

    Parameters
    ----------
    path : Path
        The folder: an OME-Zarr image, of which the full resolution is read, or an array.
    dataset : str, optional
        Path of the array inside; needed when the folder is a group but not an image.

    Raises
    ------
    InputError
        When there is no such array, chunks of it are missing, or a file of it links to a file outside.
    """

    def __init__(self, path: Path, dataset: str | None = None) -> None:
        _refuse_links(path)
        try:
            node = zarr.open(str(path), mode="r", path=dataset or "")
            if isinstance(node, zarr.Group):
                node = node[_full_resolution(node, path)]
        except InputError:
            raise
        except Exception as error:
            # zarr raises errors of a dozen unrelated types for broken stores.
            raise damaged(path, None, cause=error) from error
        if not isinstance(node, zarr.Array) or node.ndim < 2 or any(n != 1 for n in node.shape[:-3]):
            found = f"shape {node.shape}" if isinstance(node, zarr.Array) else "a group"
            raise InputError("not a stack", where=path, expected="axes z, y, x", found=found, fix=NAME_IT)
        self._array = node
        shape = (node.shape[-3] if node.ndim > 2 else 1, node.shape[-2], node.shape[-1])
        dtype = np.dtype(node.dtype)
        # The size on disk is not known without listing it all; the limit for a section still holds.
        check_declared(path, shape[1:], dtype, 2**62)
        _check_whole(node)
        super().__init__(path, shape, dtype)

    def label_of(self, z: int) -> str:
        """Return the array and the index of a section."""
        return f"{self.source}/{self._array.path}[{z}]"

    def _read(self, z: int) -> NDArray[Any]:
        index = (0,) * (self._array.ndim - 3) + (z,) if self._array.ndim > 2 else ()
        try:
            return np.asarray(self._array[index])
        except Exception as error:
            raise damaged(self.label_of(z), None, cause=error) from error


def is_zarr(source: Path) -> bool:
    """Return whether a folder holds a zarr array or group."""
    return any((source / marker).is_file() for marker in MARKERS)


def list_zarr_files(source: Path) -> list[Path]:
    """Return every file of a zarr folder, sorted."""
    return sorted(path for path in source.rglob("*") if path.is_file())


def _check_whole(array: Any) -> None:
    """Check that every file of an array is there; zarr itself reads an absent one as the fill value."""
    folder = path_of(array)
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    counts = [ceil_div(n, edge) for n, edge in zip(array.shape, array.shards or array.chunks, strict=True)]
    keys = (array.metadata.encode_chunk_key(index) for index in chunk_indices(counts))
    first = next((key for key in keys if key not in files), None)
    if first is not None:
        # Not counted by walking the keys: damaged metadata can declare any number of them.
        present = sum(not key.startswith(".") and key != "zarr.json" for key in files)
        total = math.prod(counts)
        raise incomplete(folder, max(1, total - present), total, first)


def _full_resolution(group: zarr.Group, path: Path) -> str:
    attributes: dict[str, Any] = dict(group.attrs)
    ome = attributes.get("ome", attributes)
    try:
        return str(ome["multiscales"][0]["datasets"][0]["path"])
    except (KeyError, IndexError, TypeError):
        arrays = ", ".join(sorted(group.array_keys())[:10]) or "none"
        raise InputError("which array is meant?", where=path, found=f"arrays: {arrays}", fix=NAME_IT) from None


def _refuse_links(path: Path) -> None:
    root = path.resolve()
    for item in path.rglob("*"):
        if item.is_symlink() and not item.resolve().is_relative_to(root):
            raise InputError("a link leads out of the source", where=item, fix="copy the file into the folder")
