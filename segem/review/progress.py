"""How far a review has come, as one person can know it."""

from __future__ import annotations

from datetime import UTC, datetime

from segem.records.base import Record
from segem.records.review import SHEET, Entry, Place
from segem.records.review_findings import Sampled
from segem.review.session import Review
from segem.review.volumes import place_of
from segem.stages.reporting.findings import count_overlap, estimate_sampled


class Claim(Record):
    """Who has kept a region for themselves, or was given it, and until when (ISO 8601 in UTC)."""

    person: str
    until: str


class Progress(Record):
    """How far one person has come with a volume."""

    decided: int
    open: int
    """Regions that are neither decided nor kept by somebody else."""
    seconds_each: float | None
    """At work, for each region that they have decided about; None where there was none."""
    last: Place | None
    """The region that they decided last."""
    people: tuple[str, ...]
    """Who has a part in the review."""
    sampled: Sampled | None
    """What regions drawn at random say of the whole volume, by what this person sees; None where others are shown."""


def find_progress(
    review: Review, person: str, volume: str, people: tuple[str, ...], *, drawn: bool = False
) -> Progress:
    """Return how far a person has come with a volume; see `Progress`.

    Parameters
    ----------
    review : Review
        The review.
    person : str
        Who asks.
    volume : str
        Its name.
    people : tuple of str
        Who may review.
    drawn : bool
        Of the regions drawn at random.

    Returns
    -------
    Progress
    """
    decided, claims = list_decisions(review, person, volume), list_claims(review, volume)
    places = [place_of(one) for one in review.regions(volume, drawn=drawn)]
    own = [one for one in review.entries(person, volume) if one.author == person]
    done = {one.place for one in own if one.kind == "decision"}
    free = [one for one in places if one not in decided and (one not in claims or claims[one].person == person)]
    sampled = _estimate(review, person, volume, decided) if drawn else []
    return Progress(
        decided=sum(one in decided for one in places),
        open=len(free),
        seconds_each=sum(one.active_seconds for one in own) / len(done) if done else None,
        last=next((one.place for one in reversed(own) if one.kind == "decision"), None),
        people=tuple(sorted({person, *people, *(one.author for one in decided.values())})),
        sampled=sampled[0] if sampled else None,
    )


def _estimate(review: Review, person: str, volume: str, decided: dict[Place, Entry]) -> list[Sampled]:
    # By what this person sees alone: a number that does not grow by a decision would tell a control from all else.
    held = review.held(person, volume)
    said = {place: str(one.detail["decision"]) for place, one in decided.items()}

    def find_overlap(place: Place) -> tuple[int, int]:
        # After each decision all are asked for, and one has changed: a count holds until the next entry about it.
        last, key = review.apart.last_entry(person, place), (person, place)
        if review.overlaps.get(key, (-1,))[0] != last:
            counted = count_overlap(held.read(place), review.apart.left(person, place, held))
            review.overlaps[key] = (last, *counted)
        return review.overlaps[key][1:]

    return estimate_sampled(review.log, volume, said, find_overlap)


def list_claims(review: Review, volume: str) -> dict[Place, Claim]:
    """Return who has kept which region of a volume for themselves, as far as that still holds."""
    now, held = datetime.now(UTC).isoformat(timespec="milliseconds"), {}
    for one in review.log.entries(("claim",), volume):
        if one.place is not None:
            held[one.place] = Claim(person=str(one.detail["name"]), until=str(one.detail["until"]))
    return {place: claim for place, claim in held.items() if claim.until > now}


def list_decisions(review: Review, person: str, volume: str) -> dict[Place, Entry]:
    """Return the last decision about each region of a volume, as a person is to see it.

    A region that is to be read by two is open for everybody but the first, until there are two readings.

    Parameters
    ----------
    review : Review
        The review.
    person : str
        Who asks.
    volume : str
        Its name.

    Returns
    -------
    dict
    """
    decided = {one.place: one for one in review.entries(person, volume, ("decision",)) if one.place}
    if review.apart.checks.second_share:
        shared = {one.place: one for one in review.log.entries(("decision",), volume) if one.place}
        for place in {_base(one.place, volume) for one in review.log.entries(("decision",)) if _is_second(one, volume)}:
            if place in shared:
                decided.setdefault(place, shared[place])
    return decided


def _is_second(entry: Entry, volume: str) -> bool:
    return entry.place is not None and entry.place.volume.startswith(f"{volume}{SHEET}")


def _base(place: Place | None, volume: str) -> Place | None:
    return None if place is None else place.model_copy(update={"volume": volume})
