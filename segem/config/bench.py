"""What of a machine is measured."""

from __future__ import annotations

from pydantic import Field

from segem.config.base import Config
from segem.config.execution import Device
from segem.config.segment import BUNDLED_MODEL
from segem.config.synth import Extent


class BenchConfig(Config):
    """How fast this machine is asked to be measured."""

    model: str = BUNDLED_MODEL
    size_px: int = Field(default=1024, ge=64, le=16384)
    """Edge of a synthetic section."""
    shape: tuple[Extent, Extent, Extent] = (100, 1024, 1024)
    """Voxels along (z, y, x) of the volume whose time is wanted."""
    device: Device = "auto"
