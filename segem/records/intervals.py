"""How sure a score is, what it can be held against, and the counts that say so."""

from __future__ import annotations

from segem.geometry import ZYX
from segem.records.base import Record


class Interval(Record):
    """Where the score of tissue like this lies, or a difference of two, with a confidence of 95 %."""

    low: float
    high: float
    method: str
    """How it was found, such as what was drawn with replacement, and from how much."""


class TooFew(Record):
    """No interval is given."""

    too_few: str
    """What there is too little of."""


class Band(Record):
    """What a score can be held against; null where it is not known."""

    floor: float | None = None
    """The same score of the baseline, which needs no labels."""
    held_out: tuple[float, float] | None = None
    """Lowest and highest score on the card of the model, on test sections that it had not seen."""
    ceiling: float | None = None
    """How well a second observer agrees with the truth, see `Ceiling`."""


class Ceiling(Record):
    """How well a second observer agrees with the truth: better than that, no score shows a mask to be."""

    source: str
    """Who that was, and how it came about, such as ``second labels bert.tif``."""
    scores: dict[str, float]
    """What the second one's membrane would score as a mask, by the names of scores; those that are defined."""
    known_fraction: float | None = None
    """Share of the voxels that both have judged; None where the source does not say."""
    intervals: dict[str, Interval | TooFew] = {}


class BlockCounts(Record):
    """The comparison of masks and truth, added up over blocks of tissue; pooled scores and their intervals follow."""

    parts: ZYX
    """Blocks along each axis."""
    edge_nm: float
    """Length that their edges were to have."""
    model: tuple[tuple[int, int, int], ...] = ()
    """True positives, false positives and false negatives of each block, in C order; empty without such a mask."""
    closed: tuple[tuple[int, int, int], ...] = ()
    baseline: tuple[tuple[int, int, int], ...] = ()
