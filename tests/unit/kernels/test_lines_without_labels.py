"""Watershed lines and borders of normalised cuts."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segem.kernels.lines import widen_lines
from segem.kernels.metrics.segments import label_cells
from segem.kernels.ncut import ncut_lines
from segem.kernels.watershed import watershed_lines

flood = partial(watershed_lines, sigma_px=1.0, depth=0.5, width_px=3)
cut = partial(ncut_lines, sigma_px=1.0, superpixel_px=100, darkness=1.0, cut=0.1, width_px=3, seed=0)


def two_cells():
    section = np.ones((60, 123), np.float32)
    section[:, 60:63] = -2
    return section


@pytest.mark.parametrize("find", [flood, cut])
def test_a_dark_line_parts_two_cells(find):
    lines = find(two_cells())
    cells = label_cells(lines == 0)
    assert cells.max() == 2
    assert cells[30, 10] != cells[30, 110]
    assert set(lines.any(axis=0).nonzero()[0]) <= set(range(59, 65))


def test_a_basin_that_is_too_shallow_is_no_cell():
    section = np.ones((5, 21), np.float32)
    section[:, 10] = 0.4
    lines = partial(watershed_lines, section, sigma_px=0.0, width_px=1)
    assert lines(depth=0.5)[:, 10].all()
    assert lines(depth=0.5).sum() == 5
    assert not lines(depth=0.7).any()


def test_width_is_the_width():
    section = np.ones((9, 21), np.float32)
    section[:, 10] = -2
    for width in (1, 3, 5, 7):
        assert watershed_lines(section, 0.0, 0.5, width).sum(axis=1).tolist() == [width] * 9


def test_a_point_widens_to_a_disc():
    point = np.zeros((5, 5), np.bool_)
    point[2, 2] = True
    assert widen_lines(point, 5).tolist() == [
        [0, 1, 1, 1, 0],
        [1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1],
        [0, 1, 1, 1, 0],
    ]


@pytest.mark.parametrize("find", [flood, cut])
def test_a_section_of_one_intensity_has_no_line(find):
    assert not find(np.full((80, 90), 0.3, np.float32)).any()


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 60), st.sampled_from([flood, cut]))
def test_any_shape_gives_a_mask_and_the_same_each_time(seed, height, width, find):
    section = np.random.default_rng(seed).normal(size=(height, width)).astype(np.float32)
    lines = find(section)
    assert (lines.shape, lines.dtype) == (section.shape, np.uint8)
    assert set(np.unique(lines)) <= {0, 1}
    np.testing.assert_array_equal(find(section), lines)
