"""How far a review can be relied on: what its people saw of planted errors, how they agree, what a sample says."""

from __future__ import annotations

from segem.records.base import Record
from segem.records.intervals import Interval, TooFew


class Reviewer(Record):
    """What one person has done, and how many planted errors they have seen."""

    name: str
    decided: int
    """Regions."""
    active_seconds: float
    """At work, without breaks."""
    controls: int
    """Regions with a planted error that they have decided about."""
    seen: int
    """Of those, the ones in which they mended at least half of it, or which they rejected."""
    hit_rate: Interval | TooFew
    """Between which limits the share of errors lies that they see."""


class Agreement(Record):
    """How far two people agree who have read the same regions, the second without knowing of the first.

    No model can be shown to be better than that: it is the ceiling for scores against labels of such people.
    """

    regions: int
    iou: float
    iou_interval: Interval | TooFew
    v_rand: float
    """Of the cells of one reading in those of the other, within regions."""
    v_rand_interval: Interval | TooFew


class Sampled(Record):
    """What regions chosen at random say of a volume: the IoU of its mask and the corrected one."""

    volume: str
    regions: int
    """Of the volume."""
    chosen: int
    decided: int
    """Accepted or fixed so far; the estimate is made of these."""
    iou: float | None
    interval: Interval | TooFew


class ReviewFindings(Record):
    """What a review says of its people and of the mask."""

    reviewers: tuple[Reviewer, ...] = ()
    agreement: Agreement | None = None
    """None where nobody has read a region that somebody else had read."""
    sampled: tuple[Sampled, ...] = ()
