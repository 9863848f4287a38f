from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segem.errors import InputError
from segem.kernels.bootstrap import count_tiles
from segem.kernels.intervals import (
    POOLED,
    bound_drawn,
    bound_mean,
    bound_pooled,
    compare_means,
    compare_pooled,
    ratio_of,
)
from segem.kernels.pieces import Grid, Pieces
from segem.records.intervals import Interval, TooFew

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"
block_counts = arrays(np.int64, (1, 4, 5, 3), elements=st.integers(0, 1000)).filter(lambda a: a.any(axis=-1).all())


def known(found: Interval | TooFew) -> Interval:
    assert isinstance(found, Interval)
    return found


def test_pooled_scores_by_hand() -> None:
    counts = np.array([6, 2, 1])
    assert {name: float(score(counts)) for name, score in POOLED.items()} == pytest.approx(
        {"iou": 6 / 9, "dice": 12 / 15, "precision": 6 / 8, "recall": 6 / 7}
    )


def test_blocks_are_cubes_of_tissue() -> None:
    assert Grid.cut((30, 512, 512), (50, 4, 4)).parts == (1, 4, 4), "of the smallest edge"
    assert Grid.cut((100, 1024, 1024), (50, 4, 4)).parts == (5, 4, 4), "of the largest edge"
    assert Grid.cut((10, 256, 256), (50, 4, 4)).parts == (1, 1, 1), "three blocks along an axis are not cut"
    assert np.prod(Grid.cut((1000, 16384, 16384), (50, 4, 4)).parts) <= 1024


def test_tiles_add_up_to_blocks() -> None:
    random = np.random.default_rng(0)
    truth, mask = (random.integers(0, 2, (5, 130, 260)).astype(np.uint8) for _ in range(2))
    grid = Grid(tile_px=16, parts=(1, 4, 7), edge_nm=128)
    tiles = np.stack([count_tiles(a, b, grid.tile_px) for a, b in zip(truth, mask, strict=True)])
    blocks = grid.add_up(tiles, (130, 260))
    assert blocks.shape == (1, 4, 7, 3)
    expected = [np.sum((truth == a) & (mask == b)) for a, b in ((1, 1), (0, 1), (1, 0))]
    assert blocks.sum(axis=(0, 1, 2)).tolist() == expected


def test_pieces_by_hand() -> None:
    blocks = np.arange(8).reshape(2, 4, 1, 1)
    pieces = Pieces.overlap(blocks, (2, 2, 2), "pairs")
    # Both sections are one piece; rows 0 + 4, 1 + 5, 2 + 6, 3 + 7, each with the next one, the last with the first.
    assert pieces.counts.ravel().tolist() == [10, 14, 18, 14]
    assert pieces.share == 0.5


@given(block_counts)
@settings(max_examples=25)
def test_pieces_hold_each_block_equally_often(blocks: np.ndarray) -> None:
    pieces = Pieces.overlap(blocks, (2, 2, 2), "")
    assert np.allclose(pieces.counts.mean(axis=0), pieces.share * blocks.sum(axis=(0, 1, 2)))


@given(block_counts)
@settings(max_examples=25)
def test_intervals_hold_the_score_and_stay_in_range(blocks: np.ndarray) -> None:
    total = blocks.sum(axis=(0, 1, 2))
    for name, found in bound_pooled(blocks, 512).items():
        assert 0 <= known(found).low <= float(POOLED[name](total)) + 1e-9
        assert float(POOLED[name](total)) - 1e-9 <= known(found).high <= 1


@given(block_counts, st.integers(2, 9))
@settings(max_examples=25)
def test_intervals_do_not_depend_on_the_size_of_pixels(blocks: np.ndarray, finer: int) -> None:
    once, more = bound_pooled(blocks, 512), bound_pooled(blocks * finer, 512)
    for name in POOLED:
        assert known(once[name]).low == pytest.approx(known(more[name]).low, abs=1e-9)


@given(block_counts, block_counts)
@settings(max_examples=25)
def test_differences_change_sign_when_runs_are_swapped(first: np.ndarray, second: np.ndarray) -> None:
    there, back = compare_pooled(first, second, 512), compare_pooled(second, first, 512)
    for name in POOLED:
        assert known(there[name]).low == pytest.approx(-known(back[name]).high, abs=1e-12)


@given(block_counts)
@settings(max_examples=25)
def test_equal_runs_do_not_differ(blocks: np.ndarray) -> None:
    for found in compare_pooled(blocks, blocks, 512).values():
        assert (known(found).low, known(found).high) == (0, 0)


def test_a_difference_that_is_everywhere_is_found() -> None:
    random = np.random.default_rng(1)
    first = random.integers(500, 1500, (1, 5, 5, 1)) * np.array([80, 10, 10])
    second = first + np.array([-1, 1, 1]) * (first[..., :1] // 80)
    found = compare_pooled(first, second, 512)["iou"]
    assert known(found).low > 0
    assert known(bound_pooled(first, 512)["iou"]).high > 80 / 100


def test_too_few_blocks_or_sections_give_no_interval() -> None:
    counts = np.full((1, 4, 4, 3), (8, 1, 1))
    counts[0, 3, 3] = 0
    found = bound_pooled(counts, 600)
    assert found["iou"] == TooFew(too_few="15 blocks of 600 nm with labels; 16 or more are needed")
    assert compare_pooled(counts, counts, 600)["dice"] == found["dice"]
    assert isinstance(bound_pooled(np.full((1, 4, 4, 3), (8, 1, 1)), 600)["iou"], Interval)
    assert bound_mean(np.ones(0)) == TooFew(too_few="0 sections with a score; 6 or more are needed")
    assert bound_mean(np.ones(1)) == TooFew(too_few="1 section with a score; 6 or more are needed")
    assert isinstance(bound_mean(np.linspace(0.8, 0.9, 5)), TooFew)
    assert isinstance(bound_mean(np.linspace(0.8, 0.9, 6)), Interval)


def test_pieces_that_are_all_right_do_not_say_that_all_are() -> None:
    """Nine in ten volumes or more are held, where one region in 20 is wrong by a third and ten regions are drawn."""
    score, rng, held = ratio_of((1, 0), (0, 1)), np.random.default_rng(0), 0
    for _ in range(200):
        volume = np.full((1000, 2), 500)
        volume[rng.random(1000) < 0.05, 0] = 330
        found = known(bound_drawn(rng.choice(volume, 10, replace=False), score, "regions", 1000))
        held += found.low <= float(score(volume.sum(axis=0))) <= found.high
    assert held >= 180
    every, none = (known(bound_drawn(np.tile([tp, 9], (10, 1)), score, "regions", 10)) for tp in (9, 0))
    assert (every.low, every.high, none.low, none.high) == (1, 1, 0, 0)  # of all regions nothing is unsure


def test_different_tissue_is_not_compared() -> None:
    with pytest.raises(InputError, match="different tissue"):
        compare_pooled(np.ones((1, 4, 4, 3)), np.ones((1, 4, 5, 3)), 512)
    with pytest.raises(InputError, match="different tissue"):
        compare_means(np.ones(8), np.ones(9))


def test_interval_of_a_mean_by_hand() -> None:
    scores = np.array([0.5, 0.5, 0.6, 0.6, 0.7, 0.7])
    found = known(bound_mean(scores))
    # Pieces of two: .5, .55, .6, .65, .7 and, around the end, .6. Three are drawn at once; their scatter by chance:
    pieces = np.array([0.5, 0.55, 0.6, 0.65, 0.7, 0.6])
    error = pieces.std() / np.sqrt(3) * np.sqrt(3 / 2)
    half = 4.3027 * error / (0.6 * 0.4)
    assert found.low == pytest.approx(1 / (1 + np.exp(-(np.log(1.5) - half))), abs=0.006)
    assert found.high == pytest.approx(1 / (1 + np.exp(-(np.log(1.5) + half))), abs=0.006)
    assert found.method == "bootstrap of 2 neighbours among 6 sections"


def test_difference_of_means_by_hand() -> None:
    differences = np.array([0.3, 0.1, 0.1, 0.1, 0.1, 0.1])
    found = known(compare_means(0.5 + differences, np.full(6, 0.5)))
    # Two waves, sqrt(1 / 3) * cos(15 and 30 degrees) at the first section, where alone the differences are not .1.
    scatter = 0.2 * np.sqrt((np.cos(np.pi / 12) ** 2 + np.cos(np.pi / 6) ** 2) / 3 / 2)
    half = 4.3027 * scatter / np.sqrt(6)
    assert (found.low, found.high) == pytest.approx((0.8 / 6 - half, 0.8 / 6 + half), abs=1e-5)
    assert found.method == "2 slow waves among 6 sections"
    assert known(compare_means(np.ones(24), np.ones(24))).method == "3 slow waves among 24 sections"


def test_means_that_differ_by_a_constant_differ_by_it() -> None:
    scores = np.random.default_rng(2).uniform(0.6, 0.9, 30)
    found = known(compare_means(scores + 0.05, scores))
    assert (found.low, found.high) == pytest.approx((0.05, 0.05))
    equal = known(compare_means(scores, scores))
    assert (equal.low, equal.high) == (0, 0)


@given(arrays(np.float64, st.integers(6, 40), elements=st.floats(0, 1)), st.floats(-1, 1))
@settings(max_examples=25)
def test_differences_of_means_shift_and_do_not_know_up_from_down(scores: np.ndarray, shift: float) -> None:
    zero = np.zeros_like(scores)
    found, turned, swapped = (
        known(compare_means(*pair)) for pair in ((scores, zero), (scores[::-1], zero), (zero, scores))
    )
    moved = known(compare_means(scores + shift, zero))
    assert (turned.low, turned.high) == pytest.approx((found.low, found.high), abs=1e-9)
    assert (-swapped.high, -swapped.low) == pytest.approx((found.low, found.high), abs=1e-9)
    assert (moved.low - shift, moved.high - shift) == pytest.approx((found.low, found.high), abs=1e-9)


@pytest.mark.parametrize("count", [6, 24])
def test_differences_that_are_normal_are_held_as_often_as_said(count: int) -> None:
    """To be checked of so simple a case: three standard errors of a share of 2000."""
    drawn = np.random.default_rng(3).normal(0.02, 0.05, (2000, count))
    found = [known(compare_means(one, np.zeros(count))) for one in drawn]
    held = np.mean([one.low <= 0.02 <= one.high for one in found])
    assert held == pytest.approx(0.95, abs=3 * np.sqrt(0.95 * 0.05 / 2000))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["patches", "events"])
def test_intervals_hold_the_truth_of_simulated_volumes(name: str) -> None:
    """In small numbers; `benchmarks/intervals.py` has the large ones."""
    bench = _load_benchmark()
    count = int(os.environ.get("SEGEM_SIMULATED_VOLUMES", "60"))
    grid = Grid.cut(bench.SMALL, (bench.SECTION_NM, bench.PIXEL_NM, bench.PIXEL_NM))
    blocks = []
    for seed in range(count):
        truth, mask, _ = bench.SIMULATIONS[name](np.random.default_rng(seed), bench.SMALL, 0.0)
        tiles = np.stack([count_tiles(a, b, grid.tile_px) for a, b in zip(truth, mask, strict=True)])
        blocks.append(grid.add_up(tiles, (truth.shape[1], truth.shape[2])))
    total = np.sum(blocks, axis=(0, 1, 2, 3))
    for score, compute in POOLED.items():
        found = [known(bound_pooled(one, grid.edge_nm)[score]) for one in blocks]
        held = np.mean([one.low <= float(compute(total)) <= one.high for one in found])
        # Three standard errors of a share around 93 to 97 %.
        assert 0.93 - 3 * np.sqrt(0.93 * 0.07 / count) <= held <= 0.97 + 3 * np.sqrt(0.97 * 0.03 / count), score


def _load_benchmark() -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec = importlib.util.spec_from_file_location("simulated_volumes", BENCHMARKS / "intervals.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["simulated_volumes"] = module
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module
