"""The tree of merging against merging itself, by hand and by its properties."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segem.kernels.merge_tree import MergeTree
from segem.kernels.merging import Borders, merge_basins

PARTS = 9


@st.composite
def borders(draw):
    """Return the borders of a few parts, some of which may touch none."""
    pairs = st.tuples(st.integers(1, PARTS), st.integers(1, PARTS)).filter(lambda pair: pair[0] != pair[1])
    found = draw(st.lists(st.tuples(pairs, st.integers(0, 255)), max_size=25))
    one, other, height = (np.array([pick(row) for row in found], np.int64) for pick in PICKS)
    return Borders.gather(one, other, height)


PICKS = (lambda row: row[0][0], lambda row: row[0][1], lambda row: row[1])


def grow(found):
    return MergeTree.grow(found, np.arange(PARTS + 1) * 10)


def alike(one, other):
    """Return whether two numberings divide parts alike."""
    return np.array_equal(one[:, None] == one, other[:, None] == other)


@given(borders(), st.floats(0, 1))
def test_links_below_a_limit_are_what_merging_up_to_it_does(found, limit):
    tree, belongs = grow(found), np.arange(PARTS + 1)
    for link in np.flatnonzero(tree.strength < limit):
        belongs[np.concatenate(tree.sides(int(link)))] = belongs[tree.one[link]]
    assert alike(belongs, merge_basins(found, PARTS, limit))


@given(borders())
def test_each_border_vanishes_at_the_link_of_its_sides(found):
    tree = grow(found)
    assert (tree.link_of >= 0).all()
    for one, other, link in zip(found.one, found.other, tree.link_of, strict=True):
        first, second = map(set, tree.sides(int(link)))
        assert (one in first and other in second) or (one in second and other in first)
    for link in range(tree.strength.size):
        touch = tree.link_of == link
        assert np.isclose(tree.strength[link], found.total[touch].sum() / found.length[touch].sum() / 255)
        assert [10 * side.sum() for side in tree.sides(link)] == tree.pixels[link].tolist()


@given(borders())
def test_a_cut_parts_all_that_is_connected_and_keeps_the_sides_together(found):
    tree, whole = grow(found), merge_basins(found, PARTS, np.inf)
    for link in range(tree.strength.size):
        (one, other), (first, second) = map(set, tree.sides(link)), map(set, tree.cut(link))
        assert one <= first
        assert other <= second
        assert not first & second
        assert first | second == set(np.flatnonzero(whole == whole[tree.one[link]]))


def test_what_touches_both_sides_goes_with_the_one_it_is_less_parted_from():
    # 1 and 2 merge first, at 0.2; 3 has a border of 0.8 with 1, and one of 0.4 with 2.
    tree = grow(Borders.gather(np.array([1, 1, 2]), np.array([2, 3, 3]), np.array([51, 204, 102])))
    assert [side.tolist() for side in tree.sides(0)] == [[2], [1]]
    assert [side.tolist() for side in tree.cut(0)] == [[2, 3], [1]]
    assert [side.tolist() for side in tree.cut(1)] == [[3], [1, 2]]
    assert tree.strength.round(2).tolist() == [0.2, 0.6]


def test_parts_without_borders_have_no_links():
    tree = grow(Borders.gather(*(np.zeros(0, np.int64),) * 3))
    assert tree.strength.size == 0
    assert tree.pixels.shape == (0, 2)
