"""Scores of two partitions: overlaps of labels, adapted Rand error, variation of information, equivalence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.metrics import adapted_rand_error, variation_of_information

from segem.errors import InputError
from segem.kernels.metrics import contingency
from segem.kernels.metrics.adapted_rand import AdaptedRandSums
from segem.kernels.metrics.contingency import Contingency, Overlaps
from segem.kernels.metrics.equivalence import are_equivalent
from segem.kernels.metrics.not_defined import NO_TRUE_CELL
from segem.kernels.metrics.segments import label_cells
from segem.kernels.metrics.variation import VariationSums

LABELS = arrays(np.int32, (5, 7), elements=st.integers(0, 4))
CELLS = LABELS.filter(lambda a: (a > 0).any())
HUGE = np.uint64(2**61 + 12345)


def scores(truth, proposal):
    overlaps = Overlaps.count(truth, proposal)
    variation = VariationSums.of(overlaps)
    return AdaptedRandSums.of(overlaps).error, variation.split, variation.merge


def random_pairs(count):
    """Yield label images of all kinds: few and many labels, in runs and scattered, with and without 0, sparse ids."""
    rng = np.random.default_rng(11)
    for k in range(count):
        shape = tuple(rng.integers(1, 40, 2))
        pair = [rng.integers(rng.integers(0, 2), rng.integers(2, 60), shape) for _ in range(2)]
        if k % 2:
            pair = [np.sort(one, axis=1) for one in pair]
        if k % 5 == 0:
            pair = [one * 977 for one in pair]
        yield pair


@pytest.mark.filterwarnings("ignore:invalid value encountered")
@pytest.mark.parametrize("places", [contingency._FEWEST_PLACES, 0])
def test_rand_and_variation_are_those_of_scikit_image_on_100_pairs(places, monkeypatch):
    """Both ways of counting agree with it, where 0 of the truth is left out and 0 of the proposal is a segment."""
    monkeypatch.setattr(contingency, "_FEWEST_PLACES", places)
    monkeypatch.setattr(contingency, "_PLACES_EACH", min(places, 16))
    compared = 0
    for truth, proposal in random_pairs(100):
        error, split, merge = scores(truth, proposal)
        if not truth.any():
            assert error == split == merge == NO_TRUE_CELL
            continue
        assert (split, merge) == pytest.approx(
            tuple(variation_of_information(truth, proposal, ignore_labels=(0,))), abs=1e-9
        )
        theirs = adapted_rand_error(truth, proposal, ignore_labels=(0,))[0]
        assert error == pytest.approx(theirs, nan_ok=True) or (np.isnan(theirs) and error == NO_TRUE_CELL)
        compared += 1
    assert compared > 90


def test_golden_case_of_four_cells_with_one_leak():
    """V_rand of it is 0.8 and V_info 6/7; a pixel is no pair with itself here, and lines are one segment."""
    truth = np.ones((7, 7), np.uint8)
    truth[3, :] = truth[:, 3] = 0
    leaky = truth.copy()
    leaky[1, 3] = 1
    error, split, merge = scores(label_cells(truth), label_cells(leaky))
    assert 1 - error == pytest.approx(0.780488, abs=1e-6)
    assert (split, merge) == (pytest.approx(0), pytest.approx(0.5))


def test_splits_and_mergers_are_told_apart_in_bits():
    one, four = np.ones((1, 8), int), np.array([[1, 1, 2, 2, 3, 3, 4, 4]])
    assert scores(one, four)[1:] == (2.0, 0.0)
    assert scores(four, one)[1:] == (0.0, 2.0)


def test_overlaps_by_hand():
    truth, proposal = np.array([[5, 5, 0, 0, 9]]), np.array([[1, 2, 2, 2, 0]])
    found = Overlaps.count(truth, proposal)
    assert list(zip(found.truth, found.proposal, found.pixels, strict=True)) == [
        (0, 2, 2), (5, 1, 1), (5, 2, 1), (9, 0, 1),
    ]  # fmt: skip
    chosen = Overlaps.count(truth, proposal, np.array([[True, False, True, False, True]]))
    assert list(zip(chosen.truth, chosen.proposal, chosen.pixels, strict=True)) == [(0, 2, 1), (5, 1, 1), (9, 0, 1)]
    assert Overlaps.count(truth, proposal, np.zeros((1, 5), bool)).pixels.size == 0
    assert Overlaps.count(np.zeros((0, 4), int), np.zeros((0, 4), int)).pixels.size == 0
    with pytest.raises(InputError, match="different shapes"):
        Overlaps.count(truth, proposal.T)


@given(LABELS, LABELS, arrays(np.bool_, (5, 7)))
def test_overlaps_are_those_counted_pixel_by_pixel(truth, proposal, counted):
    pairs, pixels = np.unique(np.stack([truth[counted], proposal[counted]]), axis=1, return_counts=True)
    found = Overlaps.count(truth, proposal, counted)
    assert np.array_equal(np.stack([found.truth, found.proposal]), pairs)
    assert np.array_equal(found.pixels, pixels)


@given(CELLS, LABELS)
def test_huge_ids_change_nothing(truth, proposal):
    sparse = [one.astype(np.uint64) * HUGE for one in (truth, proposal)]
    assert scores(*sparse) == scores(truth, proposal)
    one, other = Contingency.count(truth, proposal), Contingency.count(*sparse)
    assert (one.joint.tolist(), one.truth.tolist(), one.on_lines) == (
        other.joint.tolist(), other.truth.tolist(), other.on_lines,
    )  # fmt: skip


@given(CELLS, LABELS, st.permutations(range(1, 5)), st.permutations(range(5)))
def test_names_do_not_matter(truth, proposal, renamed, renumbered):
    after = scores(np.array([0, *renamed])[truth], np.array(renumbered)[proposal])
    for a, b in zip(scores(truth, proposal), after, strict=True):
        assert a == b == NO_TRUE_CELL or a == pytest.approx(b)


@given(CELLS)
def test_a_partition_agrees_with_itself(truth):
    error, split, merge = scores(truth, truth)
    assert error == NO_TRUE_CELL or error == 0
    assert (split, merge) == (pytest.approx(0, abs=1e-12), pytest.approx(0, abs=1e-12))


@given(CELLS, CELLS)
def test_swapping_sides_swaps_splits_and_mergers(a, b):
    a, b = a + 1, b + 1
    (error, split, merge), (back, merge_back, split_back) = scores(a, b), scores(b, a)
    assert (error, split, merge) == (back, pytest.approx(split_back), pytest.approx(merge_back))


@given(st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=4))
def test_sums_over_sections_are_the_scores_of_the_stack(sections):
    rand, variation = AdaptedRandSums(), VariationSums()
    for truth, proposal in sections:
        overlaps = Overlaps.count(truth, proposal)
        rand, variation = rand + AdaptedRandSums.of(overlaps), variation + VariationSums.of(overlaps)
    # Numbers of their own for each section; the lines of a section are one segment of that section.
    stack = [
        np.stack([np.where(one[side] == 0, -k * side, one[side] + 10 * k) for k, one in enumerate(sections)])
        for side in (0, 1)
    ]
    error, split, merge = scores(*stack)
    for mine, whole in ((rand.error, error), (variation.split, split), (variation.merge, merge)):
        assert mine == whole == NO_TRUE_CELL or mine == pytest.approx(whole)


@given(LABELS, st.permutations(range(1, 5)))
def test_equivalent_is_equal_but_for_names(labels, renamed):
    assert are_equivalent(labels, np.array([0, *renamed])[labels].astype(np.uint64) * HUGE)


@given(LABELS, LABELS)
def test_equivalence_is_that_of_pairs_of_pixels(a, b):
    """Slowly: the background is the same, and each two pixels lie together in both or in neither."""
    together = [one.ravel()[:, None] == one.ravel() for one in (a, b)]
    expected = np.array_equal(a == 0, b == 0) and np.array_equal(*together)
    assert are_equivalent(a, b) == expected == are_equivalent(b, a)


def test_a_merger_a_split_and_other_shapes_are_not_equivalent():
    two, one = np.array([[0, 1, 2]]), np.array([[0, 1, 1]])
    assert not are_equivalent(two, one)
    assert not are_equivalent(one, two)
    assert not are_equivalent(two, two.T)
    assert not are_equivalent(two, np.array([[3, 1, 2]]))
