"""Labels that say where they lie, and cover a part of an image: the rest of the truth is unknown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.errors import InputError
from segem.geometry import ZYX, Box, VoxelSize
from segem.io.readers import Stack
from segem.kernels.truth import UNKNOWN

# Of a voxel: an offset that was written with few digits is still that of a whole voxel.
_TOLERANCE = 0.05

Judge = Callable[[int, NDArray[Any], NDArray[np.bool_] | None], NDArray[np.uint8]]


@dataclass(frozen=True)
class PlacedLabels:
    """Labels, and where they lie in a volume.

    Parameters
    ----------
    stack : Stack
        The labels, of the shape of `place`.
    place : Box
        What they cover, in voxels of the volume.
    shape : tuple of int
        Extent of the volume along (z, y, x).
    """

    stack: Stack
    place: Box
    shape: ZYX

    def read_truth(
        self,
        box: Box,
        judge: Judge,
        outside: NDArray[np.bool_] | None = None,
        ids: NDArray[np.unsignedinteger[Any]] | None = None,
    ) -> NDArray[np.uint8]:
        """Read the truth of a box of the volume.

        Parameters
        ----------
        box : Box
            Within the volume.
        judge : callable
            From the index and the values of a section of the labels, and where it holds no tissue, to its truth.
        outside : (z, y, x) array of bool, optional
            Where the box holds no tissue.
        ids : (z, y, x) array of unsigned integers, optional
            Filled with the labels themselves, negative ones from above, and left as it is where there are none.

        Returns
        -------
        (z, y, x) array of uint8
            Unknown where there are no labels.
        """
        truth = np.full(box.shape, UNKNOWN, np.uint8)
        covered = self.place.intersect(box)
        if covered.size:
            labels = self.stack.read(covered.relative_to(self.place.start))
            _, rows, columns = covered.relative_to(box.start).slices
            for k, section in enumerate(labels):
                z = covered.start[0] + k
                part = (z - box.start[0], rows, columns)
                nowhere = None if outside is None else outside[part]
                truth[part] = judge(z - self.place.start[0], section, nowhere)
                if ids is not None:
                    # A negative float would become any number.
                    ids[part] = section.astype(np.int64) if section.dtype.kind == "f" else section
        return truth

    def facts(self, counted: dict[str, Any]) -> dict[str, Any]:
        """Return the facts about labels as those about the truth of the whole volume."""
        if self.covers_all:
            return counted
        known = counted.get("known_fraction", 1.0) * self.place.size / Box.of_shape(self.shape).size
        covered = range(self.place.start[0], self.place.stop[0])
        unknown = [z for z in range(self.shape[0]) if z not in covered]
        unknown += self.in_volume(counted.get("unknown_sections", ()))
        place = {"start": list(self.place.start), "stop": list(self.place.stop)}
        moved = {key: self.in_volume(counted[key]) for key in ("sections_without_membrane",) if key in counted}
        return counted | moved | {"known_fraction": known, "unknown_sections": sorted(unknown), "place": place}

    def in_volume(self, sections: Iterable[int]) -> list[int]:
        """Return sections of the labels as sections of the volume."""
        return [self.place.start[0] + z for z in sections]

    def warnings(self) -> tuple[str, ...]:
        """Return what the user should know about the place of the labels."""
        if self.covers_all:
            return ()
        share = self.place.size / Box.of_shape(self.shape).size
        return (f"the labels cover {share:.1%} of the image, {self.place}; the rest is not labelled",)

    @property
    def covers_all(self) -> bool:
        """Whether the volume has labels everywhere."""
        return self.place == Box.of_shape(self.shape)


def place_labels(labels: Stack, raw: Stack, box: Box, voxel: VoxelSize) -> PlacedLabels:
    """Place labels in the part of an image that is read.

    Parameters
    ----------
    labels, raw : Stack
        Both whole. By the place that the labels state, counted from that of the image where it states one.
    box : Box
        The part of the image that is read.
    voxel : VoxelSize
        Size of a voxel of both in nanometres.

    Raises
    ------
    InputError
        When the labels do not fit there, lie between voxels or outside of what is read, or have another shape than the
        image and state no place.
    """
    place = _find_place(labels, raw, voxel)
    covered = place.intersect(box)
    if not covered.size:
        raise InputError(
            "the labels lie outside of what is read of the image",
            where=labels.source,
            expected=f"labels within {box}",
            found=place,
            fix="correct --box, or leave the labels out",
        )
    return PlacedLabels(labels.within(covered.relative_to(place.start)), covered.relative_to(box.start), box.shape)


def _find_place(labels: Stack, raw: Stack, voxel: VoxelSize) -> Box:
    """Return what labels cover of an image, in its voxels."""
    if labels.found.offset_nm is None:
        if labels.shape == raw.shape:
            return Box.of_shape(raw.shape)
        raise InputError(
            "the labels do not fit the image",
            where=labels.source,
            expected=f"(z, y, x) {raw.shape} as in {raw.source}",
            found=labels.shape,
            fix="give one label section for every image section, of the same size",
        )
    _check_size(labels, voxel)
    offset_nm = np.subtract(labels.found.offset_nm, raw.found.offset_nm or (0, 0, 0))
    exact = offset_nm / voxel.zyx
    lies = f"shape {labels.shape}, its first voxel at {_list(offset_nm)} nm or voxel {_list(exact)}"
    if bool((np.abs(exact - np.rint(exact)) > _TOLERANCE).any()):
        raise InputError(
            "the labels lie between the voxels of the image",
            where=labels.source,
            expected=f"an offset of whole voxels of {_list(voxel.zyx)} nm",
            found=lies,
            fix="correct --voxel-nm, or the offset in the file",
        )
    z, y, x = (int(at) for at in np.rint(exact))
    depth, height, width = labels.shape
    if min(z, y, x) >= 0:
        place = Box((z, y, x), (z + depth, y + height, x + width))
        if Box.of_shape(raw.shape).contains(place):
            return place
    raise InputError(
        "the labels do not fit where their offset places them",
        where=labels.source,
        expected=f"a place within (z, y, x) {raw.shape} of {raw.source}",
        found=lies,
        fix="give the image that they were painted on, or correct the offset in the file",
    )


def _check_size(labels: Stack, voxel: VoxelSize) -> None:
    """Refuse labels of another voxel size, which an offset in nanometres would place wrongly."""
    said = labels.found.voxel
    sizes = (None, None, None) if said is None else (said.z_nm, said.y_nm, said.x_nm)
    if any(size is not None and abs(size / nm - 1) > _TOLERANCE for size, nm in zip(sizes, voxel.zyx, strict=True)):
        raise InputError(
            "the labels have voxels of another size than the image",
            where=labels.source,
            expected=f"{_list(voxel.zyx)} nm along z, y, x",
            found=", ".join("?" if size is None else f"{size:.6g}" for size in sizes),
            fix="resample the labels to the voxels of the image, or correct --voxel-nm",
        )


def _list(values: Sequence[float] | NDArray[Any]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)
