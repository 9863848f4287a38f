"""Settings of the gate that a model passes before it replaces another."""

from __future__ import annotations

from pydantic import Field

from segem.config.base import Config


class GateConfig(Config):
    """What counts as harm, and how sure one must be that there is none."""

    harm: float = Field(default=0.005, ge=0, lt=1)
    """Loss of membrane IoU that a volume may not suffer."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Of the interval that must exclude it."""
    block_px: int = Field(default=128, ge=16)
    """Edge of a block in y and x; in z it is as long in nanometres, but no longer than what is judged."""
    fewest_blocks: int = Field(default=12, ge=2)
    """With fewer, an interval says nothing, and the volume is refused."""
    resamples: int = Field(default=10_000, ge=1000)
    seed: int = Field(default=0, ge=0)
