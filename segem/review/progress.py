"""How far a review has come, as one person can know it."""

from __future__ import annotations

from segem.records.review import Entry, Place
from segem.review.apart import SHEET
from segem.review.session import Review


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
