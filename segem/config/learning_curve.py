"""Settings of a learning curve."""

from __future__ import annotations

from pydantic import Field

from segem.config.base import Config


class LearningCurveConfig(Config):
    """How many sections are tried, how often, and what counts as worth the work."""

    seeds: int = Field(default=3, ge=2, le=100)
    """Trainings of each number of sections, each on other sections where there is a choice."""
    more: int = Field(default=5, ge=1)
    """Sections that might be labelled next."""
    worthwhile: float = Field(default=0.01, gt=0, lt=1)
    """Gain of membrane IoU that is worth labelling so many sections."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    resamples: int = Field(default=2000, ge=1000)
