"""How a model is swept over a volume."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from segem.config.base import Config

BUNDLED_MODEL = "unet-em"
Resampling = Literal["auto", "never", "several"]
RuntimeName = Literal["auto", "torch", "openvino", "openvino-int8"]
Window = Literal["gaussian", "hann"]


class SweepConfig(Config):
    """How any model is swept over a volume."""

    stitch: Literal["auto", "crop"] | Window = "auto"
    """How tiles are joined: ``crop`` gives exactly what the whole section would, ``gaussian`` and ``hann`` blend
    overlapping tiles; ``auto`` crops where the model needs a finite context."""
    tile_px: int | None = Field(default=None, ge=16)
    """Edge of a tile's core (crop) or of the whole tile (blended) in pixels; chosen by the planner when absent."""
    halo_px: int | None = Field(default=None, ge=0)
    """Context around a tile's core in pixels; the model's own when absent."""
    overlap: float = Field(default=0.5, ge=0, lt=1)
    """Share of a tile that overlaps the next one (blended only)."""
    threshold: float | None = Field(default=None, gt=0, lt=1)
    """Probability from which a voxel is membrane; the model's own when absent."""
    views: Literal[1, 2, 4, 8] = 1
    """Views of each tile that are averaged: flips (2, 4), and quarter turns too (8); takes as many times the work."""
    resample: Resampling = "auto"
    """What is done where pixels are larger or smaller than those the model learned at: ``auto`` shows it the sections
    at the nearest size it knows, up to four times off, and gives the result at that of the volume; ``never`` takes them
    as they are. ``several`` is for tissue that a model does not know: it is shown them at that size and 1.5 and 2 times
    as fine, the probabilities are averaged, and it takes seven times the work."""
    runtime: RuntimeName = "auto"
    """Library that evaluates the net: ``torch``, ``openvino`` (faster on a CPU, the same result except for rounding) or
    ``openvino-int8`` (8 bits: checked against float32, and much faster on a processor that multiplies them, which
    ``segem doctor`` tells). ``auto`` takes OpenVINO on a CPU where it is installed, else torch."""
    int8_tolerance: float = Field(default=0.005, ge=0, le=1)
    """Largest share of sampled voxels whose mask may differ in 8 bits; above it the volume is computed in float32."""


class SegmentConfig(SweepConfig):
    """Which model is swept over a volume, and how. Every setting that changes the result is in block identity."""

    model: str = BUNDLED_MODEL
    """Name of a bundled or trained model, or the path of its folder."""
