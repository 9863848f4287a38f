"""Settings of a learning curve."""

from __future__ import annotations

from pydantic import Field

from segem.config.base import Config

CURVE_MINUTES = 10.0
"""Time budget of each training of a learning curve that names neither minutes nor steps."""


class LearningCurveConfig(Config):
    """How many trainings a learning curve has, and which gain is worth the work."""

    seeds: int = Field(default=3, ge=2, le=100)
    """Trainings for each number of sections, on different sections where there is a choice."""
    more: int = Field(default=5, ge=1)
    """Sections that might be labelled next; no more than there are training sections."""
    worthwhile: float = Field(default=0.01, gt=0, lt=1)
    """Gain of membrane IoU that makes labelling so many sections worth it."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Confidence level of the intervals."""
    resamples: int = Field(default=2000, ge=1000)
    """Number of bootstrap resamples."""
