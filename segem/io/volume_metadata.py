"""The metadata of a volume: OME-Zarr 0.5 images and labels, made and read as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import zarr
from numpy.typing import DTypeLike
from yaozarrs import v05

from segem.errors import WorkspaceError
from segem.geometry import ZYX, VoxelSize
from segem.io.files import disk_errors, write_text
from segem.io.multiscale import Level, multiscale_of, plan_levels
from segem.io.shards import create_sharded


def create_image(
    path: Path,
    image: v05.Image,
    levels: list[Level],
    dtype: DTypeLike,
    attributes: dict[str, Any],
    *,
    by_bit: bool = False,
) -> None:
    """Make the group of an image or a label with an array for each level, no voxel of which is written."""
    group = zarr.create_group(str(path), zarr_format=3, attributes={"ome": _dump(image), **attributes})
    for index, level in enumerate(levels):
        create_sharded(group, str(index), level.shape, dtype, by_bit=by_bit)


def create_label(path: Path, dtype: DTypeLike, shape: ZYX, voxel_size: VoxelSize) -> None:
    """Make a label of an image, see `create_image`."""
    levels = plan_levels(shape, voxel_size)
    described = v05.ImageLabel(source=v05.LabelSource(image="../../"))
    image = v05.LabelImage(multiscales=[multiscale_of(levels, voxel_size)], **{"image-label": described})
    create_image(path, image, levels, dtype, {}, by_bit=True)


def create_group(folder: Path) -> None:
    """Make a group, where there is none."""
    if not (folder / "zarr.json").is_file():
        zarr.create_group(str(folder), zarr_format=3)


def list_labels(folder: Path, names: list[str]) -> None:
    """Name the labels of an image, in one atomic step."""
    create_group(folder)
    metadata = read_json(folder / "zarr.json")
    metadata.setdefault("attributes", {})["ome"] = _dump(v05.LabelsGroup(labels=names))
    write_text(folder / "zarr.json", json.dumps(metadata, indent=2, allow_nan=False))


def read_json(path: Path) -> dict[str, Any]:
    """Return what a file of metadata holds.

    Raises
    ------
    WorkspaceError
        When it is missing or no JSON object.
    """
    with disk_errors(path):
        there = path.is_file()
    if not there:
        raise damaged(path, "no such file")
    try:
        with disk_errors(path):
            values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise damaged(path, f"{type(error).__name__}: {error}") from error
    if not isinstance(values, dict):
        raise damaged(path, type(values).__name__)
    return values


def read_attributes(folder: Path) -> dict[str, Any]:
    """Return the attributes of a group; empty where it has none. Raises as `read_json`."""
    attributes = read_json(folder / "zarr.json").get("attributes", {})
    return attributes if isinstance(attributes, dict) else {}


def damaged(path: Path, found: str, fix: str = "make it again, or restore it from a copy") -> WorkspaceError:
    """Return the error that says that a volume is not whole."""
    return WorkspaceError("not a whole OME-Zarr 0.5 volume", where=path, found=found, fix=fix)


def _dump(model: v05.Image | v05.LabelsGroup) -> dict[str, Any]:
    return dict(model.model_dump(mode="json", exclude_none=True, by_alias=True))
