"""How far a review can be relied on: which errors its people saw, how they agree, and what a sample says."""

from __future__ import annotations

from segem.records.base import Record
from segem.records.intervals import Ceiling, Interval, TooFew


class Seen(Record):
    """How many of the errors that are known one person has seen."""

    regions: int
    """With such errors, that they have decided about."""
    seen: int
    """Of those, the ones in which they mended at least half of the errors, or which they rejected."""
    rate: Interval | TooFew
    """Between which limits the share of regions lies in which they see the errors."""


class Reviewer(Record):
    """What one person has done, and what they have seen of errors that are known."""

    name: str
    decided: int
    """Regions."""
    active_seconds: float
    """At work, without breaks."""
    planted: Seen
    """Errors that were planted for them."""
    labelled: Seen
    """Errors of the model that the labels of the volume show."""


class Sampled(Record):
    """What regions chosen at random say of a volume: the IoU of its mask and the corrected one."""

    volume: str
    regions: int
    """Of the volume."""
    chosen: int
    decided: int
    """Accepted or fixed, of those that were drawn before the first one that is open; the estimate is made of these."""
    iou: float | None
    interval: Interval | TooFew


class ReviewFindings(Record):
    """What a review says of its people and of the mask."""

    reviewers: tuple[Reviewer, ...] = ()
    agreement: Ceiling | None = None
    """How far two people agree who have read the same regions, the second without knowing of the first, as ``iou`` and
    ``v_rand``, both within regions; None where nobody has read a region that somebody else had read."""
    sampled: tuple[Sampled, ...] = ()
