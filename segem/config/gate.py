"""Settings of the gate that a model has to pass before it replaces another."""

from __future__ import annotations

from pydantic import Field

from segem.config.base import Config


class GateConfig(Config):
    """What counts as harm, and with which confidence it must be excluded."""

    harm: float = Field(default=0.005, ge=0, lt=1)
    """Loss of membrane IoU that counts as harm; the candidate must not do harm to any volume."""
    harm_v_rand: float = Field(default=0.003, ge=0, lt=1)
    """Loss of V_rand, the mean over a volume's test sections, that counts as harm."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Confidence level of the intervals: that of IoU must exclude harm, that of V_rand must not lie wholly below 0."""
    block_px: int = Field(default=128, ge=16)
    """Edge of the resampled blocks in y and x, in pixels; in z they have the same length in nanometres, but no more
    than the test sections."""
    fewest_blocks: int = Field(default=12, ge=2)
    """Fewest blocks of a volume, or it is refused; with fewer cells, V_rand cannot be compared and no model passes."""
    resamples: int = Field(default=10_000, ge=1000)
    """Number of bootstrap resamples."""
    seed: int = Field(default=0, ge=0)
    """Seed of the resampling."""
