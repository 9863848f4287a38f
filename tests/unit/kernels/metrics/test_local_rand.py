"""V_rand within tiles: by hand, as a sum over tiles that stand alone, and how often its interval holds the truth."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from segem.errors import InputError
from segem.kernels.bootstrap import compare_v_rand
from segem.kernels.metrics.contingency import Contingency
from segem.kernels.metrics.local_rand import count_rand_in_tiles, score_tiles
from segem.kernels.metrics.rand import rand_score
from segem.kernels.metrics.segmentation import THRESHOLDS, SegmentationSums
from segem.kernels.metrics.segments import label_cells
from segem.kernels.tiles import number_tiles, pool_depth, tile_starts

CELL = 16


def tissue(rows: int = 8, columns: int = 8) -> NDArray[np.uint8]:
    """Return membranes on a lattice, between cells of 15 x 15 px: 64 of them on 128 px."""
    truth = np.zeros((rows * CELL, columns * CELL), np.uint8)
    truth[::CELL] = truth[:, ::CELL] = 1
    return truth


def with_holes(truth: NDArray[np.uint8], walls: list[tuple[int, int]]) -> NDArray[np.uint8]:
    """Return a membrane probability that misses the wall to the left of some cells, given by row and column."""
    found = truth * 255
    for row, column in walls:
        found[row * CELL + 1 : (row + 1) * CELL, column * CELL] = 0
    return found


def test_one_tile_is_the_section() -> None:
    random = np.random.default_rng(0)
    cells, segments = random.integers(0, 4, (2, 20, 30)).astype(np.int32)
    cells, segments = label_cells(cells), label_cells(segments)
    ((common, both),) = count_rand_in_tiles(cells, segments, np.zeros((20, 30), np.intp)).tolist()
    assert common / both == pytest.approx(rand_score(Contingency.count(cells, segments)).value, abs=1e-12)


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(1, 30), st.integers(1, 20))
@settings(max_examples=40)
def test_each_tile_counts_what_it_would_count_alone(seed: int, height: int, width: int, tile_px: int) -> None:
    random = np.random.default_rng(seed)
    cells, segments = (label_cells(random.random((height, width)) < 0.7) for _ in range(2))
    found = count_rand_in_tiles(cells, segments, number_tiles((height, width), tile_px))
    ys, xs = ([*tile_starts(n, tile_px), n] for n in (height, width))
    windows = [(slice(top, bottom), slice(left, right)) for top, bottom in pairwise(ys) for left, right in pairwise(xs)]
    for (common, both), window in zip(found.tolist(), windows, strict=True):
        alone = label_cells(cells[window]), label_cells(segments[window])
        score = rand_score(Contingency.count(*alone))
        assert common / both == pytest.approx(score.value) if both else not alone[0].any()


def test_the_whole_section_is_scored_as_ever() -> None:
    truth, random = tissue(), np.random.default_rng(1)
    truth[40:60, 30:50] = 2
    membrane = np.clip(truth % 2 * 200 + random.integers(-60, 60, truth.shape), 0, 255).astype(np.uint8)
    sums, within = score_tiles(truth, membrane, 32)
    alone = SegmentationSums.count(truth, membrane)
    assert np.array_equal(sums.rand, alone.rand)
    assert np.array_equal(sums.information, alone.information)
    assert within.shape == (len(THRESHOLDS), 16, 2)
    empty, nothing = score_tiles(np.ones_like(truth), membrane, 32)
    assert (empty.sections, nothing.any(), nothing.shape) == (0, False, within.shape)
    with pytest.raises(InputError, match="do not match"):
        score_tiles(truth[1:], membrane, 32)


def test_a_merger_counts_in_its_own_tile_alone() -> None:
    truth = tissue()
    # The wall at column 16 divides the two cells in the first row of the first tile of 64 px.
    found = score_tiles(truth, with_holes(truth, [(0, 1)]), 64)[1][0]
    right = score_tiles(truth, truth * 255, 64)[1][0]
    assert np.flatnonzero((found != right).any(axis=1)).tolist() == [0]
    # 16 cells of 15 x 15 px, of which two and the wall between them are one segment.
    area, merged = 15 * 15, 2 * 15 * 15
    assert right[0].tolist() == [2 * 16 * area**2] * 2
    assert found[0].tolist() == [2 * 16 * area**2, 16 * area**2 + 14 * area**2 + merged**2]


def test_equal_masks_differ_by_exactly_nothing() -> None:
    truth = tissue()
    within = score_tiles(truth, with_holes(truth, [(1, 2), (4, 4)]), 32)[1][0]
    found = compare_v_rand(within, within.copy(), resamples=200)
    assert (found.value, found.low, found.high, found.lower_bound) == (0, 0, 0, 0)


def test_mergers_all_over_are_surely_a_loss_and_change_the_sign_with_the_places() -> None:
    truth, random = tissue(16, 16), np.random.default_rng(2)
    walls = [(row, column) for row in range(16) for column in range(1, 16) if random.random() < 0.2]
    right, merged = (score_tiles(truth, mask, 64)[1][0] for mask in (truth * 255, with_holes(truth, walls)))
    found, back = (compare_v_rand(*pair, resamples=1000) for pair in ((merged, right), (right, merged)))
    assert found.first < 1 == found.second
    assert found.high < -0.05
    assert (back.value, back.low, back.high) == pytest.approx((-found.value, -found.high, -found.low), abs=1e-12)


def test_sums_of_other_blocks_are_refused() -> None:
    with pytest.raises(InputError, match="different blocks"):
        compare_v_rand(np.ones((3, 2), np.int64), np.ones((4, 2), np.int64))


def test_an_interval_holds_the_truth_nearly_as_often_as_it_says() -> None:
    """Stacks of two sections with holes at hard places, felt by both masks; the second has a few more."""
    random, truth = np.random.default_rng(3), tissue(12, 12)
    walls = [(row, column) for row in range(12) for column in range(1, 12)]

    def stack() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        found: list[list[NDArray[np.int64]]] = [[], []]
        for _ in range(2):
            hard = random.beta(0.3, 3.0, len(walls))
            for within, more in zip(found, (0.0, 0.05), strict=True):
                holes = [wall for wall, p in zip(walls, hard, strict=True) if random.random() < p + more]
                within.append(score_tiles(truth, with_holes(truth, holes), 48)[1][0])
        first, second = (pool_depth(np.stack(each), 1) for each in found)
        return first, second

    stacks = [stack() for _ in range(120)]
    pooled = [np.concatenate(each) for each in zip(*stacks, strict=True)]
    truth_of_all = compare_v_rand(*pooled, resamples=1).value
    found = [compare_v_rand(*each, resamples=400, seed=turn) for turn, each in enumerate(stacks)]
    assert truth_of_all > 0.02
    # Of 600 stacks, 95.5 % of the intervals hold it; three standard deviations of 120 stacks are 5.7 %.
    assert np.mean([one.low <= truth_of_all <= one.high for one in found]) > 0.89
    assert np.mean([one.low > 0 for one in found]) > 0.2, "it is narrow enough to find such a loss now and then"
