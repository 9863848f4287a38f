"""Intervals of IoU differences: by hand, by symmetry, and by how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from segem.errors import InputError
from segem.kernels.bootstrap import compare_iou, count_tiles
from segem.kernels.metrics.iou import Confusion

COUNTS = arrays(np.int64, st.tuples(st.integers(1, 8), st.just(3)), elements=st.integers(0, 50))


def test_counts_by_hand() -> None:
    truth = np.array([[1, 0, 0, 1], [1, 0, 0, 1], [0, 0, 7, 0], [0, 0, 0, 0]], np.uint8)
    found = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 1], [3, 0, 0, 0]], np.uint8)
    assert count_tiles(truth, found, 2).tolist() == [[2, 1, 0], [0, 0, 2], [0, 1, 0], [1, 1, 0]]


@pytest.mark.parametrize(("edge", "tiles"), [(10, 1), (47, 1), (48, 2), (64, 2), (70, 2), (100, 3)])
def test_tiles_cover_a_section_of_any_size_and_are_alike(edge: int, tiles: int) -> None:
    full = np.ones((edge, 32), np.uint8)
    sizes = count_tiles(full, full, 32)[:, 0]
    assert (len(sizes), sizes.sum()) == (tiles, full.size)
    assert sizes.max() - sizes.min() <= 32


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 50), st.integers(0, 2**32 - 1))
def test_the_tiles_add_up_to_the_confusion_of_the_section(y: int, x: int, block_px: int, seed: int) -> None:
    truth, found = np.random.default_rng(seed).integers(0, 2, (2, y, x), np.uint8)
    pooled = Confusion.count(truth, found)
    assert count_tiles(truth, found, block_px).sum(axis=0).tolist() == [pooled.tp, pooled.fp, pooled.fn]


def test_a_difference_by_hand() -> None:
    # Two blocks: (0, 0), (0, 1), (1, 0) and (1, 1) are drawn with equal chance, so the difference is that of the first
    # block in a quarter of the draws, that of the second in another, and the pooled one in half of them.
    first, second = np.array([[1, 0, 0], [1, 0, 3]]), np.array([[0, 0, 1], [2, 0, 2]])
    found = compare_iou(first, second, resamples=2000)
    assert found.value == pytest.approx(2 / 5 - 2 / 5)
    assert (found.low, found.high) == (pytest.approx(1 / 4 - 1 / 2), 1.0)
    # Two blocks scatter half as much as they should: for the percentile 3/8 that of 0.28 is taken, which is still
    # beyond the first quarter, and for 0.35 that of 0.24, which is not.
    middle = compare_iou(first, second, resamples=2000, confidence=1 - 2 * 3 / 8)
    assert (middle.low, middle.high) == (0, 0)
    wider = compare_iou(first, second, resamples=2000, confidence=1 - 2 * 0.35)
    assert (wider.low, wider.high) == (pytest.approx(1 / 4 - 1 / 2), 1.0)


@given(COUNTS, st.integers(0, 5))
@settings(max_examples=30)
def test_equal_masks_differ_by_exactly_nothing(counts: NDArray[np.int64], seed: int) -> None:
    found = compare_iou(counts, counts.copy(), resamples=100, seed=seed)
    assert (found.value, found.low, found.high, found.lower_bound) == (0, 0, 0, 0)


@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
@settings(max_examples=30)
def test_masks_that_change_places_change_the_sign(seed: int, blocks: int) -> None:
    first, second = np.random.default_rng(seed).integers(0, 50, (2, blocks, 3))
    there, back = (compare_iou(a, b, resamples=200) for a, b in ((first, second), (second, first)))
    assert (back.value, back.low, back.high) == pytest.approx((-there.value, -there.high, -there.low), abs=1e-12)
    assert there.low <= there.lower_bound <= there.high


def test_the_draws_follow_the_seed_and_not_how_many_are_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = np.random.default_rng(1).integers(1, 50, (2, 20, 3))
    whole = compare_iou(first, second, resamples=500)
    assert whole != compare_iou(first, second, resamples=500, seed=1)
    monkeypatch.setattr("segem.kernels.bootstrap._WEIGHTS_AT_ONCE", 130)
    assert compare_iou(first, second, resamples=500) == whole


@pytest.mark.parametrize("blocks", [12, 16, 48])
def test_an_interval_holds_the_truth_as_often_as_it_says(blocks: int) -> None:
    """Blocks of unlike difficulty, felt by both masks; the second misses a little more."""
    random = np.random.default_rng(7)

    def sample(blocks: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        membrane, hard = random.integers(500, 4000, blocks), random.beta(2, 8, blocks)
        masks = []
        for more in (0.0, 0.03):
            missed = random.binomial(membrane, np.clip(hard * random.uniform(0.7, 1.3, blocks) + more, 0, 1))
            masks.append(np.stack([membrane - missed, random.poisson(membrane * hard), missed], axis=1))
        return masks[0], masks[1]

    truth = compare_iou(*sample(200_000), resamples=1).value
    found = [compare_iou(*sample(blocks), resamples=400, seed=turn) for turn in range(400)]
    assert 0.91 < np.mean([one.low <= truth <= one.high for one in found]) < 0.98
    assert 0.91 < np.mean([one.lower_bound <= truth for one in found]) < 0.98


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InputError, match="different shapes"):
        count_tiles(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8), 1)
    for first, second in ((np.ones((2, 3)), np.ones((3, 3))), (np.ones((0, 3)), np.ones((0, 3)))):
        with pytest.raises(InputError, match="different blocks"):
            compare_iou(first.astype(np.int64), second.astype(np.int64))
