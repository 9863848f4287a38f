"""What a review says of its people and of the mask, in sentences."""

from __future__ import annotations

from collections.abc import Iterator

from segem.records.intervals import Interval, TooFew
from segem.records.review_findings import ReviewFindings
from segem.stages.reporting.words import count, say_score


def list_findings(found: ReviewFindings | None) -> Iterator[str]:
    """Yield what a review says, a sentence for each thing.

    Examples
    --------
    >>> few = TooFew(too_few="3 regions with known errors; 10 or more are needed")
    >>> planted, labelled = ({"regions": count, "seen": seen, "rate": few} for count, seen in ((3, 2), (0, 0)))
    >>> ana = {"name": "Ana", "decided": 40, "active_seconds": 1260, "planted": planted, "labelled": labelled}
    >>> list(list_findings(ReviewFindings(reviewers=[ana])))
    ['Ana decided 40 regions in 21 minutes and saw 2 of 3 planted errors (too few to say more: 10 or more are needed).']
    """
    if found is None:
        return
    for person in found.reviewers:
        done = f"{person.name} decided {count(person.decided, 'region')} in {_say_time(person.active_seconds)}"
        one, other = person.planted, person.labelled
        seen = f" and saw {one.seen} of {count(one.regions, 'planted error')}{_bound(one.rate)}"
        yield f"{done}{seen if one.regions else ''}."
        if other.regions:
            yield (
                f"{person.name} put right or rejected {other.seen} of {count(other.regions, 'region')} plainly wrong "
                f"by the labels of the volumes{_bound(other.rate)}."
            )
    if found.agreement is not None:
        both = found.agreement
        iou, v_rand = (f"{say_score(both.scores[name])}{_bound(both.intervals[name])}" for name in ("iou", "v_rand"))
        yield (
            f"In {both.source}, the second without knowing of the first, they agree to an IoU of {iou} and a V_rand of "
            f"{v_rand}: by their labels, no mask can be shown to be better than that."
        )
    for sampled in found.sampled:
        if sampled.iou is not None:
            yield (
                f"By {sampled.decided} of {count(sampled.chosen, 'region')} drawn at random, the mask of "
                f"{sampled.volume} has an IoU of {say_score(sampled.iou)}{_bound(sampled.interval)}, as people see it."
            )


def _say_time(seconds: float) -> str:
    return count(max(1, round(seconds / 60)), "minute")


def _bound(interval: Interval | TooFew) -> str:
    if isinstance(interval, TooFew):
        return f" (too few to say more: {interval.too_few.partition('; ')[2]})"
    return f" ({interval.low:.3f} to {interval.high:.3f})"
