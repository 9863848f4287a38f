"""How a CRF refines a probability."""

from __future__ import annotations

from pydantic import Field

from segem.config.base import Config
from segem.config.names import Name


class CrfConfig(Config):
    """The fully connected CRF of `segem.kernels.crf`; its default weights are lighter than DeepLab's, chosen on EM."""

    w1: float = Field(default=1.0, ge=0, le=1000, allow_inf_nan=False)
    """Weight of the appearance kernel, for pixels that are close and look alike."""
    sa_px: float = Field(default=50.0, ge=1, le=500, allow_inf_nan=False)
    """Reach of the appearance kernel, a standard deviation in pixels."""
    sb_grey: float = Field(default=10.0, ge=1, le=255, allow_inf_nan=False)
    """How different pixels may look in the appearance kernel, a standard deviation in grey levels of 0 to 255."""
    w2: float = Field(default=1.0, ge=0, le=1000, allow_inf_nan=False)
    """Weight of the smoothness kernel, for pixels that are close."""
    sg_px: float = Field(default=1.0, ge=0.3, le=100, allow_inf_nan=False)
    """Reach of the smoothness kernel, a standard deviation in pixels."""
    iterations: int = Field(default=10, ge=1, le=1000)
    """Number of mean-field updates."""


class RefineConfig(Config):
    """Which run's probability a CRF refines, and how. Every setting that changes the result is in block identity."""

    of: Name
    """Run whose probability is refined; it is not changed."""
    crf: CrfConfig = CrfConfig()
    operating_point: float | None = Field(default=None, gt=0, lt=1)
    """Probability before the CRF that counts as undecided; the threshold of the refined run when absent."""
    threshold: float = Field(default=0.5, gt=0, lt=1)
    """Refined probability from which a voxel is membrane; at 0.5 the mask is the labelling that mean field finds."""
    tile_px: int | None = Field(default=None, ge=16)
    """Edge of a tile's core in pixels; chosen by the planner when absent."""
    halo_px: int | None = Field(default=None, ge=0)
    """Context around a tile's core in pixels; follows from the standard deviations when absent."""
