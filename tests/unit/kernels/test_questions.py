"""Questions about masks: by hand, and what no answer may do to any mask."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segem.kernels.divided_section import DividedSection
from segem.kernels.metrics.contingency import Contingency
from segem.kernels.metrics.rand import rand_score
from segem.kernels.metrics.segments import label_cells, thin_segments
from segem.kernels.questions import ERRING, draw_ridge, erase_ridge, expect_membrane, find_doubts

LIMIT = 0.5
SIDES = st.tuples(st.integers(1, 16), st.integers(1, 16))


def rooms(left, right):
    """Return three rooms, 10 x 10, 10 x 12 and 10 x 14 px, and the walls between them, each three pixels wide."""
    section = np.full((10, 42), 10, np.uint8)
    section[:, 10:13] = np.array(left)[:, None]
    section[:, 25:28] = np.array(right)[:, None]
    return section


def ask(probability, mask, count=9):
    return find_doubts(DividedSection.divide(probability, mask.astype(np.uint8), sigma_px=0), LIMIT, count)


def answer(mask, doubt, *, yes):
    if yes == doubt.has_membrane:
        return mask
    return (draw_ridge if yes else erase_ridge)(mask, doubt.ridge.tolist(), doubt.width_px)


def test_a_gap_in_a_wall_is_asked_about_and_yes_closes_it():
    probability = rooms([240] * 4 + [60, 60] + [240] * 4, [240] * 10)
    mask = (probability > 128).astype(np.uint8)
    (doubt,) = ask(probability, mask)
    assert not doubt.has_membrane
    assert doubt.closeness > 0.95
    assert label_cells(mask == 0).max() == 2
    closed = answer(mask, doubt, yes=True)
    assert label_cells(closed == 0).max() == 3
    assert np.array_equal(answer(mask, doubt, yes=False), mask)
    # The walls are three pixels wide, and so is what is drawn.
    assert doubt.width_px == 3
    added = np.argwhere(closed > mask)
    assert len(added) <= 8
    assert set(added[:, 0].tolist()) <= {4, 5}


def test_a_wall_that_is_hardly_there_is_asked_about_and_no_removes_it():
    probability = rooms([240] * 10, [100] * 10)
    mask = (probability > 90).astype(np.uint8)
    (doubt,) = ask(probability, mask)
    assert doubt.has_membrane
    assert doubt.closeness == pytest.approx(1 - expect_membrane(np.array([100 / 255]), LIMIT)[0])
    # Of 420 pixels, the line that parts the second room from the third one leaves 12 + 2 and 14 + 1 columns of ten.
    assert doubt.consequence == pytest.approx(140 * 150 / 420**2, rel=0.15)
    opened = answer(mask, doubt, yes=False)
    assert label_cells(opened == 0).max() == 2
    assert not opened[:, 20:].any()
    assert np.array_equal(opened[:, :20], mask[:, :20])


def test_what_the_mask_has_all_along_is_not_asked():
    """A wall of 15 px holds a basin: the line around it would part nothing that the mask does not part."""
    probability = np.full((20, 60), 10, np.uint8)
    probability[:, 20:35] = 150
    probability[5:15, 25:30] = 130
    mask = (probability > 128).astype(np.uint8)
    # Whether there is a wall at all is.
    assert [one.has_membrane for one in ask(probability, mask)] == [True]


def test_what_is_certain_is_not_asked():
    probability = rooms([250] * 10, [250] * 10)
    assert ask(probability, probability > 128) == []


def test_larger_cells_come_first_and_no_more_than_asked_for():
    weak = [240] * 4 + [60, 60] + [240] * 4
    probability = rooms(weak, weak)
    both = ask(probability, probability > 128)
    assert len(both) == 2
    assert both[0].consequence > both[1].consequence
    assert both[0].closeness == pytest.approx(both[1].closeness)
    (first,) = ask(probability, probability > 128, count=1)
    assert np.array_equal(first.ridge, both[0].ridge)


def test_an_erased_end_opens_no_third_cell():
    # A wall in doubt ends at one that is not, behind which there is a third cell.
    probability = np.full((24, 31), 10, np.uint8)
    probability[12:15] = 250
    probability[:12, 14:17] = 100
    mask = (probability > 90).astype(np.uint8)
    doubt = ask(probability, mask)[0]
    opened = label_cells(answer(mask, doubt, yes=False) == 0)
    assert opened.max() == 2
    assert opened[0, 0] == opened[0, -1] != opened[-1, 0]


def test_nothing_is_asked_outside_and_across_it():
    probability = rooms([240] * 10, [100] * 10)
    outside = np.zeros(probability.shape, np.uint8)
    outside[:, 26:] = 1
    section = DividedSection.divide(probability, (probability > 90).astype(np.uint8), 0, outside)
    assert find_doubts(section, LIMIT, 9) == []
    assert not section.parts[outside != 0].any()


@pytest.mark.parametrize("value", [0, 1])
def test_a_mask_of_one_kind_is_asked_about_without_fault(value):
    for probability in (np.zeros((5, 7), np.uint8), np.full((5, 7), 255, np.uint8)):
        for doubt in ask(probability, np.full((5, 7), value)):
            assert doubt.closeness > ERRING


@given(arrays(np.uint8, SIDES, elements=st.sampled_from([0, 90, 130, 150, 255])), st.data())
def test_no_answer_does_more_than_it_says(probability, data):
    mask = data.draw(arrays(np.uint8, probability.shape, elements=st.integers(0, 1)))
    section = DividedSection.divide(probability, mask, sigma_px=0)
    before, worth = label_cells(mask == 0), []
    for doubt in find_doubts(section, LIMIT, 99):
        worth.append((doubt.closeness - ERRING) * doubt.consequence)
        changed = answer(mask, doubt, yes=not doubt.has_membrane)
        after = label_cells(changed == 0)
        one, other = (set(after[np.isin(section.parts, side)].tolist()) - {0} for side in doubt.sides)
        assert all(side.size for side in doubt.sides)
        if not doubt.has_membrane:
            assert (changed >= mask).all()
            assert not one & other
        else:
            assert (changed <= mask).all()
            assert (changed < mask).any()
            named = {int(number) for side in doubt.sides for number in section.segments[np.isin(section.parts, side)]}
            for number in range(1, after.max() + 1):
                joined = set(before[after == number].tolist()) - {0}
                assert len(joined) <= 1 or joined <= named
    assert worth == sorted(worth, reverse=True)
    assert all(each > 0 for each in worth)


def test_a_few_answers_in_order_put_most_right_and_more_than_in_random_order():
    """A floor of 64 rooms: of 112 walls, a quarter leaks, and there are faint lines across a quarter of the rooms."""
    rng = np.random.default_rng(0)
    truth, probability = np.zeros((256, 256), np.uint8), rng.integers(0, 40, (256, 256)).astype(np.uint8)
    for at in range(32, 256, 32):
        truth[at - 1 : at + 2] = truth[:, at - 1 : at + 2] = 1
    probability[truth == 1] = rng.integers(200, 255, np.count_nonzero(truth))
    for y, x in np.ndindex(8, 8):
        if x and rng.random() < 0.25:
            probability[32 * y + 8 : 32 * y + 16, 32 * x - 1 : 32 * x + 2] = 90
        if rng.random() < 0.25:
            probability[32 * y + 2 : 32 * y + 31, 32 * x + 15 : 32 * x + 18] = 135
    mask = (probability > 128).astype(np.uint8)
    section = DividedSection.divide(probability, mask, sigma_px=1)
    cells, grown = label_cells(truth == 0), thin_segments(truth == 0)
    doubts = find_doubts(section, LIMIT, 999)

    def review(asked):
        reviewed = mask
        for doubt in asked:
            one, other = (np.bincount(grown[np.isin(section.parts, side)]).argmax() for side in doubt.sides)
            reviewed = answer(reviewed, doubt, yes=one != other)
        return 1 - rand_score(Contingency.count(cells, thin_segments(reviewed == 0))).value

    before, in_order = review([]), review(doubts[:20])
    assert in_order < before / 2
    random = np.mean([review([doubts[k] for k in rng.permutation(len(doubts))[:20]]) for _ in range(5)])
    assert in_order < random / 2
    assert review(doubts) < 0.01


def test_a_pen_stays_on_the_section_and_an_empty_ridge_draws_nothing():
    mask = np.zeros((3, 4), np.uint8)
    assert np.array_equal(draw_ridge(mask, [], 5), mask)
    drawn = draw_ridge(mask, [(0, 0), (0, 1)], 3)
    assert drawn.tolist() == [[1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]]
    assert erase_ridge(drawn, [(1, 2)], 1).tolist() == [[1, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    assert not mask.any()
