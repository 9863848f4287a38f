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
    >>> few = TooFew(too_few="3 controls; 10 or more are needed")
    >>> ana = {"name": "Ana", "decided": 40, "active_seconds": 1260, "hit_rate": few}
    >>> list(list_findings(ReviewFindings(reviewers=[{**ana, "controls": 3, "seen": 2}])))
    ['Ana decided 40 regions in 21 minutes and saw 2 of 3 planted errors (too few to say more: 10 or more are needed).']
    """
    if found is None:
        return
    for person in found.reviewers:
        done = f"{person.name} decided {count(person.decided, 'region')} in {_say_time(person.active_seconds)}"
        seen = f" and saw {person.seen} of {count(person.controls, 'planted error')}{_bound(person.hit_rate)}"
        yield f"{done}{seen if person.controls else ''}."
    if found.agreement is not None:
        one = found.agreement
        yield (
            f"Two people who read {count(one.regions, 'region')} without knowing of each other agree to an IoU of "
            f"{say_score(one.iou)}{_bound(one.iou_interval)} and a V_rand of {say_score(one.v_rand)}"
            f"{_bound(one.v_rand_interval)}: by their labels, no mask can be shown to be better than that."
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
