"""Warping error: what is torn or joined counts, what is bent does not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import euler_number, label

from segem.kernels.metrics.not_defined import NOTHING_KNOWN
from segem.kernels.metrics.section import compare_section
from segem.kernels.metrics.warping import WarpingSums, _find_simple
from segem.kernels.truth import UNKNOWN

MASKS = arrays(np.uint8, (6, 7), elements=st.integers(0, 1))


def count(truth, mask):
    return WarpingSums.count(*compare_section(np.asarray(truth, np.uint8), np.asarray(mask, np.uint8), (4, 4), 4))


def draw(*rows):
    return np.array([[pixel == "#" for pixel in row] for row in rows], np.uint8)


WALL = draw("...#...", "...#...", "...#...", "...#...", "...#...")


@pytest.mark.parametrize(
    ("mask", "wrong"),
    [
        (WALL, 0),
        (draw("..##...", "..#....", "..#....", "..##...", "...#..."), 0),  # bent
        (draw("..###..", "..###..", "..###..", "..###..", "..###.."), 0),  # thicker
        (draw("...#...", "...#...", ".......", "...#...", "...#..."), 1),  # a gap of one pixel merges two cells
        (
            draw("...#...", ".......", ".......", ".......", "...#..."),
            3,
        ),  # of a wider gap, each pixel would join the cells
        (draw("...#...", "####...", "...#...", "...#...", "...#..."), 1),  # a wall splits a cell
        (draw("...#...", "...#...", "...#.#.", "...#...", "...#..."), 1),  # a speck of membrane appears
    ],
)
def test_what_is_torn_or_joined_by_hand(mask, wrong):
    assert count(WALL, mask) == WarpingSums(wrong, 35)


def test_a_cell_that_appears_or_disappears_is_wrong():
    one = draw("#####", "#####", "##.##", "#####", "#####")
    assert count(np.ones((5, 5)), one).wrong == 1
    assert count(one, np.ones((5, 5))).wrong == 1


@given(MASKS, MASKS)
def test_it_is_bounded_and_nothing_for_equal_masks(truth, mask):
    found = count(truth, mask)
    assert 0 <= found.wrong <= np.count_nonzero(truth != mask)
    assert count(truth, truth).wrong == 0
    unknown = np.full_like(truth, UNKNOWN)
    assert count(unknown, mask).error == NOTHING_KNOWN
    both = found + count(mask, truth)
    assert both.error == both.wrong / (2 * truth.size)


@given(MASKS, MASKS)
def test_a_mask_of_another_topology_is_never_free(truth, mask):
    """Bending keeps the number of cells and of holes; so where they differ, pixels stay wrong."""
    cells = [np.pad(one == 0, 1) for one in (truth, mask)]
    if label(cells[0], connectivity=1).max() != label(cells[1], connectivity=1).max() or (
        euler_number(cells[0], 1) != euler_number(cells[1], 1)
    ):
        assert count(truth, mask).wrong > 0


def test_simple_is_what_keeps_cells_and_holes():
    """For each neighbourhood: flipping its middle keeps the pieces of cell and of membrane, counted around it."""
    around = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1), (2, 2)]
    for code in range(256):
        cell = np.zeros((5, 5), bool)
        for bit, (y, x) in enumerate(around):
            cell[1 + y, 1 + x] = code >> bit & 1
        flipped = cell.copy()
        flipped[2, 2] = True
        pieces = [(label(one, connectivity=1).max(), label(~one, connectivity=2).max()) for one in (cell, flipped)]
        # A pixel that is simple keeps both counts. Where it does not, one of them may still be kept by chance.
        if _find_simple()[code]:
            assert pieces[0] == pieces[1]
    assert sum(_find_simple()) == 116
