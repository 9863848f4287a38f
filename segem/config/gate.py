"""Settings of the gate that a model passes before it replaces another."""

from __future__ import annotations

from pydantic import Field

from segem.config.base import Config


class GateConfig(Config):
    """What counts as harm, and how certain it must be that there is none."""

    harm: float = Field(default=0.005, ge=0, lt=1)
    """Loss of membrane IoU that counts as harm; the candidate must not do harm to any volume."""
    harm_v_rand: float = Field(default=0.003, ge=0, lt=1)
    """Loss of V_rand, the mean over a volume's test sections, that counts as harm."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Confidence level of the intervals: that of the IoU must exclude harm, that of V_rand must not lie below 0."""
    block_px: int = Field(default=128, ge=16)
    """Edge in y and x of the blocks that are resampled; in z they are as long in nanometres, but no longer than the
    test sections."""
    fewest_blocks: int = Field(default=12, ge=2)
    """A volume with fewer blocks is refused, one with fewer cells keeps a candidate aside: intervals say nothing."""
    resamples: int = Field(default=10_000, ge=1000)
    """Number of bootstrap resamples."""
    seed: int = Field(default=0, ge=0)
    """Seed of the resampling."""
