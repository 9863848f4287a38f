"""Datasets of N5 containers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from segem.config import Selection, Url
from segem.errors import InputError
from segem.io.readers.axes import UNKNOWN_AXIS
from segem.io.readers.chunked import name_axes, read_numbers, read_unit, refuse_choice
from segem.io.readers.stack import no_damage
from segem.io.readers.tensorstore_array import Opening, TensorstoreReader, check_below, read_json

MARKER = "attributes.json"
_COARSER = re.compile(r"(?:.*/)?s[1-9]\d*")
_WITHIN = ("", "s0", "data", "data/s0")
"""Where the finest array of a group lies, by the conventions of N5-Viewer and Paintera."""
_ORDER = "the order of N5"


class N5Reader(TensorstoreReader):
    """A dataset of an N5 container, its axes x, y, z as the format has them; of a pyramid, the full resolution.

    Parameters
    ----------
    source : Path or Url
        The container, or a dataset in it.
    chosen : Selection
        Names the dataset, which is needed when there are several.

    Raises
    ------
    InputError
        As `TensorstoreReader`.
    """

    def __init__(self, source: Path | Url, chosen: Selection) -> None:
        super().__init__(source, chosen, _find)


def is_n5(source: Path) -> bool:
    """Return whether a folder is an N5 container, or a dataset of one."""
    return (source / MARKER).is_file() or (source.suffix.lower() == ".n5" and source.is_dir())


def _find(source: Path | Url, chosen: Selection) -> Opening:
    folder, attributes = _choose(source, chosen.dataset)
    count = len(attributes["dimensions"])
    with no_damage(f"{source}/{folder}"):
        axes, axes_from = _axes_of(attributes, count)
        parent = (read_json(source, _join(str(PurePosixPath(folder).parent), MARKER)) if folder else None) or {}
        return Opening(
            spec={"driver": "n5"},
            root=folder,
            folder=folder,
            axes=axes,
            axes_from=axes_from,
            sizes_nm=_read_sizes(attributes, parent, axes),
            offsets_nm=_read_lengths(attributes, "offset", axes),
            metadata={**attributes, "path": folder},
            names=_BlockNames(count),
            axes_named=axes_from != _ORDER,
        )


class _BlockNames:
    """Names blocks by their index along each axis, a folder for each but the last."""

    def __init__(self, count: int) -> None:
        self._name = re.compile("/".join([r"(\d{1,18})"] * count), re.ASCII)

    def name_of(self, at: tuple[int, ...]) -> str:
        return "/".join(map(str, at))

    def index_of(self, name: str) -> tuple[int, ...] | None:
        found = self._name.fullmatch(name)
        return None if found is None else tuple(map(int, found.groups()))


def _choose(source: Path | Url, dataset: str | None) -> tuple[str, dict[str, Any]]:
    """Return the folder of the dataset that is meant, and its attributes."""
    start = check_below(source, dataset or "")
    for within in _WITHIN:
        folder = _join(start, within)
        attributes = read_json(source, _join(folder, MARKER))
        if attributes is not None and _is_dataset(attributes):
            return folder, attributes
    if dataset is not None or isinstance(source, Url):
        raise InputError(
            "no dataset of N5 here",
            where=f"{source}/{start}",
            found="nothing with dimensions in its attributes.json",
            fix="name the dataset by --dataset (for labels --labels-dataset), or as dataset in the manifest",
        )
    found = {}
    for file in sorted(source.rglob(MARKER)):
        folder = file.parent.relative_to(source).as_posix()
        attributes = read_json(source, _join(folder, MARKER))
        if attributes is not None and _is_dataset(attributes) and not _COARSER.fullmatch(folder):
            found[folder] = attributes
    if len(found) != 1:
        words = [f"{folder} {tuple(one['dimensions'])} {one['dataType']}" for folder, one in found.items()]
        raise refuse_choice(source, "dataset", words)
    return next(iter(found.items()))


def _is_dataset(attributes: Mapping[str, Any]) -> bool:
    dimensions = attributes.get("dimensions")
    return isinstance(dimensions, list) and len(dimensions) >= 2 and "dataType" in attributes


def _axes_of(attributes: Mapping[str, Any], count: int) -> tuple[str, str]:
    names = attributes.get("axes")
    if isinstance(names, list) and len(names) == count and UNKNOWN_AXIS not in (axes := name_axes(names)):
        return axes, "the axes in its attributes"
    # Of axes beyond x, y, z nobody knows whether they are channels or times.
    return "xyz"[:count] + UNKNOWN_AXIS * (count - 3), _ORDER


def _read_sizes(attributes: Mapping[str, Any], parent: Mapping[str, Any], axes: str) -> list[float | None] | None:
    """Return the voxel size in nanometres; that of a group is the size of the finest array in it."""
    factors = read_numbers(attributes.get("downsamplingFactors", [1] * len(axes)), len(axes))
    for key in ("resolution", "pixelResolution"):
        for holder in (attributes, parent):
            sizes = _read_lengths(holder, key, axes)
            if sizes is None or factors is None:
                continue
            if holder is parent:
                return [None if size is None else size * n for size, n in zip(sizes, factors, strict=True)]
            # It is not said of which resolution the attributes of a coarser array speak.
            return sizes if set(factors) == {1.0} else None
    return None


def _read_lengths(attributes: Mapping[str, Any], key: str, axes: str) -> list[float | None] | None:
    """Return lengths along the axes in nanometres, which they are unless a unit is named; None where there are none."""
    value: Any = attributes.get(key)
    unit = attributes.get("units", "nm")
    if isinstance(value, Mapping):
        value, unit = value.get("dimensions"), value.get("unit", "nm")
    numbers = read_numbers(value, len(axes)) if isinstance(value, list) else None
    if numbers is None:
        return None
    units = unit if isinstance(unit, list) else [unit] * len(axes)
    if len(units) != len(axes):
        return None
    factors = map(read_unit, units)
    return [None if factor is None else number * factor for number, factor in zip(numbers, factors, strict=True)]


def _join(*parts: str) -> str:
    return "/".join(part for part in parts if part not in ("", "."))
