"""Areas of one value that are no tissue are found to the pixel, and tissue is left alone."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from segem.kernels.outside import (
    CELL_PX,
    choose_cell_px,
    find_constant_cells,
    find_outside_cells,
    grow_outside,
    measure_cells,
)
from tests.fabricate import tissue

SIDE = 256


@pytest.fixture(scope="module")
def section() -> NDArray[np.uint8]:
    image: NDArray[np.uint8] = tissue((1, SIDE, SIDE))[0][0]
    return image


def outside_of(section: NDArray[np.uint8 | np.uint16]) -> NDArray[np.bool_]:
    cell_px = choose_cell_px(section.shape)
    return grow_outside(
        section, list(find_outside_cells(find_constant_cells(*measure_cells(section, cell_px)), cell_px))
    )


def test_cells_by_hand() -> None:
    section = np.full((17, 20), 300, np.uint16)
    section[3, 9] = 0
    assert find_constant_cells(*measure_cells(section)).tolist() == [[300, -1, 300], [300, 300, 300], [300, 300, 300]]


def test_tissue_is_left_alone(section: NDArray[np.uint8]) -> None:
    assert not outside_of(section).any()


@pytest.mark.parametrize("value", [0, 128, 255])
@pytest.mark.parametrize("offset", [(0, 0), (37, 53), (128, 1)])
def test_padding_is_found_to_the_pixel(section: NDArray[np.uint8], value: int, offset: tuple[int, int]) -> None:
    canvas = np.full((2 * SIDE, 2 * SIDE), value, np.uint8)
    place = tuple(slice(at, at + SIDE) for at in offset)
    # Tissue of the same value at its edge would belong to the padding, which is no fault.
    canvas[place] = np.where(section == value, value ^ 1, section)
    padding = np.ones(canvas.shape, bool)
    padding[place] = False
    assert np.array_equal(outside_of(canvas), padding)


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("degrees", [3, 10, 45])
def test_corners_that_a_rotation_leaves(section: NDArray[np.uint8], order: int, degrees: int) -> None:
    big = np.tile(section, (2, 2))
    turned = ndimage.rotate(big, degrees, reshape=False, order=order)
    corners = ndimage.rotate(np.ones(big.shape, np.float32), degrees, reshape=False, order=1) < 0.5
    found = outside_of(turned)
    # A sliver at the end of a corner is thinner than a cell.
    assert (found & corners).sum() >= 0.98 * corners.sum()
    assert not (found & ~np.asarray(ndimage.binary_dilation(corners, np.ones((3, 3)), iterations=4))).any()


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("side", [96, 128, 200])
@pytest.mark.parametrize("degrees", [7, 20, 45])
def test_corners_of_a_small_section(section: NDArray[np.uint8], side: int, degrees: int, order: int) -> None:
    # Brighter than the corners, so that none of it belongs to them.
    small = np.maximum(section[:side, :side], 20)
    turned = ndimage.rotate(small, degrees, reshape=False, order=order)
    corners = ndimage.rotate(np.ones(small.shape, np.float32), degrees, reshape=False, order=1) < 0.5
    found = outside_of(turned)
    assert (found & corners).sum() >= 0.95 * corners.sum()
    assert not (found & ~np.asarray(ndimage.binary_dilation(corners, np.ones((3, 3)), iterations=4))).any()


@pytest.mark.parametrize("side", [64, 128, 200])
def test_lumens_of_a_small_section_are_tissue(section: NDArray[np.uint8], side: int) -> None:
    y, x = np.mgrid[:side, :side]
    for centre in ((0, side // 2), (side // 2, side), (0, 0), (side // 2, side // 2)):
        hole = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < min(side // 5, 28) ** 2
        assert not outside_of(np.where(hole, 255, np.minimum(section[:side, :side], 254)).astype(np.uint8)).any()


@pytest.mark.parametrize("centre", [(0, 256), (256, 511), (511, 130)])
def test_a_lumen_that_the_edge_cuts_is_tissue(section: NDArray[np.uint8], centre: tuple[int, int]) -> None:
    big = np.tile(section, (2, 2))
    y, x = np.mgrid[: 2 * SIDE, : 2 * SIDE]
    hole = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < 50**2
    assert not outside_of(np.where(hole, 255, np.minimum(big, 254)).astype(np.uint8)).any()


def test_what_a_bent_edge_leaves_is_found(section: NDArray[np.uint8]) -> None:
    big = np.maximum(np.tile(section, (2, 2)), 1)
    y, x = np.mgrid[: 2 * SIDE, : 2 * SIDE]
    # Deepest in the middle of the edge, and in none of its corners.
    gap = y < 30 - ((x - SIDE) / 40.0) ** 2
    found = outside_of(np.where(gap, 0, big).astype(np.uint8))
    assert (found & gap).sum() > 0.98 * gap.sum()
    assert not (found & ~gap).any()


def test_a_hot_pixel_in_the_corner_hides_no_padding(section: NDArray[np.uint8]) -> None:
    turned = ndimage.rotate(np.maximum(np.tile(section, (2, 2)), 1), 10, reshape=False, order=0)
    clean = outside_of(turned)
    turned[::511, ::511] = 255
    clean[::511, ::511] = False
    assert np.array_equal(outside_of(turned), clean)


def test_a_data_bar_is_found_with_its_letters(section: NDArray[np.uint8]) -> None:
    barred = section.copy()
    barred[-40:] = 0
    for x in range(20, 220, 14):
        barred[-28:-12, x : x + 9] = 255
        barred[-24:-20, x + 3 : x + 6] = 0
    expected = np.zeros(section.shape, bool)
    expected[-40:] = True
    assert np.array_equal(outside_of(barred)[-40:], expected[-40:])
    assert not outside_of(barred)[:-40].any()


def test_a_scale_bar_amid_tissue_is_found(section: NDArray[np.uint8]) -> None:
    barred = section.copy()
    barred = np.minimum(barred, 254)
    barred[200:224, 40:200] = 255
    bar = np.zeros(section.shape, bool)
    bar[200:224, 40:200] = True
    assert np.array_equal(outside_of(barred), bar)


def test_saturated_tissue_is_tissue(section: NDArray[np.uint8]) -> None:
    y, x = np.mgrid[:SIDE, :SIDE]
    lumen = np.where((y - 128) ** 2 + (x - 128) ** 2 < 50**2, 255, section).astype(np.uint8)
    assert not outside_of(lumen).any()


def test_many_small_areas_are_tissue(section: NDArray[np.uint8]) -> None:
    vesicles = section.copy()
    for y in range(0, SIDE, 64):
        for x in range(0, SIDE, 64):
            vesicles[y : y + 32, x : x + 32] = 0
    assert not outside_of(vesicles).any()


def test_parts_of_a_section_come_out_as_in_the_whole(section: NDArray[np.uint8]) -> None:
    canvas = np.zeros((2 * SIDE, SIDE), np.uint8)
    canvas[100 : 100 + SIDE] = section
    cells = find_constant_cells(*measure_cells(canvas))
    bands = [
        find_constant_cells(*measure_cells(canvas[y : y + 8 * CELL_PX])) for y in range(0, len(canvas), 8 * CELL_PX)
    ]
    assert np.array_equal(np.concatenate(bands), cells)
    areas = list(find_outside_cells(cells))
    upper = grow_outside(canvas[:320], [area.within(slice(0, 320), slice(0, SIDE)) for area in areas])
    assert np.array_equal(upper[:256], grow_outside(canvas, areas)[:256])
