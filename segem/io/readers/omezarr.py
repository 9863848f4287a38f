"""Zarr arrays and the full resolution of OME-Zarr images, in a folder or below a URL."""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from segem.config import Selection, Url
from segem.errors import InputError
from segem.io.readers.axes import UNKNOWN_AXIS
from segem.io.readers.chunked import (
    check_chunk,
    check_numeric,
    chunks_of,
    find_foreign_names,
    guess_section,
    name_axes,
    refuse_choice,
    refuse_links,
    settle_unwritten,
)
from segem.io.readers.multiscales import Multiscale, is_multiscale, not_the_finest, read_multiscale, read_ome
from segem.io.readers.reader import Described, Reader
from segem.io.readers.remote_store import RemoteStore
from segem.io.readers.stack import check_declared, damaged, no_damage
from segem.io.readers.zarr_chunks import StoredChunks

MARKERS = ("zarr.json", ".zgroup", ".zarray")
_DEEPEST = 4
"""Levels of groups in which arrays are looked for, where none is named."""
_OLD_ORDER = "the order of OME-Zarr before version 0.3"


class ZarrReader(Reader):
    """An array of a zarr hierarchy of format 2 or 3.

    Parameters
    ----------
    source : Path or Url
        An OME-Zarr image, of which the full resolution is read, an array, or a group of them.
    chosen : Selection
        Names the image or array, which is needed where there are several, and says what is done about chunks that are
        missing. Below a URL, one is noticed when a part is read that it belongs to.

    Raises
    ------
    InputError
        When there is no such array, it is no stack, chunks of it are missing, or a file of it links to a file outside.
    """

    def __init__(self, source: Path | Url, chosen: Selection) -> None:
        self._chosen = chosen
        self._remote = RemoteStore(source) if isinstance(source, Url) else None
        if isinstance(source, Path):
            refuse_links(source)
        with no_damage(source):
            node = zarr.open(self._remote or str(source), mode="r", path=chosen.dataset or "")
            self._array, image = _find_array(source, node)
            self._name = f"{source}/{self._array.path}".rstrip("/")
            found = _describe(self._name, self._array, image)
            self._stored = StoredChunks(self._array)
            if isinstance(source, Path):
                self._stored.look_on_disk(source / self._array.path)
                found = replace(found, warnings=self._settle())
        super().__init__(source, found)

    def label_of(self, z: int) -> str:
        """Return the array and the index of a section."""
        return f"{self._name}[{z}]"

    def read(self, part: tuple[slice, ...]) -> NDArray[Any]:
        """Read a part of the array."""
        with no_damage(self._name):
            voxels = np.asarray(self._array[part])
            if self._remote is not None:
                self._stored.look_elsewhere(self._remote, product(*chunks_of(part, self._stored.object_shape)))
                self.found = replace(self.found, warnings=self._settle())
        return voxels

    def _settle(self) -> tuple[str, ...]:
        return settle_unwritten(
            self._name,
            missing=self._stored.missing,
            total=self._stored.total,
            first=self._stored.first,
            fill=self._array.fill_value,
            chosen=self._chosen,
        )


def is_zarr(source: Path) -> bool:
    """Return whether a folder holds a zarr array or group."""
    return any((source / marker).is_file() for marker in MARKERS)


def _describe(name: str, array: zarr.Array[Any], image: Multiscale | None) -> Described:
    dtype = np.dtype(array.dtype)
    check_numeric(name, array.shape, dtype)
    check_chunk(name, array.chunks, dtype, "its metadata")
    axes, axes_from, names = _axes_of(name, array, image)
    # The size on disk is not known without listing it all; the limit for a section still holds.
    check_declared(name, guess_section(axes, array.shape) if array.shape[0] else array.shape, dtype, 2**62)
    metadata = json.dumps(array.metadata.to_dict(), sort_keys=True, default=str)
    found = Described(
        array.shape,
        dtype,
        axes,
        axes_from,
        axes_named=axes_from not in ("convention", _OLD_ORDER),
        axis_names=names,
        # Of a shard, one chunk can be read by itself.
        chunk=array.chunks,
        digest=hashlib.sha256(metadata.encode()).hexdigest(),
    )
    if image is None:
        return found
    return replace(found, voxel=image.voxel, offset_nm=image.offset_nm, unitless=image.unitless)


def _axes_of(name: str, array: zarr.Array[Any], image: Multiscale | None) -> tuple[str, str, tuple[str, ...]]:
    """Return a letter for each axis, who says so, and the names where one is not understood."""
    unknown = UNKNOWN_AXIS * array.ndim
    if image is not None and image.axes:
        if len(image.axes) != array.ndim:
            raise damaged(name, f"{len(image.axes)} axes are named for an array of shape {array.shape}")
        return image.axes, "the names in its OME metadata", image.names
    if image is not None and array.ndim == 5:
        return "tczyx", _OLD_ORDER, ()
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    if isinstance(names, (list, tuple)) and len(names) == array.ndim:
        axes = name_axes(names)
        return axes, "the names of its dimensions" if axes != unknown else "convention", find_foreign_names(names)
    return unknown, "convention", ()


def _find_array(source: Path | Url, node: Any) -> tuple[zarr.Array[Any], Multiscale | None]:
    """Return the array that is meant, and the image it is the full resolution of."""
    if isinstance(node, zarr.Array):
        return node, None
    where = f"{source}/{node.path}".rstrip("/")
    if is_multiscale(node.attrs):
        image = read_multiscale(node.attrs, where)
        array = node[image.path]
        if not isinstance(array, zarr.Array):
            raise damaged(where, f"{image.path} is named as its array, and is a group")
        for path in image.unscaled:
            if isinstance(other := node.get(path), zarr.Array) and math.prod(other.shape) > math.prod(array.shape):
                raise not_the_finest(where, image.path, path)
        return array, image
    ome = read_ome(node.attrs)
    if "plate" in ome:
        raise InputError(
            "a plate of many wells, and not one image",
            where=where,
            fix="name one by --dataset, as A/1/0 (row, column, field)",
        )
    found = dict(_walk(node, ""))
    if len(found) != 1:
        raise refuse_choice(where, "array", [_word(path, child) for path, child in sorted(found.items())])
    (child,) = found.values()
    return _find_array(source, child)


def _walk(group: zarr.Group, prefix: str, depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield images, and arrays that may be a stack and are no part of an image."""
    with warnings.catch_warnings():
        # Of files that others keep there, as .DS_Store.
        warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)
        listed = group.store.supports_listing or group.metadata.consolidated_metadata is not None
        members = list(group.members()) if listed else _named_members(group)
    for name, child in members:
        path = f"{prefix}{name}"
        if isinstance(child, zarr.Array):
            if child.ndim >= 2 and np.dtype(child.dtype).kind in "buif":
                yield path, child
        elif is_multiscale(child.attrs):
            yield path, child
        elif depth < _DEEPEST:
            yield from _walk(child, f"{path}/", depth + 1)


def _named_members(group: zarr.Group) -> list[tuple[str, Any]]:
    """Return the images of bioformats2raw, which are numbered, where a server cannot list what there is."""
    if "bioformats2raw.layout" not in read_ome(group.attrs):
        return []
    found: list[tuple[str, Any]] = []
    while str(len(found)) in group:
        found.append((str(len(found)), group[str(len(found))]))
    return found


def _word(path: str, child: Any) -> str:
    """Return an array or image in words, for a choice."""
    if isinstance(child, zarr.Array):
        return f"{path} {child.shape} {np.dtype(child.dtype)}"
    name = read_ome(child.attrs)["multiscales"][0].get("name")
    return f"{path} (image {name})" if name else f"{path} (image)"
