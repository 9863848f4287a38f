"""Membrane of numbered cells, by hand, against a search of all pairs, and piece by piece."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from segem.config.ingest import ZeroMeans
from segem.kernels.instances import is_any, mark_borders, outline_cells

IDS = arrays(np.uint16, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 4))


def by_all_pairs(ids: np.ndarray, border_nm: float, pixel_nm: tuple[float, float]) -> np.ndarray:
    y, x = (place.reshape(-1) for place in np.indices(ids.shape))
    away_nm = np.hypot((y[:, None] - y) * pixel_nm[0], (x[:, None] - x) * pixel_nm[1])
    near = away_nm <= border_nm / 2 + 1e-6
    return (near & (ids.reshape(-1)[:, None] != ids.reshape(-1))).any(1).reshape(ids.shape)


@pytest.mark.parametrize(
    ("border_nm", "expected"),
    [
        (8, [0, 0, 0, 1, 1, 0, 0, 0]),
        (11.9, [0, 0, 0, 1, 1, 0, 0, 0]),
        (16, [0, 0, 1, 1, 1, 1, 0, 0]),
        (24, [0, 1, 1, 1, 1, 1, 1, 0]),
    ],
)
def test_two_cells_that_touch_share_a_membrane_of_the_width_given(border_nm: float, expected: list[int]) -> None:
    ids = np.array([[7, 7, 7, 7, 9, 9, 9, 9]])
    assert outline_cells(ids, border_nm, (4, 4), "membrane").tolist() == [expected]


def test_distances_are_those_of_pixels_that_are_not_square() -> None:
    ids = np.ones((5, 7), np.uint8)
    ids[2, 3] = 2
    # 10 nm away are a pixel in y and two in x; (1, 1) is 11.2 nm away.
    expected = [
        [0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 1, 0, 0, 0],
        [0, 1, 1, 1, 1, 1, 0],
        [0, 0, 0, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0],
    ]
    assert mark_borders(ids, 20, (10, 5)).astype(int).tolist() == expected


def test_half_of_a_width_that_binary_numbers_cannot_hold_reaches_its_pixel() -> None:
    # 6 * 4.6 / 2 is a little less than 3 * 4.6 is.
    ids = np.array([[1] * 5 + [2] * 5])
    assert mark_borders(ids, 6 * 4.6, (4.6, 4.6)).sum() == 6


@pytest.mark.parametrize(
    ("zero_means", "expected"),
    [
        ("membrane", [0, 0, 0, 1, 1, 1, 0, 1, 1, 0, 0]),
        ("membrane_with_border", [0, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0]),
        ("outside_cells", [0, 0, 1, 1, 0, 1, 1, 1, 1, 0, 0]),
        ("background", [0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0]),
        ("unknown", [0, 0, 2, 2, 2, 2, 2, 1, 1, 0, 0]),
    ],
)
def test_zero_means_what_is_said(zero_means: ZeroMeans, expected: list[int]) -> None:
    ids = np.array([[1, 1, 1, 0, 0, 0, 2, 2, 3, 3, 3]])
    assert outline_cells(ids, 8, (4, 4), zero_means).tolist() == [expected]


def test_a_border_beside_what_is_ignored_is_unknown_unless_two_cells_make_it() -> None:
    most = 2**64 - 1
    ids = np.array([[4, 4, 4, most, most, 4, 5, 5, 5]], np.uint64)
    assert outline_cells(ids, 8, (4, 4), "membrane", (most,)).tolist() == [[0, 0, 2, 2, 2, 1, 1, 0, 0]]
    assert outline_cells(ids, 16, (4, 4), "membrane", (most, 77)).tolist() == [[0, 2, 2, 2, 2, 1, 1, 1, 0]]


@pytest.mark.parametrize(
    ("one", "other", "dtype"),
    [(2**64 - 1, 2**64 - 2, "u8"), (-(2**63), -(2**63) + 1, "i8"), (-1, 255, "i2"), (2**24 - 1, 2**24 - 2, "f4")],
)
def test_numbers_that_are_almost_alike_are_two_cells(one: int, other: int, dtype: str) -> None:
    ids = np.array([[one, one, other, other]], dtype)
    assert mark_borders(ids, 2, (1, 1)).tolist() == [[False, True, True, False]]
    assert is_any(ids, (one,)).tolist() == [[True, True, False, False]]


def test_a_value_that_a_type_cannot_hold_is_nowhere() -> None:
    assert not is_any(np.array([2**24], np.float32), (2**24 + 1,)).any()
    assert not is_any(np.array([np.inf], np.float16), (2**20,)).any()
    assert not is_any(np.array([255], np.uint8), (-1, 511)).any()
    assert not is_any(np.array([-1], np.int64), (2**64 - 1,)).any()


@given(IDS, st.integers(2, 12), st.sampled_from([(1, 1), (2, 1), (1, 3)]))
def test_borders_are_those_of_a_search_of_all_pairs(ids: np.ndarray, border: int, pixel: tuple[int, int]) -> None:
    assert np.array_equal(mark_borders(ids, border, pixel), by_all_pairs(ids, border, pixel))


@given(IDS, st.integers(2, 6), st.sampled_from(get_args(ZeroMeans)))
def test_a_part_with_its_surroundings_comes_out_as_in_the_whole(
    ids: np.ndarray, border: int, zero_means: ZeroMeans
) -> None:
    whole, halo = outline_cells(ids, border, (1, 1), zero_means, (4,)), border // 2
    for y in range(len(ids)):
        above = max(0, y - halo)
        part = outline_cells(ids[above : y + halo + 1], border, (1, 1), zero_means, (4,))
        assert np.array_equal(part[y - above], whole[y])


def by_dilation(ids: np.ndarray) -> np.ndarray:
    """The rule that SNEMI3D is judged by, step by step: borders on both sides, one 4-connected step more, and 0."""
    borders = np.zeros(ids.shape, bool)
    for axis in range(2):
        one, other = np.swapaxes(ids, 0, axis)[:-1], np.swapaxes(ids, 0, axis)[1:]
        side = np.swapaxes(borders, 0, axis)
        side[:-1] |= one != other
        side[1:] |= one != other
    return (ndimage.binary_dilation(borders) | (ids == 0)).astype(np.uint8)


def test_the_truth_of_mouse_cortex_by_hand() -> None:
    # Two cells that touch, and one behind a 0 of one pixel: two pixels of each cell on either side.
    ids = np.array([[3, 3, 3, 3, 8, 8, 8, 8, 8, 8, 0, 5, 5, 5]] * 3)
    expected = [[0, 0, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 0]] * 3
    assert outline_cells(ids, 24, (6, 6), "membrane_with_border").tolist() == expected
    assert by_dilation(ids).tolist() == expected
    # A corner: what lies diagonally beside another cell is one step from a border; two steps to the side are two.
    ids = np.array([[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 2]])
    expected = [[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 1], [0, 1, 1, 1]]
    assert outline_cells(ids, 24, (6, 6), "membrane_with_border").tolist() == expected


@given(IDS)
def test_borders_of_four_pixels_are_one_step_around_those_of_two(ids: np.ndarray) -> None:
    assert np.array_equal(outline_cells(ids, 24, (6, 6), "membrane_with_border"), by_dilation(ids))


@given(IDS)
def test_one_cell_alone_has_no_border(ids: np.ndarray) -> None:
    assert not mark_borders(np.full_like(ids, 3), 9, (1, 1)).any()
