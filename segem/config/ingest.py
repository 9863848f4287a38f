"""How a source becomes a volume."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import field_validator, model_validator

from segem.config.names import Name
from segem.config.source import Selection, Source
from segem.errors import ConfigError
from segem.geometry import ZYX, Box, VoxelSize

Polarity = Literal["zero", "nonzero"] | int


class LabelSource(Selection):
    """Where ground truth comes from, and which of its values mean membrane."""

    source: Source
    """Ground truth: a stack of the same shape, or one that says where in the image it lies; a path or a URL."""
    membrane: Polarity
    """``zero``, ``nonzero`` or the one pixel value that means membrane; never guessed."""
    dataset: str | None = None
    """Path of the ground truth inside an HDF5 file, Zarr store or N5 container."""
    ignore: int | None = None
    """Pixel value that means not labelled; such pixels are left out of training and scores."""

    @model_validator(mode="after")
    def _ignored_is_another(self) -> LabelSource:
        if self.ignore is None:
            return self
        if self.ignore == {"zero": 0}.get(str(self.membrane), self.membrane):
            raise ValueError(f"the value to ignore, {self.ignore}, is the one that means membrane; give two values")
        if self.membrane == "nonzero" and self.ignore == 0:
            raise ValueError("to ignore 0 where nonzero means membrane leaves nothing that is not membrane")
        return self


class IngestConfig(Selection):
    """How one source becomes one OME-Zarr volume."""

    name: Name
    """Name of the volume."""
    source: Source
    """TIFF, folder of TIFF or PNG sections, HDF5, NumPy file, OME-Zarr, N5 or Neuroglancer volume: a path, or a URL of
    http, https, s3 or gs."""
    voxel_nm: tuple[float, float, float]
    """Voxel size in nanometres along (z, y, x)."""
    labels: LabelSource | None = None
    """Ground truth, if there is any."""
    box: str | None = None
    """Part of the source to read, as z0:z1,y0:y1,x0:x1; a side left out is where the source ends."""

    @field_validator("voxel_nm")
    @classmethod
    def _positive(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        try:
            VoxelSize(*value)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return value

    @field_validator("box")
    @classmethod
    def _three_ranges(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"(\d*:\d*,){2}\d*:\d*", value):
            raise ValueError(f"a box is z0:z1,y0:y1,x0:x1 in voxels, as 0:10,:,512:1024, found {value!r}")
        return value

    def box_within(self, shape: ZYX) -> Box:
        """Return the part of a source of this shape that is to be read.

        Examples
        --------
        >>> config = IngestConfig(name="a", source="a.tif", voxel_nm=(50, 4, 4), box="2:4,:,8:")
        >>> config.box_within((10, 20, 30))
        Box(start=(2, 0, 8), stop=(4, 20, 30))
        """
        if self.box is None:
            return Box.of_shape(shape)
        sides = [side.split(":") for side in self.box.split(",")]
        (z0, z1), (y0, y1), (x0, x1) = (
            (int(start or 0), int(stop or n)) for (start, stop), n in zip(sides, shape, strict=True)
        )
        return Box((z0, y0, x0), (z1, y1, x1))

    @property
    def voxel_size(self) -> VoxelSize:
        """The voxel size as a value."""
        return VoxelSize(*self.voxel_nm)
