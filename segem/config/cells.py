"""How a probability is divided into cells."""

from __future__ import annotations

from pydantic import Field

from segem.config.base import Config


class CellsConfig(Config):
    """How the probability of a run is divided into cells; what changes the result is in block identity."""

    merge_below: float | None = Field(default=None, gt=0, lt=1)
    """Mean probability of a border below which the two sides are one cell; the model's own when absent, or the run's
    threshold where the model has none."""
    sigma_px: float = Field(default=2.0, ge=0, le=20, allow_inf_nan=False)
    """Smoothing of the probability before it is divided, a standard deviation in pixels."""
