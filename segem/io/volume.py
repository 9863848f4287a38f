"""Volumes on disk: OME-Zarr 0.5 images with labels, in nanometres, axes (z, y, x)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import DTypeLike
from yaozarrs import v05

from segem.config import Url
from segem.errors import InputError, WorkspaceError
from segem.geometry import ZYX, VoxelSize
from segem.io.blocks import put_block
from segem.io.files import PARTIAL, disk_errors, is_refusal, new_directory, write_text
from segem.io.multiscale import multiscale_of, plan_levels
from segem.io.pyramid import PyramidBlock, pyramid_blocks
from segem.io.shard_store import ShardStore, open_elsewhere, send_elsewhere
from segem.io.shards import AXES, CHUNK, Array, path_of, shape_of, shard_of, shard_shape, write_block
from segem.io.volume_metadata import (
    create_group,
    create_image,
    create_label,
    damaged,
    list_labels,
    read_attributes,
    read_json,
)
from segem.io.workspace import VOLUME_SUFFIX
from segem.kernels.normalize import IntensityStatistics
from segem.kernels.pyramid import Reduction

__all__ = ["ATTRIBUTES", "CHUNK", "OUTSIDE", "Volume", "create_volume", "shard_shape", "write_block"]

ATTRIBUTES = "segem"
OUTSIDE = "outside"
"""The label that is 1 where a volume holds no tissue; absent where all of it is tissue."""


class Volume:
    """An OME-Zarr image with labels on disk; made by `Volume.open` or `create_volume`.

    Arrays are opened when first used. A volume is pickled as its path, so it can be sent to workers.

    Parameters
    ----------
    path : Path
        Folder of the image.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[type[Volume], tuple[Path]]:
        return (Volume, (self.path,))

    def __repr__(self) -> str:
        return f"Volume({str(self.path)!r})"

    @classmethod
    def open(cls, path: Path) -> Volume:
        """Open a volume that is whole.

        Parameters
        ----------
        path : Path
            Folder of the image.

        Returns
        -------
        Volume

        Raises
        ------
        InputError
            When there is none; the message names the command that makes it.
        WorkspaceError
            When there is something, but not a complete volume of segem's layout.
        """
        with disk_errors(path):
            there = path.is_dir()
        if not there:
            raise InputError("no such volume", where=path, fix=f"make it with: {_command_for(path)}")
        volume = cls(path)
        if PARTIAL.search(path.name):
            raise damaged(path, "a volume that was never finished", f"make it again with: {_command_for(path)}")
        # Opens every level, so a volume with a missing or damaged array is refused here and not in the middle of work.
        image = volume._grids(None)
        for name in volume.labels():
            label = volume._grids(name)
            if label != image[: len(label)]:
                raise WorkspaceError(
                    f"the label {name} does not match the voxels of the image",
                    where=path,
                    expected=f"shape and scale of its levels {image}",
                    found=label,
                    fix="make the label again from the image as it is now",
                )
        return volume

    @classmethod
    def open_if_whole(cls, path: Path) -> Volume | None:
        """Open a volume; return None where there is none, or one that is damaged and may be made again.

        Raises
        ------
        WorkspaceError
            When the disk refuses: nothing is known then of what is there.
        """
        try:
            return cls.open(path)
        except (InputError, WorkspaceError) as error:
            if is_refusal(error.__cause__):
                raise
        return None

    @property
    def name(self) -> str:
        """Name of the volume."""
        return self.path.name.removesuffix(VOLUME_SUFFIX)

    @cached_property
    def raw(self) -> Array:
        """The image at full resolution, (z, y, x): intensities of a source, probabilities of a result."""
        return _open_array(self._levels(None)[0])

    @property
    def shape(self) -> ZYX:
        """Extent along (z, y, x)."""
        return shape_of(self.raw)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the image's voxels."""
        return np.dtype(self.raw.dtype)

    @property
    def write_block(self) -> ZYX:
        """Shape of one shard: what `write_block` takes at a time."""
        return shard_of(self.raw)

    @cached_property
    def voxel_size(self) -> VoxelSize:
        """Size of a voxel at full resolution."""
        transforms = self._multiscale(None)["datasets"][0]["coordinateTransformations"]
        return VoxelSize(*(float(n) for n in transforms[0]["scale"]))

    @property
    def place(self) -> Url | None:
        """Where its shards lie, in folders like those of the metadata; None where they lie beside them."""
        store = self.raw.store
        level = self._levels(None)[0].relative_to(self.path).as_posix()
        return Url(store.shards.objects.url.removesuffix(f"/{level}")) if isinstance(store, ShardStore) else None

    @property
    def attributes(self) -> dict[str, Any]:
        """Facts about the volume that segem keeps in its metadata, read from disk."""
        noted = read_attributes(self.path).get(ATTRIBUTES, {})
        return dict(noted) if isinstance(noted, dict) else {}

    @cached_property
    def statistics(self) -> IntensityStatistics:
        """Intensity statistics of the whole image, taken at ingest."""
        try:
            return IntensityStatistics.from_dict(self.attributes["statistics"])
        except (KeyError, TypeError, ValueError):
            raise WorkspaceError(
                "the volume has no intensity statistics", where=self.path, fix="ingest the source again"
            ) from None

    @cached_property
    def outside(self) -> Array | None:
        """Where there is no tissue, (z, y, x) uint8; None in a volume that is all tissue."""
        return self.label(OUTSIDE) if self.has_label(OUTSIDE) else None

    @property
    def outside_voxels(self) -> int:
        """Number of voxels that are no tissue; less than all."""
        noted = self.attributes.get(OUTSIDE)
        return int(noted["voxels"]) if isinstance(noted, dict) else 0

    def labels(self) -> list[str]:
        """Return the names of the labels."""
        if not (self.path / "labels").is_dir():
            return []
        names = read_attributes(self.path / "labels").get("ome", {}).get("labels", [])
        return [str(name) for name in names]

    def has_label(self, name: str) -> bool:
        """Return whether there is a label of this name."""
        return name in self.labels()

    def label(self, name: str) -> Array:
        """Return a label at full resolution, (z, y, x).

        Raises
        ------
        InputError
            When there is no such label; the message names those that exist.
        """
        if not self.has_label(name):
            raise InputError(
                f"the volume has no label {name}",
                where=self.path,
                found=", ".join(self.labels()) or "no labels",
                fix="ask for one that exists, or ingest the volume again with labels",
            )
        return _open_array(self._levels(name)[0])

    def levels(self, label: str | None = None) -> list[Array]:
        """Return all levels of the image or of a label, finest first."""
        return [_open_array(path) for path in self._levels(label)]

    def pyramid(self, label: str | None = None) -> Iterator[PyramidBlock]:
        """Yield the blocks of the coarser levels, each after those it is made from.

        Images take means; masks (uint8) the largest value, so that thin membranes stay connected; wider labels,
        which hold identities, and images wider than any of intensities, the nearest value.
        """
        levels = self.levels(label)
        bits = 8 * levels[0].dtype.itemsize
        how: Reduction = "nearest"
        if bits == 8 or (bits == 16 and label is None):
            how = "mean" if label is None else "max"
        return pyramid_blocks(levels, how)

    def build_pyramid(self, label: str | None = None) -> None:
        """Compute the coarser levels from the full resolution and write every block that is not on disk yet.

        Parameters
        ----------
        label : str, optional
            The label whose pyramid to build; the image's when absent.

        Raises
        ------
        WorkspaceError
            When the disk refuses, or what is on it does not decode.
        """
        # Two at a time, since each waits for the disk; level by level, since each level is made of the one before.
        with ThreadPoolExecutor(2, "pyramid") as pool:
            for _, level in groupby(self.pyramid(label), lambda block: path_of(block.coarse)):
                for _ in pool.map(_put, level):
                    pass

    def add_label(self, name: str, dtype: DTypeLike) -> None:
        """Add a label without any voxel written; nobody else may write the volume meanwhile.

        Raises
        ------
        WorkspaceError
            When the disk refuses.
        """
        folder = self.path / "labels"
        with disk_errors(self.path):
            # A folder without a group, or a list that names what is not there, makes the volume damaged; so the group
            # comes first, then the label, then the list that names it.
            create_group(folder)
            names = [*self.labels(), name]
            with new_directory(folder / name) as partial:
                create_label(partial, dtype, self.shape, self.voxel_size)
                if self.place is not None:
                    send_elsewhere(partial, Url(f"{self.place}/labels/{name}"))
            list_labels(folder, names)
        self.__dict__.pop("outside", None)

    def set_attributes(self, **values: Any) -> None:
        """Add facts to `attributes`, in one atomic step."""
        path = self.path / "zarr.json"
        metadata = read_json(path)
        noted = metadata.setdefault("attributes", {}).setdefault(ATTRIBUTES, {})
        noted.update(values)
        write_text(path, json.dumps(metadata, indent=2, allow_nan=False))
        # The only cached property that is read from these facts.
        self.__dict__.pop("statistics", None)

    def _multiscale(self, label: str | None) -> dict[str, Any]:
        folder = self._folder(label)
        try:
            multiscale = read_attributes(folder)["ome"]["multiscales"][0]
            axes = tuple(axis["name"] for axis in multiscale["axes"])
        except (KeyError, IndexError, TypeError):
            raise damaged(folder, "metadata without an OME-Zarr 0.5 image") from None
        if axes != AXES:
            raise damaged(folder, f"axes {', '.join(axes)}")
        return dict(multiscale)

    def _levels(self, label: str | None) -> list[Path]:
        folder = self._folder(label)
        return [folder / dataset["path"] for dataset in self._multiscale(label)["datasets"]]

    def _grids(self, label: str | None) -> list[tuple[ZYX, list[float]]]:
        """Return the shape and scale of every level; layers for which they are equal share their voxel grid."""
        shapes = [shape_of(level) for level in self.levels(label)]
        try:
            scales = [
                dataset["coordinateTransformations"][0]["scale"] for dataset in self._multiscale(label)["datasets"]
            ]
        except (KeyError, IndexError, TypeError):
            raise damaged(self._folder(label), "levels without a scale") from None
        return list(zip(shapes, scales, strict=True))

    def _folder(self, label: str | None) -> Path:
        return self.path if label is None else self.path / "labels" / label


def create_volume(
    path: Path,
    *,
    shape: ZYX,
    dtype: DTypeLike,
    voxel_size: VoxelSize,
    labels: Mapping[str, DTypeLike],
    attributes: dict[str, Any],
    place: Url | None = None,
) -> Volume:
    """Create a volume without any voxel written.

    Parameters
    ----------
    path : Path
        Folder of the image; it appears in one step, with all its metadata, and replaces what was there.
    shape : tuple of int
        Extent along (z, y, x), each at least 1.
    dtype : dtype
        Type of the image's voxels.
    voxel_size : VoxelSize
        In nanometres. Where it is nearly isotropic, the pyramid shrinks z as well.
    labels : mapping of str to dtype
        Names and types of the labels.
    attributes : dict
        Facts to keep about the volume.
    place : Url, optional
        Where its shards are to lie, instead of beside the metadata.

    Returns
    -------
    Volume

    Raises
    ------
    WorkspaceError
        When the disk or the storage refuses.
    """
    levels = plan_levels(shape, voxel_size)
    multiscale = multiscale_of(levels, voxel_size)
    # In one step: a volume that has a name is complete in its metadata, whatever is killed meanwhile.
    with disk_errors(path), new_directory(path) as partial:
        create_image(partial, v05.Image(multiscales=[multiscale]), levels, dtype, {ATTRIBUTES: attributes})
        if labels:
            for name, kind in labels.items():
                create_label(partial / "labels" / name, kind, shape, voxel_size)
            list_labels(partial / "labels", list(labels))
        if place is not None:
            send_elsewhere(partial, place)
    return Volume(path)


def _put(block: PyramidBlock) -> None:
    # An unchanged block keeps its file, so a resumed run does not write the pyramid again.
    put_block(block.coarse, block.box, block.voxels())


def _open_array(path: Path) -> Array:
    try:
        store = open_elsewhere(path)
        array = zarr.open_array(store or str(path), mode="r" if store else "r+", zarr_format=3)
    except Exception as error:
        if is_refusal(error):
            with disk_errors(path):
                raise
        # zarr answers a broken store with a dozen unrelated types of error.
        raise damaged(path, f"{type(error).__name__}: {error}") from error
    if array.ndim != 3:
        raise damaged(path, f"{array.ndim} axes")
    return array


def _command_for(path: Path) -> str:
    name = path.name.removesuffix(VOLUME_SUFFIX)
    if path.parent.parent.name == "runs":
        return f"segem segment {name} --run {path.parent.name}"
    return f"segem ingest SOURCE --name {name} --voxel-nm Z,Y,X"
