"""Expected counts and scores against values worked by hand, and against truths drawn from the probability itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from segem.kernels.errors import Regions, expect_errors_in, find_errors_in, share_of_errors
from segem.kernels.expected import ExpectedConfusion, expect_errors, from_log_odds, log_odds
from segem.kernels.metrics.iou import Confusion
from segem.kernels.threshold import threshold_probability
from segem.kernels.truth import UNKNOWN

SECTIONS = arrays.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def smooth_probability(seed: int, side: int = 256) -> np.ndarray:
    rough = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(side, side)), 3)
    return np.rint(255 / (1 + np.exp(-4 * rough / rough.std()))).astype(np.uint8)


def test_counts_worked_by_hand() -> None:
    """Four voxels of membrane in five, thrice; one in five, twice; a mask of those from one half."""
    found = ExpectedConfusion.count(np.array([[204, 204, 204, 51, 51]], np.uint8), 0.5)
    assert (found.tp, found.fp, found.fn) == pytest.approx((2.4, 0.6, 0.4))
    assert found.iou == pytest.approx(2.4 / 3.4)


def test_a_sure_mask_is_expected_to_be_perfect() -> None:
    assert ExpectedConfusion.count(np.array([[255, 0, 0, 255]], np.uint8), 0.5).iou == 1


def test_nothing_is_expected_where_no_membrane_is() -> None:
    found = ExpectedConfusion.count(np.zeros((4, 4), np.uint8), 0.5)
    assert (found.union, found.iou) == (0, 1)


def test_what_lies_outside_does_not_count() -> None:
    stored = np.array([[204, 51, 255, 255]], np.uint8)
    inside = np.array([[True, True, False, False]])
    assert ExpectedConfusion.count(stored, 0.5, inside) == ExpectedConfusion.count(stored[:, :2], 0.5)


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
def test_truths_drawn_from_the_probability_score_as_expected(threshold: float) -> None:
    """Where probabilities are frequencies, measured and expected scores agree, at whatever threshold."""
    stored = smooth_probability(0)
    drawn = (np.random.default_rng(1).random(stored.shape) < stored / 255).astype(np.uint8)
    measured = Confusion.count(drawn, threshold_probability(stored, threshold))
    found = ExpectedConfusion.count(stored, threshold)
    assert found.iou == pytest.approx(measured.iou, abs=0.01)
    assert (found.tp, found.fp, found.fn) == pytest.approx((measured.tp, measured.fp, measured.fn), rel=0.03)


@given(SECTIONS, SECTIONS, st.floats(0.01, 1))
def test_counts_add_up(one: np.ndarray, other: np.ndarray, threshold: float) -> None:
    both = np.concatenate([one.ravel(), other.ravel()])[np.newaxis]
    added = ExpectedConfusion.count(one, threshold) + ExpectedConfusion.count(other, threshold)
    whole = ExpectedConfusion.count(both, threshold)
    assert (added.tp, added.fp, added.fn) == pytest.approx((whole.tp, whole.fp, whole.fn))
    assert whole.tp + whole.fn == pytest.approx(both.sum() / 255), "all membrane, found or not"
    assert 0 <= whole.iou <= 1


@given(SECTIONS, st.floats(0.01, 1))
def test_errors_by_region_add_up_to_those_of_the_section(stored: np.ndarray, threshold: float) -> None:
    regions = Regions.cut(stored.shape, 4)
    total = float(np.sum(expect_errors_in(stored, threshold, regions) * regions.count(None)))
    counts = ExpectedConfusion.count(stored, threshold)
    assert total == pytest.approx(counts.fp + counts.fn, abs=1e-3)
    assert total == pytest.approx(float(expect_errors(threshold)[stored].sum()), abs=1e-3)


@given(SECTIONS)
def test_no_threshold_makes_fewer_errors_than_one_half(stored: np.ndarray) -> None:
    regions = Regions.cut(stored.shape, 16)
    least = np.nansum(expect_errors_in(stored, 0.5, regions))
    assert all(least <= np.nansum(expect_errors_in(stored, other, regions)) + 1e-6 for other in (0.1, 0.3, 0.7, 0.9))


def test_measured_errors_are_those_of_the_mask_where_truth_is_known() -> None:
    truth = np.array([[1, 0, UNKNOWN, UNKNOWN], [1, 1, UNKNOWN, UNKNOWN]], np.uint8)
    stored = np.array([[255, 200, 255, 0], [100, 255, 0, 0]], np.uint8)
    found = find_errors_in(truth, stored, 0.5, Regions((0, 2), (0, 2, 4)))
    assert found[0, 0] == 0.5
    assert np.isnan(found[0, 1])


def test_a_region_without_tissue_has_no_expected_error() -> None:
    stored = np.full((4, 8), 51, np.uint8)
    inside = np.zeros((4, 8), bool)
    inside[:2, :4] = True
    found = expect_errors_in(stored, 0.5, Regions((0, 4), (0, 4, 8)), inside)
    assert found[0, 0] == pytest.approx(0.2), "a share of the tissue, not of the region"
    assert np.isnan(found[0, 1])


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), min_size=1, max_size=30),
    st.floats(0.01, 1),
    st.floats(0.01, 1),
)
def test_shares_of_errors_grow_and_none_beats_the_errors_themselves(
    pairs: list[tuple[int, int]], one: float, other: float
) -> None:
    order, errors = (np.array(part, float) for part in zip(*pairs, strict=True))
    less, more = (share_of_errors(order, errors, share) for share in sorted((one, other)))
    assert less <= more + 1e-9
    assert more <= share_of_errors(errors, errors, max(one, other)) + 1e-9
    assert share_of_errors(order, errors, 1.0) == pytest.approx(1)
    if errors.sum():
        assert share_of_errors(np.zeros_like(order), errors, one) == pytest.approx(one), "chance"


@given(st.floats(0.001, 0.999))
def test_log_odds_are_undone(score: float) -> None:
    assert from_log_odds(log_odds(score)) == pytest.approx(score)


def test_log_odds_of_the_ends_are_finite() -> None:
    assert (log_odds(0), log_odds(1)) == pytest.approx((-6.907, 6.907), abs=0.001)
