"""What OME-Zarr metadata of versions 0.1 to 0.5 say of an image: its finest array, axes, voxel size and place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from segem.errors import InputError
from segem.io.readers.chunked import (
    find_foreign_names,
    name_axes,
    read_numbers,
    read_unit,
    state_offset,
    state_voxel_size,
)
from segem.io.readers.reader import StatedVoxelSize
from segem.io.readers.stack import NAME_IT, damaged

_ORIGIN = "its OME metadata"


@dataclass(frozen=True)
class Multiscale:
    """An image of several resolutions.

    Parameters
    ----------
    path : str
        Its finest array, counted from its group.
    axes : str
        A letter for each axis; empty before version 0.3, which was the first to name them.
    voxel : StatedVoxelSize, optional
        The size of a voxel, where the unit of an axis is known.
    offset_nm : tuple of float, optional
        Where the first voxel lies along (z, y, x), where that is said.
    names : tuple of str
        The axes as they are called, where a name is not understood.
    unitless : str
        What is said of the size of a voxel without a unit that is known, in words.
    unscaled : tuple of str
        Other arrays of the image, of which no scale says that they are coarser.
    """

    path: str
    axes: str
    voxel: StatedVoxelSize | None
    offset_nm: tuple[float, float, float] | None
    names: tuple[str, ...] = ()
    unitless: str = ""
    unscaled: tuple[str, ...] = ()


def read_ome(attributes: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the OME part of the attributes of a group; from version 0.5 on they have a key of their own."""
    ome = attributes.get("ome", attributes)
    return ome if isinstance(ome, Mapping) else {}


def is_multiscale(attributes: Mapping[str, Any]) -> bool:
    """Return whether the attributes of a group are those of an image."""
    return isinstance(read_ome(attributes).get("multiscales"), Sequence)


def read_multiscale(attributes: Mapping[str, Any], where: object) -> Multiscale:
    """Read the metadata of an image.

    Parameters
    ----------
    attributes : mapping
        Those of its group.
    where : object
        The group, for messages.

    Raises
    ------
    InputError
        When they are not as the format has them, or hold several images.

    Examples
    --------
    >>> scale = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [0.05, 0.004, 0.004]}]}
    >>> axes = [{"name": name, "unit": "micrometer"} for name in "zyx"]
    >>> read_multiscale({"multiscales": [{"axes": axes, "datasets": [scale]}]}, "a.zarr").voxel.z_nm
    50.0
    """
    images = read_ome(attributes)["multiscales"]
    try:
        if len(images) != 1:
            paths = ", ".join(str(image["datasets"][0]["path"]) for image in images[:10]) or "none"
            raise InputError(
                f"{len(images)} images in one group", where=where, expected="one", found=f"arrays: {paths}", fix=NAME_IT
            )
        (image,) = images
        first, *coarser = image["datasets"]
        axes, units, names = _read_axes(image)
        scale, shift = _read_transforms(image, first, len(axes))
        unscaled = []
        for dataset in coarser:
            other, _ = _read_transforms(image, dataset, len(axes))
            if not scale or not other:
                unscaled.append(str(dataset["path"]))
            elif any(fine > coarse for fine, coarse in zip(scale, other, strict=True)):
                raise not_the_finest(where, first["path"], dataset["path"])
        return Multiscale(
            str(first["path"]),
            axes,
            None if scale is None else state_voxel_size(axes, _in_nm(scale, units), _ORIGIN),
            None if shift is None else state_offset(axes, _in_nm(shift, units)),
            names,
            _describe_unitless(axes, scale or (), units),
            tuple(unscaled),
        )
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise damaged(where, None, cause=error) from error


def not_the_finest(where: object, first: object, finer: object) -> InputError:
    """Return the error for an image whose finest array is not the first."""
    return damaged(where, f"dataset {first} comes first, and {finer} is finer")


def _read_axes(image: Mapping[str, Any]) -> tuple[str, list[float | None], tuple[str, ...]]:
    """Return a letter for each axis, its unit in nanometres, and the names where one is not understood."""
    named = image.get("axes")
    if named is None:
        return "", [], ()
    # Version 0.3 has a list of names, later ones have a mapping for each axis.
    axes = [axis if isinstance(axis, Mapping) else {"name": axis} for axis in named]
    kinds = {"channel": "c", "time": "t"}
    known = [kinds.get(str(axis.get("type")), axis["name"]) for axis in axes]
    # Named in words that are none of an image: so that it is asked, and not guessed, which is which.
    letters = name_axes(known).replace("?", "_")
    return letters, [read_unit(axis.get("unit")) for axis in axes], find_foreign_names(known)


def _describe_unitless(axes: str, scale: Sequence[float], units: Sequence[float | None]) -> str:
    """Return in words what a scale says of (z, y, x) without a unit; a scale of 1 says nothing."""
    said = zip(axes, scale, units, strict=False)
    bare = {letter: size for letter, size, unit in said if letter in "zyx" and unit is None}
    return "" if set(bare.values()) <= {1.0} else ", ".join(f"{size:g} along {letter}" for letter, size in bare.items())


def _read_transforms(
    image: Mapping[str, Any], dataset: Mapping[str, Any], count: int
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Return scale and translation of a dataset along each axis; None where they are not said, or lie in a file."""
    scale: tuple[float, ...] | None = None
    shift: tuple[float, ...] | None = None
    # That of the dataset is applied before that of the whole image.
    for holder in (dataset, image):
        for transform in holder.get("coordinateTransformations") or ():
            kind = transform["type"]
            if kind == "identity":
                continue
            values = read_numbers(transform.get(kind), count)
            if values is None or kind not in ("scale", "translation"):
                return None, None
            if kind == "scale":
                scale = values if scale is None else _times(scale, values)
                shift = None if shift is None else _times(shift, values)
            else:
                shift = values if shift is None else tuple(a + b for a, b in zip(shift, values, strict=True))
    return scale, shift


def _times(first: Sequence[float], second: Sequence[float]) -> tuple[float, ...]:
    return tuple(a * b for a, b in zip(first, second, strict=True))


def _in_nm(values: Sequence[float], units: Sequence[float | None]) -> list[float | None]:
    return [None if unit is None else value * unit for value, unit in zip(values, units, strict=True)]
