"""How much of a run people are to look at before it counts as reviewed."""

from __future__ import annotations

from pydantic import Field, model_validator

from segem.config.base import Config
from segem.config.names import Name


class ReviewGoal(Config):
    """What a run waits for; give ``regions`` or ``share``."""

    regions: int | None = Field(default=None, ge=1)
    """Regions that are to be accepted, fixed or rejected."""
    share: float | None = Field(default=None, gt=0, le=1)
    """The same as a share of all regions of 256 px."""
    model: Name | None = None
    """Model of which a new version is then trained on them; when absent, nothing is trained by itself."""

    @model_validator(mode="after")
    def _one_amount(self) -> ReviewGoal:
        if (self.regions is None) == (self.share is None):
            raise ValueError("give either regions or share")
        return self
