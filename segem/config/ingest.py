"""How a source becomes a volume."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import field_validator, model_validator

from segem.config.base import Config
from segem.config.names import Name
from segem.errors import ConfigError
from segem.geometry import VoxelSize

Polarity = Literal["zero", "nonzero"] | int


class LabelSource(Config):
    """Where ground truth comes from, and which of its values mean membrane."""

    source: Path
    """Ground truth, as a stack of the same shape."""
    membrane: Polarity
    """``zero``, ``nonzero`` or the one pixel value that means membrane; never guessed."""
    dataset: str | None = None
    """Path of the ground truth inside an HDF5 file or Zarr store."""
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


class IngestConfig(Config):
    """How one source becomes one OME-Zarr volume."""

    name: Name
    """Name of the volume."""
    source: Path
    """TIFF, folder of TIFF or PNG sections, HDF5 file or OME-Zarr."""
    voxel_nm: tuple[float, float, float]
    """Voxel size in nanometres along (z, y, x)."""
    labels: LabelSource | None = None
    """Ground truth, if there is any."""
    dataset: str | None = None
    """Path of the array inside an HDF5 file or Zarr store."""

    @field_validator("voxel_nm")
    @classmethod
    def _positive(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        try:
            VoxelSize(*value)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return value

    @property
    def voxel_size(self) -> VoxelSize:
        """The voxel size as a value."""
        return VoxelSize(*self.voxel_nm)
