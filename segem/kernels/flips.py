"""Pixels that flip, in rectangles of a section: which of them two rectangles share, and what many changes come to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from segem.kernels.runs import decode_runs, encode_runs
from segem.records.review import Draft, Place

Slices = tuple[slice, slice]
EntryT = TypeVar("EntryT", bound=Draft)


def combine_flips(entries: Sequence[Draft], place: Place) -> NDArray[np.bool_]:
    """Return which pixels of a rectangle have changed an odd number of times: two changes undo each other."""
    flips = np.zeros((place.height, place.width), bool)
    for entry in entries:
        for here, there in _shared(entry, place):
            flips[here] ^= decode_runs(entry.runs, there[0])[there[1]]
    return flips


def find_touched(entries: Sequence[Draft], place: Place) -> NDArray[np.bool_]:
    """Return which pixels of a rectangle have changed at all."""
    touched = np.zeros((place.height, place.width), bool)
    for entry in entries:
        for here, there in _shared(entry, place):
            touched[here] |= decode_runs(entry.runs, there[0])[there[1]]
    return touched


def cut_draft(draft: Draft, cells: Sequence[Place]) -> list[Draft]:
    """Cut what changes pixels of several cells into parts that change pixels of one each; the first keeps its id.

    Parameters
    ----------
    draft : Draft
        About a place.
    cells : sequence of Place
        All that its place touches.

    Returns
    -------
    list of Draft
        Only of cells whose pixels change; the draft as it is where it changes none, or the place lies in one cell.

    Examples
    --------
    >>> draft = Draft(
    ...     id="ab" * 8, kind="correction", place=Place(volume="v", z=0, y=0, x=6, height=1, width=4), runs=(0, 4),
    ...     active_seconds=3,
    ... )
    >>> cells = [Place(volume="v", z=0, y=0, x=x, height=8, width=8) for x in (0, 8)]
    >>> [(one.id[14:], one.place.x, one.place.width, one.active_seconds) for one in cut_draft(draft, cells)]
    [('ab', 6, 2, 3.0), ('ab-1', 8, 2, 0.0)]
    """
    place = draft.place
    if place is None or len(cells) == 1 or not draft.runs:
        return [draft]
    flips = decode_runs(draft.runs, (place.height, place.width))
    parts: list[Draft] = []
    for cell in cells:
        own = intersect(place, cell)
        here = flips[own.y - place.y : own.y - place.y + own.height, own.x - place.x : own.x - place.x + own.width]
        if here.any():
            part = {"place": own, "runs": encode_runs(here)}
            if parts:
                # Time is counted once.
                part |= {"id": f"{draft.id}-{len(parts)}", "active_seconds": 0.0}
            parts.append(draft.model_copy(update=part))
    return parts or [draft]


def leave_out(entry: EntryT, place: Place) -> EntryT | None:
    """Return an entry without the pixels of a rectangle that it changes; None where no others change.

    Examples
    --------
    >>> where = Place(volume="v", z=0, y=0, x=0, height=1, width=4)
    >>> draft = Draft(id="ab" * 8, kind="correction", place=where, runs=(1, 2))
    >>> leave_out(draft, where.model_copy(update={"width": 2})).runs, leave_out(draft, where)
    ((2, 1), None)
    """
    own = entry.place
    if own is None or not overlap(own, place):
        return entry
    flips = decode_runs(entry.runs, (own.height, own.width))
    part = intersect(own, place)
    top, left = part.y - own.y, part.x - own.x
    flips[top : top + part.height, left : left + part.width] = False
    return entry.model_copy(update={"runs": encode_runs(flips)}) if flips.any() else None


def intersect(one: Place, other: Place) -> Place:
    """Return the rectangle that two rectangles of a section share; they have a pixel in common.

    Examples
    --------
    >>> place = Place(volume="v", z=0, y=2, x=0, height=4, width=4)
    >>> intersect(place, place.model_copy(update={"y": 4, "x": 3})).model_dump(exclude={"volume", "z"})
    {'y': 4, 'x': 3, 'height': 2, 'width': 1}
    """
    y0, y1 = max(one.y, other.y), min(one.y + one.height, other.y + other.height)
    x0, x1 = max(one.x, other.x), min(one.x + one.width, other.x + other.width)
    return one.model_copy(update={"y": y0, "x": x0, "height": y1 - y0, "width": x1 - x0})


def _shared(entry: Draft, place: Place) -> Iterator[tuple[Slices, tuple[tuple[int, int], Slices]]]:
    """Yield where an entry and a rectangle overlap: in the rectangle, and in that of the entry with its extent."""
    own = entry.place
    if own is None or not overlap(own, place):
        return
    y0, y1 = max(own.y, place.y), min(own.y + own.height, place.y + place.height)
    x0, x1 = max(own.x, place.x), min(own.x + own.width, place.x + place.width)
    here = slice(y0 - place.y, y1 - place.y), slice(x0 - place.x, x1 - place.x)
    there = slice(y0 - own.y, y1 - own.y), slice(x0 - own.x, x1 - own.x)
    yield here, ((own.height, own.width), there)


def overlap(one: Place | None, other: Place) -> bool:
    """Return whether two rectangles of a section have a pixel in common."""
    return (
        one is not None
        and one.y < other.y + other.height
        and other.y < one.y + one.height
        and one.x < other.x + other.width
        and other.x < one.x + one.width
    )


def share_region(one: Place, other: Place, region_px: int) -> bool:
    """Return whether two rectangles of a section touch the same cell of a grid."""
    spans = [
        [(start // region_px, (start + edge - 1) // region_px) for start, edge in ((p.y, p.height), (p.x, p.width))]
        for p in (one, other)
    ]
    return all(a0 <= b1 and b0 <= a1 for (a0, a1), (b0, b1) in zip(*spans, strict=True))
