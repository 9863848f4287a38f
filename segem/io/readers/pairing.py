"""Labels beside their image: which label section belongs to which section, by the numbers in the names of files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.config import Selection, Url
from segem.errors import InputError
from segem.geometry import Box
from segem.io.readers.numbering import say_numbers
from segem.io.readers.reader import Reader
from segem.io.readers.series import refuse_missing
from segem.io.readers.source import open_stack
from segem.io.readers.stack import Stack


def open_labels(source: Path | Url, chosen: Selection, raw: Stack) -> Stack:
    """Open labels, and pair their sections with those of an image by number, where both have numbers.

    Parameters
    ----------
    source : Path or Url
        The labels.
    chosen : Selection
        The array that is meant, and what stands in for label sections that are missing.
    raw : Stack
        The image, all of it.

    Returns
    -------
    Stack
        A label section for each section of the image, as far as numbers tell; those in `Stack.masked` are unknown.

    Raises
    ------
    InputError
        When the labels cannot be opened, or numbers leave in doubt which belongs to which.
    """
    # By numbers, what is missing is known to be unknown; without them, it would shift what comes behind it.
    lenient = chosen.missing == "fail"
    stack = open_stack(source, chosen.model_copy(update={"missing": "mask"}) if lenient else chosen)
    try:
        if lenient and raw.numbers is None:
            _check_whole(stack)
        return _pair(stack, raw)
    except BaseException:
        stack.close()
        raise


def _check_whole(labels: Stack) -> None:
    missing = [labels.numbers[z] for z in labels.filled] if labels.numbers is not None else []
    if missing:
        raise refuse_missing(labels.source, labels.shape[0] - len(missing), len(missing), say_numbers(missing))


def _pair(labels: Stack, raw: Stack) -> Stack:
    places, told = _find_places(labels, raw)
    masked = set(raw.masked)
    known = [None if z in masked else place for z, place in enumerate(places)]
    if told is None and known == list(range(labels.shape[0])):
        return labels
    return Stack(_Paired(labels, known, labels.numbers if len(known) == labels.shape[0] else raw.numbers, told))


def _find_places(labels: Stack, raw: Stack) -> tuple[Sequence[int | None], str | None]:
    """Return the label section of each section, and what the user should know about that."""
    theirs, ours = labels.numbers, raw.numbers
    in_order = range(labels.shape[0])
    if theirs is None or ours is None or theirs == ours:
        return in_order, None
    said = f"{_say_range(raw)} in {raw.source}, {_say_range(labels)} in {labels.source}"
    if len(theirs) == len(ours):
        # Rounded, since steps of 0.1 are not all alike in binary.
        shifts = {round(their - our, 9) for their, our in zip(theirs, ours, strict=True)}
        if len(shifts) == 1 or not set(theirs) & set(ours):
            return in_order, f"sections and labels have different numbers, and are paired in order: {said}"
    if set(theirs) < set(ours):
        at = {number: z for z, number in enumerate(theirs)}
        known = len(theirs) - len(labels.masked)
        told = f"{known} of {len(ours)} sections have labels, and the others are unknown: {said}"
        return [at.get(number) for number in ours], told
    alone = {
        "the image": [number for number in ours if number not in theirs],
        "the labels": [number for number in theirs if number not in ours],
    }
    differing = " and ".join(f"{say_numbers(numbers)} only in {where}" for where, numbers in alone.items() if numbers)
    raise InputError(
        "it cannot be known which labels belong to which section, since their numbers differ",
        where=labels.source,
        expected=f"the numbers of {raw.source}, {_say_range(raw)}",
        found=f"{_say_range(labels)}; {differing}",
        fix="rename the files, so that a section and its labels have the same number",
    )


def _say_range(stack: Stack) -> str:
    numbers, present = stack.numbers or (), stack.shape[0] - len(stack.filled)
    between = " to ".join(say_numbers([number]) for number in dict.fromkeys((numbers[0], numbers[-1])))
    return f"{between} ({present} section{'s' if present > 1 else ''})"


class _Paired(Reader):
    """Sections of a stack at the places of those of an image.

    Parameters
    ----------
    stack : Stack
        The sections.
    places : sequence of int or None
        Which of them lies at each place; None where nothing is known.
    numbers : tuple of float, optional
        The number of each place.
    told : str, optional
        What the user should know about it.
    """

    def __init__(
        self, stack: Stack, places: Sequence[int | None], numbers: tuple[float, ...] | None, told: str | None
    ) -> None:
        self._stack, self._places = stack, tuple(places)
        filled, masked = set(stack.filled), set(stack.masked)
        unknown = {z for z, place in enumerate(places) if place is None}
        found = replace(
            stack.found,
            shape=(len(self._places), *stack.shape[1:]),
            dtype=stack.dtype,
            axes="zyx",
            axes_from=stack.axes_from,
            chunk=stack.chunk,
            numbers=numbers,
            filled=tuple(sorted(unknown | {z for z, place in enumerate(places) if place in filled})),
            masked=tuple(sorted(unknown | {z for z, place in enumerate(places) if place in masked})),
            warnings=(*stack.warnings, *([] if told is None else [told])),
        )
        super().__init__(stack.source, found)

    def read(self, part: tuple[slice, ...]) -> NDArray[Any]:
        """Read a part of the sections, zero where nothing is known."""
        depth, rows, columns = part
        sections = np.zeros([side.stop - side.start for side in part], self.found.dtype)
        for at, place in enumerate(self._places[depth]):
            if place is not None:
                box = Box((place, rows.start, columns.start), (place + 1, rows.stop, columns.stop))
                sections[at] = self._stack.read(box)[0]
        return sections

    def label_of(self, z: int) -> str:
        """Return the name of a section."""
        place = self._places[z]
        return f"{self.source} z={z}, which has no labels" if place is None else self._stack.label_of(place)

    def close(self) -> None:
        """Close the stack."""
        self._stack.close()
