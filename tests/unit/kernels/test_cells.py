"""Cells by hand, by brute force and by their properties."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import label

import segem.kernels.cells
from segem.kernels.cells import close_membrane, find_basins, find_cells, measure_borders
from segem.kernels.merging import Borders, merge_basins
from segem.kernels.metrics.divisions import score_divisions

SECTIONS = arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 255))
FLAT = arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.sampled_from([0, 90, 255]))


def are_equivalent(one, other):
    """Return whether two label images divide a section alike, whatever the numbers."""
    pairs = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1)
    return all(np.unique(numbers).size == pairs.shape[1] for numbers in pairs) and np.array_equal(one == 0, other == 0)


def test_equivalence_is_about_the_division_alone():
    assert are_equivalent(np.array([1, 1, 2, 0]), np.array([7, 7, 3, 0]))
    assert not are_equivalent(np.array([1, 1, 2]), np.array([1, 2, 2]))
    assert not are_equivalent(np.array([1, 1, 2]), np.array([1, 1, 1]))
    assert not are_equivalent(np.array([1, 0]), np.array([0, 1]))


# By hand.


def two_rooms(wall):
    """Return a section of two rooms and a wall of three pixels with the given probabilities down its middle."""
    section = np.full((len(wall), 23), 10, np.uint8)
    section[:, 10:13] = np.array(wall, np.uint8)[:, None]
    return section


def test_a_leaky_wall_divides_two_cells():
    leaky = two_rooms([230] * 9 + [20] * 3 + [230] * 9)
    mask = (leaky >= 128).astype(np.uint8)
    assert label(mask == 0, connectivity=1).max() == 1
    # 18 of 21 rows hold: the mean of the border is near 0.9 * 6 / 7.
    cells = find_cells(leaky, 0, 0.5)
    assert cells.max() == 2
    assert cells[0, 0] == cells[-1, 0] != cells[0, -1] == cells[-1, -1]
    closed = close_membrane(mask, cells)
    assert label(closed == 0, connectivity=1).max() == 2
    # The gap is closed by a line of one pixel, and nothing else is drawn.
    assert np.count_nonzero(closed) == np.count_nonzero(mask) + 3


def test_a_wall_that_leaks_more_than_it_holds_divides_nothing():
    cells = find_cells(two_rooms([230] * 4 + [10] * 17), 0, 0.5)
    assert cells.max() == 1


def test_a_hole_in_the_membrane_around_a_cell_is_closed():
    y, x = np.mgrid[-25:26, -25:26]
    away = np.hypot(y, x)
    section = np.where(np.abs(away - 10) < 1.5, 240, 5).astype(np.uint8)
    section[23:28, 30:] = 5
    cells = find_cells(section, 1, 0.5)
    assert cells.max() == 2
    inside, outside = away < 8, away > 12
    assert np.unique(cells[inside]).size == np.unique(cells[outside]).size == 1
    closed = close_membrane((section >= 128).astype(np.uint8), cells)
    assert label(closed == 0, connectivity=1).max() == 2


def test_dark_mitochondria_divide_no_cell():
    y, x = np.mgrid[:40, :60]
    section = np.full((40, 60), 8, np.uint8)
    section[:, 29:31] = 230
    for cy, cx in ((12, 12), (28, 15), (20, 45)):
        section[np.hypot(y - cy, x - cx) < 5] = 200
    cells = find_cells(section, 2, 0.5)
    assert cells.max() == 2
    assert np.unique(cells[:, :29]).size == np.unique(cells[:, 31:]).size == 1
    # What the mask takes them for stays in it: a cell is closed, not cleaned.
    mask = (section >= 128).astype(np.uint8)
    assert np.array_equal(close_membrane(mask, cells), mask)


def test_merging_goes_by_the_mean_of_the_whole_border():
    # 1 and 2 become one, whose border with 3 is then (60 + 180) / 2.
    triangle = Borders.gather(np.array([1, 1, 2]), np.array([2, 3, 3]), np.array([10, 60, 180]))
    assert merge_basins(triangle, 3, 119 / 255).tolist() == [0, 1, 1, 2]
    assert merge_basins(triangle, 3, 121 / 255).tolist() == [0, 1, 1, 1]
    # A limit is not reached by what equals it.
    assert merge_basins(triangle, 3, 120 / 255).tolist() == [0, 1, 1, 2]


def test_what_is_outside_divides_and_is_in_no_cell():
    section = np.zeros((5, 9), np.uint8)
    outside = np.zeros_like(section)
    outside[:, 4] = 1
    cells = find_cells(section, 1, 0.5, outside)
    assert cells[0].tolist() == [1, 1, 1, 1, 0, 2, 2, 2, 2]
    assert not close_membrane(np.zeros_like(section), cells).any()
    assert not find_cells(section, 1, 0.5, np.ones_like(section)).any()


def test_a_section_without_membrane_is_one_cell_and_one_of_nothing_else_too():
    for value in (0, 255):
        assert find_cells(np.full((30, 20), value, np.uint8), 2, 0.5).max() == 1


# By brute force.


def basins_one_by_one(section):
    """Follow the steepest way from each pixel."""
    height, width = section.shape

    def lowest(y, x):
        near = [(y, x), (y - 1, x), (y, x - 1), (y, x + 1), (y + 1, x)]
        return min((section[p], p) for p in near if 0 <= p[0] < height and 0 <= p[1] < width)[1]

    found = np.zeros(section.shape, int)
    for start in np.ndindex(height, width):
        here = start
        while lowest(*here) != here:
            here = lowest(*here)
        found[start] = 1 + here[0] * width + here[1]
    return found


def merge_one_by_one(borders, count, below):
    """Merge the one weakest border, and look again."""
    sums = {
        (a, b): (total, length)
        for a, b, total, length in zip(*(column.tolist() for column in vars(borders).values()), strict=True)
    }
    belongs = np.arange(count + 1)
    while sums:
        (a, b), (total, length) = min(sums.items(), key=lambda item: (item[1][0] / item[1][1], item[0]))
        if total / length / 255 >= below:
            break
        belongs[belongs == a] = b
        joined: dict[tuple[int, int], tuple[int, int]] = {}
        for pair, (t, n) in sums.items():
            one, other = sorted(b if side == a else side for side in pair)
            if one != other:
                before = joined.get((one, other), (0, 0))
                joined[one, other] = (before[0] + t, before[1] + n)
        sums = joined
    return belongs


@given(st.one_of(SECTIONS, FLAT))
def test_basins_are_those_of_the_steepest_way(section):
    assert are_equivalent(find_basins(section, 0), basins_one_by_one(section))


@given(st.one_of(SECTIONS, FLAT), st.floats(0.05, 0.95))
@example(np.array([[90, 90, 255, 90, 90, 0, 90], [90, 90, 90, 90, 0, 90, 90]], np.uint8), 0.5)
def test_merging_at_once_is_merging_one_after_the_other(section, below):
    basins = find_basins(section, 0)
    borders, count = measure_borders(basins, section), int(basins.max())
    assert are_equivalent(merge_basins(borders, count, below)[basins], merge_one_by_one(borders, count, below)[basins])


# By properties.


@given(st.one_of(SECTIONS, FLAT), st.sampled_from([0.0, 0.8, 2.0]), st.floats(0.05, 0.95))
def test_a_section_is_divided_into_connected_cells_with_lines_between_them(section, sigma_px, below):
    cells = find_cells(section, sigma_px, below)
    assert cells.dtype == np.uint32
    assert np.array_equal(np.unique(cells), np.arange(1, cells.max() + 1))
    assert label(cells, connectivity=1).max() == cells.max()
    closed = close_membrane(np.zeros(cells.shape, np.uint8), cells)
    parts = label(closed == 0, connectivity=1)
    assert all(np.unique(cells[parts == part]).size == 1 for part in range(1, parts.max() + 1))


@given(SECTIONS, st.lists(st.floats(0.05, 0.95), min_size=2, max_size=4))
def test_a_higher_limit_only_merges(section, limits):
    divided = [find_cells(section, 0, limit) for limit in sorted(limits)]
    for fine, coarse in pairwise(divided):
        assert np.unique(np.stack([fine, coarse]).reshape(2, -1), axis=1).shape[1] == fine.max()


@pytest.mark.parametrize("strip_px", [1, 50, 333])
def test_the_strips_that_are_worked_on_change_nothing(monkeypatch, strip_px):
    rng = np.random.default_rng(0)
    section = rng.integers(0, 256, (61, 47), np.uint8)
    outside = (rng.random(section.shape) < 0.05).astype(np.uint8)
    mask = (section > 128).astype(np.uint8)
    whole = [find_cells(section, sigma, 0.5, outside) for sigma in (0, 2)]
    closed = [close_membrane(mask, cells) for cells in whole]
    monkeypatch.setattr(segem.kernels.cells, "STRIP_PX", strip_px)
    for sigma, cells, line in zip((0, 2), whole, closed, strict=True):
        assert np.array_equal(find_cells(section, sigma, 0.5, outside), cells)
        assert np.array_equal(close_membrane(mask, cells), line)


def test_a_section_of_noise_takes_nine_bytes_a_pixel(monkeypatch):
    # What is held for each pixel of a strip is small beside a large section, so here strips are small as well.
    monkeypatch.setattr(segem.kernels.cells, "STRIP_PX", 2**15)
    section = np.random.default_rng(0).integers(0, 256, (1024, 1024), np.uint8)
    tracemalloc.start()
    try:
        cells = find_cells(section, 2, 0.4)
        assert tracemalloc.get_traced_memory()[1] < 9 * section.size
        mask = (section > 127).astype(np.uint8)
        expected = close_membrane(mask, cells)
        assert not np.array_equal(mask, expected)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        assert close_membrane(mask, cells, in_place=True) is mask
        assert tracemalloc.get_traced_memory()[1] - before < 0.5 * section.size
        assert np.array_equal(mask, expected)
    finally:
        tracemalloc.stop()


def test_each_limit_is_scored_as_the_cells_it_gives():
    section = two_rooms([230] * 9 + [20] * 3 + [230] * 9)
    truth = np.zeros(section.shape, np.uint8)
    truth[:, 10:13] = 1
    apart, joined = score_divisions(truth, section, 0, (0.5, 0.95))
    assert apart == 1
    # Two cells of one size, joined: V_rand 2 / 3; nothing is told of which cell a pixel is in, so V_info is 0.
    assert joined == pytest.approx(1 / 3)
    assert score_divisions(np.ones_like(truth), section, 0, (0.5,)) is None
