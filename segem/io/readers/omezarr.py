"""Zarr arrays and the full resolution of OME-Zarr images."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from segem.config import Selection
from segem.errors import InputError
from segem.geometry import ceil_div
from segem.io.readers.axes import UNKNOWN_AXIS
from segem.io.readers.reader import Described, Reader
from segem.io.readers.stack import NAME_IT, check_declared, chunk_indices, damaged, incomplete
from segem.io.shards import path_of

MARKERS = ("zarr.json", ".zgroup", ".zarray")


class ZarrReader(Reader):
    """An array in a zarr folder of format 2 or 3.

    Parameters
    ----------
    path : Path
        The folder: an OME-Zarr image, of which the full resolution is read, or an array.
    chosen : Selection
        Names the array, which is needed when the folder is a group but not an image.

    Raises
    ------
    InputError
        When there is no such array, chunks of it are missing, or a file of it links to a file outside.
    """

    def __init__(self, path: Path, chosen: Selection) -> None:
        _refuse_links(path)
        names: str | None = None
        try:
            node = zarr.open(str(path), mode="r", path=chosen.dataset or "")
            if isinstance(node, zarr.Group):
                names, node = _axis_names(node), node[_full_resolution(node, path)]
        except InputError:
            raise
        except Exception as error:
            # zarr raises errors of a dozen unrelated types for broken stores.
            raise damaged(path, None, cause=error) from error
        if not isinstance(node, zarr.Array) or node.ndim < 2:
            found = f"shape {node.shape}" if isinstance(node, zarr.Array) else "a group"
            raise InputError("not a stack", where=path, expected="axes z, y, x", found=found, fix=NAME_IT)
        self._array = node
        shape, dtype = node.shape, np.dtype(node.dtype)
        # The size on disk is not known without listing it all; the limit for a section still holds.
        check_declared(path, shape[-2:], dtype, 2**62)
        _check_whole(node)
        if names is not None and len(names) == len(shape):
            axes, axes_from = names, "the names in its OME metadata"
        else:
            axes, axes_from = UNKNOWN_AXIS * len(shape), "convention"
        super().__init__(path, Described(shape, dtype, axes, axes_from, chunk=node.shards or node.chunks))

    def label_of(self, z: int) -> str:
        """Return the array and the index of a section."""
        return f"{self.source}/{self._array.path}[{z}]"

    def read(self, part: tuple[slice, ...]) -> NDArray[Any]:
        """Read a part of the array."""
        try:
            return np.asarray(self._array[part])
        except Exception as error:
            raise damaged(f"{self.source}/{self._array.path}", None, cause=error) from error


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


def _axis_names(group: zarr.Group) -> str | None:
    """Return the first letters of the names of the axes of an OME-Zarr image, if it names them."""
    attributes: dict[str, Any] = dict(group.attrs)
    ome = attributes.get("ome", attributes)
    try:
        axes = ome["multiscales"][0]["axes"]
        # OME-Zarr 0.3 has a list of names, later versions have a mapping for each axis.
        return "".join(str(axis["name"] if isinstance(axis, dict) else axis).lower()[:1] for axis in axes)
    except (KeyError, IndexError, TypeError):
        return None


def _refuse_links(path: Path) -> None:
    root = path.resolve()
    for item in path.rglob("*"):
        if item.is_symlink() and not item.resolve().is_relative_to(root):
            raise InputError("a link leads out of the source", where=item, fix="copy the file into the folder")
