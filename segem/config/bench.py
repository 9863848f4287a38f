"""Settings of the benchmark of a machine."""

from __future__ import annotations

from pydantic import Field

from segem.config.base import Config
from segem.config.execution import Device
from segem.config.segment import BUNDLED_MODEL
from segem.config.synth import Extent


class BenchConfig(Config):
    """What is measured to predict how long a volume takes on this machine."""

    model: str = BUNDLED_MODEL
    """Model to measure: its name, or the path of its folder."""
    size_px: int = Field(default=1024, ge=64, le=16384)
    """Edge of the synthetic sections that are segmented, in pixels."""
    shape: tuple[Extent, Extent, Extent] = (100, 1024, 1024)
    """Voxels along (z, y, x) of the volume whose duration is predicted."""
    device: Device = "auto"
    """Where to compute; ``auto`` takes a GPU where there is one."""
