"""Settings of a synthetic volume."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from segem.config.base import Config

Extent = Annotated[int, Field(ge=1)]
SectionNm = Annotated[float, Field(gt=0, allow_inf_nan=False)]
PixelNm = Annotated[float, Field(ge=1, le=32, allow_inf_nan=False)]


class SynthConfig(Config):
    """One synthetic EM volume with its truth."""

    shape: tuple[Extent, Extent, Extent] = (8, 512, 512)
    """Voxels along (z, y, x)."""
    seed: int = Field(default=0, ge=0)
    """Seed of the tissue; the same seed gives the same bytes."""
    voxel_nm: tuple[SectionNm, PixelNm, PixelNm] = (50.0, 4.0, 4.0)
    """Voxel size in nanometres along (z, y, x); pixels of 1 to 32 nm."""
