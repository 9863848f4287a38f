"""Boxes, halos and voxel sizes, by hand."""

from __future__ import annotations

import pytest

from segem.errors import ConfigError
from segem.geometry import Box, Halo, VoxelSize, ceil_div, grid, round_up


def test_box_shape_size_and_slices() -> None:
    box = Box((1, 2, 3), (2, 5, 7))
    assert box.shape == (1, 3, 4)
    assert box.size == 12
    assert box.slices == (slice(1, 2), slice(2, 5), slice(3, 7))


def test_grow_is_cut_at_the_edge() -> None:
    whole = Box.of_shape((3, 10, 10))
    assert Box((0, 0, 4), (1, 4, 8)).grow(Halo(1, 2, 3), whole) == Box((0, 0, 1), (2, 6, 10))


def test_intersection_of_boxes_apart_is_empty() -> None:
    assert Box((0, 0, 0), (1, 2, 2)).intersect(Box((0, 5, 5), (1, 6, 6))).size == 0


def test_contains_and_union() -> None:
    a, b = Box((0, 0, 0), (1, 2, 2)), Box((0, 1, 1), (1, 4, 3))
    assert a.union(b) == Box((0, 0, 0), (1, 4, 3))
    assert a.union(b).contains(a)
    assert not a.contains(b)


def test_relative_to_shifts_the_origin() -> None:
    assert Box((4, 5, 6), (5, 7, 9)).relative_to((4, 4, 4)) == Box((0, 1, 2), (1, 3, 5))


@pytest.mark.parametrize(("start", "stop"), [((1, 0, 0), (0, 1, 1)), ((0, 3, 0), (1, 2, 1))])
def test_a_box_cannot_end_before_it_starts(start: tuple[int, int, int], stop: tuple[int, int, int]) -> None:
    with pytest.raises(ConfigError, match="end before it starts"):
        Box(start, stop)


@pytest.mark.parametrize("bad", [(0.0, 4.0, 4.0), (50.0, -4.0, 4.0), (50.0, 4.0, float("nan")), (float("inf"), 4, 4)])
def test_voxel_sizes_are_positive_numbers(bad: tuple[float, float, float]) -> None:
    with pytest.raises(ConfigError, match="positive number of nanometres"):
        VoxelSize(*bad)


def test_only_near_isotropic_voxels_shrink_in_z() -> None:
    assert not VoxelSize(50, 4, 4).near_isotropic
    assert VoxelSize(8, 8, 8).near_isotropic


def test_grid_cuts_the_last_cells() -> None:
    boxes = [box for _, box in grid((2, 5, 3), (1, 4, 4))]
    assert [box.shape for box in boxes] == [(1, 4, 3), (1, 1, 3), (1, 4, 3), (1, 1, 3)]


def test_rounding() -> None:
    assert (ceil_div(7, 3), ceil_div(6, 3), round_up(17, 16), round_up(16, 16)) == (3, 2, 32, 16)
