"""What an answer to a question changes of the mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from segem.kernels.flips import combine_flips
from segem.kernels.questions import draw_ridge, erase_ridge
from segem.records.review import Entry, Place
from segem.records.review_queue import Question
from segem.review.volumes import place_between


def place_question(question: Question, shape: tuple[int, int, int]) -> Place:
    """Return the rectangle of a volume of some shape (z, y, x) in which answers to a question change pixels."""
    ys, xs = zip(*question.ridge, strict=True)
    margin = question.width_px
    return place_between(
        question.volume,
        question.z,
        max(0, min(ys) - margin),
        max(0, min(xs) - margin),
        min(shape[1], max(ys) + margin + 1),
        min(shape[2], max(xs) + margin + 1),
    )


def flip_by_answer(
    question: Question, answer: Mapping[str, str | int], mask: NDArray[np.bool_], place: Place, made: Sequence[Entry]
) -> NDArray[np.bool_]:
    """Return the pixels that an answer changes: what an earlier answer has changed is taken back first.

    So whoever thinks again leaves the mask as if they had said so at once, but for pixels that were changed since.

    Parameters
    ----------
    question : Question
        What was asked.
    answer : mapping
        What an entry says of it: `question`, what entries call the question, and `answer`, yes, no or unknown.
    mask : (y, x) bool
        The mask of `place` as whoever answers sees it.
    place : Place
        The rectangle of the question, see `place_question`.
    made : sequence of Entry
        All that has changed pixels of the section, in its order.

    Returns
    -------
    (y, x) bool
    """
    before, touched = mask.copy(), np.zeros_like(mask)
    for entry in reversed(made):
        flips = combine_flips([entry], place)
        if entry.kind == "answer" and entry.detail["question"] == answer["question"]:
            before ^= flips & ~touched
        else:
            touched |= flips
    after, ridge = before.astype(np.uint8), [(y - place.y, x - place.x) for y, x in question.ridge]
    # What the mask of the model says already needs no pixel changed, and the answer still counts.
    if answer["answer"] == "yes" and not question.has_membrane:
        after = draw_ridge(after, ridge, question.width_px)
    elif answer["answer"] == "no" and question.has_membrane:
        after = erase_ridge(after, ridge, question.width_px)
    changed: NDArray[np.bool_] = after.astype(bool) != mask
    return changed
