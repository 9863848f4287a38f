"""What a review has given the model that learned from it."""

from __future__ import annotations

from segem.records.base import Record, computed
from segem.records.promotion import Judgement
from segem.records.review import ReviewedLabels


class ReviewGain(Record):
    """Scores before and after a model has learned from a review, on sections that neither model was trained on."""

    before: str
    """Name of the model before."""
    after: str
    """Name of the model that has learned from it."""
    confidence: float
    """Of the intervals."""
    reviewed: tuple[ReviewedLabels, ...]
    judged: tuple[Judgement, ...]
    """Incumbent is before, candidate after."""

    @computed
    def minutes(self) -> float:
        """How long people were at work on the review: on controls, second readings and verdicts too."""
        return sum(one.active_seconds for one in self.reviewed) / 60
