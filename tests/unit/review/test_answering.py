"""Whoever answers again leaves the mask as if they had said so at once."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from segem.kernels.flips import combine_flips
from segem.kernels.questions import draw_ridge, erase_ridge
from segem.kernels.runs import encode_runs
from segem.records.review import Entry, Place
from segem.records.review_queue import Question
from segem.review.answering import flip_by_answer, place_question

SHAPE = (1, 24, 40)
RIDGE = tuple((12, x) for x in range(10, 30))


def make_question(*, has_membrane):
    return Question(
        volume="v",
        z=0,
        y=12,
        x=20,
        ridge=RIDGE,
        width_px=3,
        closeness=0.5,
        consequence=0.1,
        has_membrane=has_membrane,
    )


def make_mask(*, has_membrane):
    mask = np.zeros(SHAPE[1:], np.uint8)
    mask[2:22, 8:10] = mask[2:22, 30:32] = 1
    return draw_ridge(mask, list(RIDGE), 3) if has_membrane else mask


class Log:
    """Keeps entries about one section as the log of a review does."""

    def __init__(self, mask):
        self.model, self.made = mask.astype(bool), []

    def see(self, place):
        window = np.s_[place.y : place.y + place.height, place.x : place.x + place.width]
        return self.model[window] ^ combine_flips(self.made, place)

    def add(self, place, flips, kind, detail):
        if flips.any():
            given = {"time": "", "author": "Ana", "before": "x", "previous": "", "digest": ""}
            number = len(self.made) + 1
            runs = encode_runs(flips)
            self.made.append(
                Entry(id=f"{number:032x}", kind=kind, place=place, runs=runs, detail=detail, number=number, **given)
            )

    def answer(self, question, word):
        place, detail = place_question(question, SHAPE), {"question": "k", "answer": word}
        self.add(place, flip_by_answer(question, detail, self.see(place), place, self.made), "answer", detail)


@pytest.mark.parametrize("has_membrane", [False, True])
@pytest.mark.parametrize("words", list(product(("yes", "no", "unknown"), repeat=3)))
def test_the_last_answer_alone_counts(words, has_membrane):
    question, model = make_question(has_membrane=has_membrane), make_mask(has_membrane=has_membrane)
    log = Log(model)
    for word in words:
        log.answer(question, word)
    expected = model
    if words[-1] == "yes" and not has_membrane:
        expected = draw_ridge(model, list(RIDGE), 3)
    if words[-1] == "no" and has_membrane:
        expected = erase_ridge(model, list(RIDGE), 3)
    whole = Place(volume="v", z=0, y=0, x=0, height=SHAPE[1], width=SHAPE[2])
    assert np.array_equal(log.see(whole), expected)


def test_what_was_painted_since_and_other_answers_stay():
    question, model = make_question(has_membrane=False), make_mask(has_membrane=False)
    log = Log(model)
    log.answer(question, "yes")
    # Somebody takes a piece of the line away, and paints beside it.
    hole, spot = (
        Place(volume="v", z=0, y=11, x=15, height=3, width=2),
        Place(volume="v", z=0, y=4, x=20, height=2, width=2),
    )
    log.add(hole, np.ones((3, 2), bool), "correction", {"tool": "eraser"})
    log.add(spot, np.ones((2, 2), bool), "correction", {"tool": "brush"})
    place = place_question(question, SHAPE)
    other = np.zeros((place.height, place.width), bool)
    other[0, 0] = True
    log.add(place, other, "answer", {"question": "another", "answer": "yes"})
    log.answer(question, "no")
    expected = model.astype(bool)
    expected[4:6, 20:22] = True
    expected[place.y, place.x] ^= True
    whole = Place(volume="v", z=0, y=0, x=0, height=SHAPE[1], width=SHAPE[2])
    assert np.array_equal(log.see(whole), expected)
