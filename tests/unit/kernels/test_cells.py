"""Cells by hand, by brute force and by their properties."""

from __future__ import annotations

import tracemalloc
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pytest
import tifffile
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import label

import segem.kernels.basins
import segem.kernels.cells
from segem.errors import InputError
from segem.io.scratch import ScratchBox, SectionOf
from segem.kernels.basins import find_basins, strips
from segem.kernels.cells import close_membrane, find_cells, find_cells_by_rows, measure_borders
from segem.kernels.merging import Borders, Merging, merge_basins
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
    count = int(basins.max())
    borders = measure_borders(basins, section, count)
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


# By strips of rows: however high they are, nothing changes.


@contextmanager
def strips_of(rows, section):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segem.kernels.basins, "STRIP_PX", rows * section.shape[1])
        patch.setattr(segem.kernels.cells, "MERGED_AT", 10)
        yield


@given(st.one_of(SECTIONS, FLAT), st.data(), st.sampled_from([0.0, 0.5, 2.0]), st.floats(0.05, 0.95))
def test_strips_of_any_height_give_the_same(section, data, sigma_px, below):
    outside = data.draw(st.one_of(st.none(), arrays(np.uint8, section.shape, elements=st.sampled_from([0, 0, 0, 1]))))
    assert next(strips(section.shape)).stop == len(section)
    basins, cells = find_basins(section, sigma_px, outside), find_cells(section, sigma_px, below, outside)
    count = int(basins.max())
    borders = measure_borders(basins, section, count)
    closed = close_membrane(np.zeros_like(section), cells)
    for height in range(1, len(section)):
        with strips_of(height, section):
            assert np.array_equal(find_basins(section, sigma_px, outside), basins)
            assert np.array_equal(find_cells(section, sigma_px, below, outside), cells)
            assert np.array_equal(close_membrane(np.zeros_like(section), cells), closed)
            found = measure_borders(basins, section, count).sort(count)
        for one, other in zip(vars(found).values(), vars(borders).values(), strict=True):
            assert np.array_equal(one, other)


def test_a_way_may_cross_a_border_between_strips_any_number_of_times():
    # A channel that goes up and down between walls, and falls from one end to the other.
    section = np.full((13, 41), 255, np.uint8)
    way = [(y, x) for x in range(0, 41, 2) for y in (range(13) if x % 4 == 0 else range(12, -1, -1))]
    ends = [(12 if x % 4 == 1 else 0, x) for x in range(1, 41, 2)]
    order = sorted([*way, *ends], key=lambda at: (at[1], at[0] if at[1] % 4 == 0 else -at[0]))
    for height, at in zip(range(254, -1, -1), order, strict=False):
        section[at] = height
    whole = find_basins(section, 0)
    assert np.unique(whole[[at[0] for at in order[:254]], [at[1] for at in order[:254]]]).size == 1
    assert are_equivalent(whole, basins_one_by_one(section))
    for height in (1, 2, 5, 6, 12):
        with strips_of(height, section):
            assert np.array_equal(find_basins(section, 0), whole)


def test_numbers_that_could_be_taken_for_places_are_refused(monkeypatch):
    section = np.array([[0, 1, 0, 1]] * 3, np.uint8)
    monkeypatch.setattr(segem.kernels.basins, "STRIP_PX", 4)
    # Two basins, and two rows of four beside each of two borders between strips.
    monkeypatch.setattr(segem.kernels.basins, "_NUMBERS", 19)
    assert find_basins(section, 0).max() == 2
    monkeypatch.setattr(segem.kernels.basins, "_NUMBERS", 18)
    with pytest.raises(InputError, match="too many basins"):
        find_basins(section, 0)


def test_strips_of_a_real_section_give_the_same(em_data):
    with tifffile.TiffFile(em_data / "isbi2012" / "train-volume.tif") as file:
        image = file.asarray(key=0)[:200, :300]
    # Darkness is no probability, but has the grain and the shapes of one.
    section = 255 - image
    outside = np.zeros_like(section)
    outside[150:, :40] = 1
    cells = find_cells(section, 2, 0.5, outside)
    assert 50 < cells.max() < 5000
    for height in (1, 7, 64):
        with strips_of(height, section):
            assert np.array_equal(find_cells(section, 2, 0.5, outside), cells)


@given(st.one_of(SECTIONS, FLAT), st.floats(0.05, 0.95), st.integers(1, 12), st.sampled_from([0, 3, 100]))
def test_merging_while_borders_are_measured_is_merging_when_all_are_known(section, below, height, held):
    basins = find_basins(section, 0)
    count = int(basins.max())
    merging = Merging(count, below)
    with strips_of(height, section), pytest.MonkeyPatch.context() as patch:
        patch.setattr(segem.kernels.cells, "MERGED_AT", held)
        left = measure_borders(basins, section, count, merging)
    merging.merge(left)
    assert np.array_equal(merging.cells(), merge_basins(measure_borders(basins, section, count), count, below))


def test_borders_between_basins_that_stay_as_they_are_are_left_out():
    basins = np.array([[1, 1, 2, 3, 4, 4]])
    section = np.array([[0, 0, 9, 200, 0, 0]], np.uint8)
    found = measure_borders(basins, section, 4, Merging(4, below=0.5))
    assert (found.one.tolist(), found.other.tolist()) == ([1], [2])


def test_few_borders_are_held_where_many_are_merged(monkeypatch):
    section = np.random.default_rng(0).integers(0, 256, (2048, 256), np.uint8)
    basins = find_basins(section, 1)
    count = int(basins.max())
    monkeypatch.setattr(segem.kernels.basins, "STRIP_PX", 2**13)
    monkeypatch.setattr(segem.kernels.cells, "MERGED_AT", 500)
    merging, given = Merging(count, 0.65), []
    merge = merging.merge

    def watched(borders, ended):
        given.append(borders.one.size)
        return merge(borders, ended)

    monkeypatch.setattr(merging, "merge", watched)
    left = measure_borders(basins, section, count, merging)
    every = measure_borders(basins, section, count)
    assert len(given) > 20
    assert max(given) < every.one.size / 10
    merge(left)
    assert np.array_equal(merging.cells(), merge_basins(every, count, 0.65))
    assert merging.cells().max() < 0.7 * count


def traced(call):
    """Return the most memory that a call has taken, in bytes."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_what_is_held_is_what_basins_need_and_nothing_for_a_pixel(monkeypatch, tmp_path):
    # What is held for each pixel of a strip is small beside a large section, so here strips are small as well.
    monkeypatch.setattr(segem.kernels.basins, "STRIP_PX", 2**14)
    section = np.random.default_rng(0).integers(0, 256, (4096, 256), np.uint8)
    low = section[:1024]
    cells = [SectionOf(ScratchBox(tmp_path, (1, *rows.shape), np.uint32), 0) for rows in (low, section)]
    some, all_ = (
        traced(lambda rows=rows, into=into: find_cells_by_rows(rows, 2, 0.4, None, into))
        for rows, into in zip((low, section), cells, strict=True)
    )
    # A basin for each 70 pixels of noise, and the basins of two rows of 64.
    assert all_ - some < 0.75 * (section.size - low.size)
    assert np.array_equal(cells[0][:], find_cells(low, 2, 0.4))
    # In memory, the numbers of the cells are held as well.
    assert traced(lambda: find_cells(section, 2, 0.4)) - all_ < 4.5 * section.size


def test_each_limit_is_scored_as_the_cells_it_gives():
    section = two_rooms([230] * 9 + [20] * 3 + [230] * 9)
    truth = np.zeros(section.shape, np.uint8)
    truth[:, 10:13] = 1
    apart, joined = score_divisions(truth, section, 0, (0.5, 0.95))
    assert apart == 1
    # Two cells of one size, joined: V_rand 2 / 3; nothing is told of which cell a pixel is in, so V_info is 0.
    assert joined == pytest.approx(1 / 3)
    assert score_divisions(np.ones_like(truth), section, 0, (0.5,)) is None
