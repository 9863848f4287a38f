"""What a log says of those who wrote it: the errors they had to see, and the regions that two of them have read."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segem.errors import InputError
from segem.io.reviews import ReadMask, ReviewLog
from segem.kernels.metrics.local_rand import count_rand_in_tiles
from segem.kernels.metrics.segments import label_cells
from segem.kernels.runs import decode_runs, encode_runs
from segem.records.review import SHEET, Draft, Entry, Kind, Place

_AGREE = 0.9
"""IoU of two readings above which nobody is asked to decide between them: edges of membranes differ by a pixel."""
_RIGHT = {"accept": True, "fix": True, "reject": False}

FindErrors = Callable[[Place, NDArray[np.bool_]], NDArray[np.bool_]]


@dataclass(frozen=True)
class Control:
    """A region about which a person has decided, and of which it is known what is wrong: by plan, or by labels."""

    person: str
    place: Place
    seen: bool


@dataclass(frozen=True, eq=False)
class TwoReadings:
    """A region that two people have read, the second without knowing of the first.

    Parameters
    ----------
    place : Place
        The region.
    first, second : Entry
        Their decisions.
    masks : tuple of (y, x) bool
        What each of them has left.
    verdict : Entry or None
        What a third person has decided between them.
    """

    place: Place
    first: Entry
    second: Entry
    masks: tuple[NDArray[np.bool_], NDArray[np.bool_]]
    verdict: Entry | None

    @property
    def overlap(self) -> tuple[int, int]:
        """Pixels of membrane in both masks, and in either."""
        one, other = self.masks
        return int((one & other).sum()), int((one | other).sum())

    @property
    def rand(self) -> tuple[int, int]:
        """The two sums whose ratio is the V_rand of the cells of one reading in those of the other."""
        one, other = (label_cells(~mask) for mask in self.masks)
        ((above, below),) = count_rand_in_tiles(one, other, np.zeros(one.shape, np.intp)).tolist()
        return above, below

    @property
    def differs(self) -> bool:
        """Whether somebody has to decide between them."""
        both, either = self.overlap
        words = [_RIGHT.get(str(one.detail["decision"])) for one in (self.first, self.second)]
        return (None not in words and words[0] != words[1]) or both < _AGREE * either


def list_left(log: ReviewLog, volume: str, read: ReadMask) -> Iterator[tuple[Place, str, NDArray[np.bool_]]]:
    """Yield the controls about which people have decided, what they said, and the mask that they have left there.

    It is without the planted pixels, whatever was done about them, and without what others have corrected.
    """
    decided = {one.place: str(one.detail["decision"]) for one in _own(log, volume, "decision")}
    for plant in _own(log, volume, "plant"):
        place, planted = read_plant(plant)
        if place in decided:
            own = log.mask(place, _read_nothing) & ~planted
            yield place.model_copy(update={"volume": volume}), decided[place], read(place) ^ own


def list_controls(log: ReviewLog, volume: str) -> Iterator[Control]:
    """Yield the regions of a volume in which an error is planted, and about which its person has decided."""
    decided = {one.place: one for one in _own(log, volume, "decision")}
    for plant in _own(log, volume, "plant"):
        place = plant.place
        if place is None or (last := decided.get(place)) is None:
            continue
        _, planted = read_plant(plant)
        mended = log.mask(place, _read_nothing) & planted
        seen = 2 * int(mended.sum()) >= int(planted.sum()) or last.detail["decision"] == "reject"
        yield Control(str(plant.detail["name"]), place.model_copy(update={"volume": volume}), seen)


def list_labelled(log: ReviewLog, volume: str, read: ReadMask, find_errors: FindErrors) -> Iterator[Control]:
    """Yield the regions of a volume that were plainly wrong, by its labels, when a person came to them.

    Parameters
    ----------
    log : ReviewLog
        Of the review.
    volume : str
        Name of the volume.
    read : callable
        Reads its mask as it was before any review.
    find_errors : callable
        Returns the pixels of a rectangle where a mask is plainly wrong, (y, x) bool.
    """
    planted = {one.place for one in _own(log, volume, "plant")}
    made: dict[tuple[str, Place], Entry] = {}
    for one in (*log.entries(("decision",), volume), *_own(log, volume, "decision")):
        if one.place is not None and one.place not in planted:
            made[one.author, one.place] = one
    for (person, place), last in made.items():
        first = log.first_entry(place, person) or last
        before, after = (log.mask(place, read, upto) for upto in (first.number - 1, last.number))
        shared = place.model_copy(update={"volume": volume})
        wrong = int(find_errors(shared, before).sum())
        if wrong:
            left = int(find_errors(shared, after).sum())
            yield Control(person, shared, 2 * left <= wrong or last.detail["decision"] == "reject")


def write_plant(place: Place, planted: NDArray[np.bool_], person: str, kind: str) -> Draft:
    """Return the entry that keeps an error planted into a region; the mask of everybody else is left as it is."""
    detail: dict[str, str | int] = {"name": person, "plant": kind, "runs": json.dumps(encode_runs(planted))}
    return Draft(id=secrets.token_hex(16), kind="plant", place=place, detail=detail)


def read_plant(entry: Entry) -> tuple[Place, NDArray[np.bool_]]:
    """Return the region of an entry that `write_plant` has made, and the pixels that are planted in it."""
    if entry.place is None:
        raise InputError("an entry about no place", where=entry.number, fix="see `segem verify`")
    return entry.place, decode_runs(json.loads(str(entry.detail["runs"])), (entry.place.height, entry.place.width))


def list_readings(log: ReviewLog, volume: str, read: ReadMask) -> Iterator[TwoReadings]:
    """Yield the regions of a volume that two people have read; of more readings, the first two.

    Parameters
    ----------
    log : ReviewLog
        Of the review.
    volume : str
        Name of the volume.
    read : callable
        Reads its mask as it was before any review.
    """
    planted = {one.place for one in _own(log, volume, "plant")}
    first = {one.place: one for one in reversed(log.entries(("decision",), volume))}
    verdicts = {one.place: one for one in log.entries(("verdict",), volume)}
    second: dict[Place, Entry] = {}
    for own in _own(log, volume, "decision"):
        if own.place is not None and own.place not in planted:
            shared = own.place.model_copy(update={"volume": volume})
            # The last word of the second person, whoever came third.
            if second.setdefault(shared, own).author == own.author:
                second[shared] = own
    for place, other in second.items():
        one = first.get(place)
        if one is not None and other.place is not None and one.author != other.author:
            last = [e for e in log.entries(("decision",), volume) if e.place == place and e.author == one.author][-1]
            masks = log.mask(place, read, last.number), log.mask(other.place, read)
            yield TwoReadings(place, last, other, masks, verdicts.get(place))


def _own(log: ReviewLog, volume: str, kind: Kind) -> list[Entry]:
    """Return the entries of a kind that are people's own, of any person."""
    return [
        one for one in log.entries((kind,)) if one.place is not None and one.place.volume.startswith(volume + SHEET)
    ]


def _read_nothing(place: Place) -> NDArray[np.bool_]:
    return np.zeros((place.height, place.width), bool)
