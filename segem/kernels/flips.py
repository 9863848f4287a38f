"""Pixels that flip, in rectangles of a section: which of them two rectangles share, and what many changes come to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from segem.kernels.runs import decode_runs
from segem.records.review import Draft, Place

Slices = tuple[slice, slice]


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
