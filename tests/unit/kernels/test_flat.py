"""Padding with noise is found where it can only be padding, and asked about where it may be tissue."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from segem.kernels.flat import FlatArea, find_flat_areas, find_tolerance, has_flat_run
from segem.kernels.normalize import histogram
from segem.kernels.outside import grow_outside, measure_cells
from tests.fabricate import tissue

SIDE = 256


@pytest.fixture(scope="module")
def section() -> NDArray[np.uint8]:
    image: NDArray[np.uint8] = tissue((1, SIDE, SIDE))[0][0]
    return np.maximum(image, 30)


def flat_in(section: NDArray[np.uint8 | np.uint16]) -> list[FlatArea]:
    lows, highs = measure_cells(section)
    return list(find_flat_areas(lows, highs, find_tolerance(histogram(section))))


def noisy(section: NDArray[np.uint8], where: NDArray[np.bool_], value: int, sigma: float = 1.0) -> NDArray[np.uint8]:
    noise = np.random.default_rng(1).normal(value, sigma, section.shape)
    return np.where(where, np.clip(np.rint(noise), 0, 255), section).astype(np.uint8)


def sides() -> dict[str, NDArray[np.bool_]]:
    strip, frame, corners = np.zeros((3, SIDE, SIDE), bool)
    strip[:, :40] = True
    frame[...] = True
    frame[30:220, 50:240] = False
    turned = ndimage.rotate(np.ones((SIDE, SIDE), np.float32), 12, reshape=False, order=1)
    return {"strip": strip, "frame": frame, "corners": corners | (turned < 0.5)}


def test_tissue_is_not_flat(section: NDArray[np.uint8]) -> None:
    assert flat_in(section) == []


@pytest.mark.parametrize("where", sides())
@pytest.mark.parametrize(("value", "sigma"), [(2, 1.0), (6, 2.0), (250, 2.0)])
def test_padding_with_noise_is_surely_padding(section: NDArray[np.uint8], where: str, value: int, sigma: float) -> None:
    padding = sides()[where]
    spoiled = noisy(section, padding, value, sigma)
    found = flat_in(spoiled)
    assert found
    assert all(flat.sure for flat in found)
    outside = grow_outside(spoiled, [flat.area for flat in found])
    # A part of a cell at the border of tissue is left; and tissue of that very intensity beside it is taken.
    assert (outside & padding).sum() > 0.97 * padding.sum()
    assert (outside & ~padding).sum() < 0.01 * padding.sum()


def test_the_range_of_16_bits_does_not_matter(section: NDArray[np.uint8]) -> None:
    wide = 1000 + noisy(section, sides()["strip"], 3).astype(np.uint16)
    wide.flat[::5003] = 65535
    assert [flat.sure for flat in flat_in(wide)] == [True]


def test_a_strip_of_grey_is_asked_about(section: NDArray[np.uint8]) -> None:
    (flat,) = flat_in(noisy(section, sides()["strip"], int(np.median(section))))
    assert not flat.sure


def test_a_flat_lumen_that_the_edge_cuts_is_asked_about(section: NDArray[np.uint8]) -> None:
    y, x = np.mgrid[:SIDE, :SIDE]
    (flat,) = flat_in(noisy(section, (y - 100) ** 2 + x**2 < 45**2, 252))
    assert not flat.sure
    assert flat.area.low >= 240


def test_smooth_tissue_is_never_surely_padding(section: NDArray[np.uint8]) -> None:
    smooth = ndimage.gaussian_filter(section.astype(float), 6)
    assert not any(flat.sure for flat in flat_in(np.rint(smooth).astype(np.uint8)))


def test_a_section_of_noise_alone_has_nothing_to_compare_with() -> None:
    assert flat_in(np.random.default_rng(0).integers(0, 30, (64, 64), np.uint8) // 10) == []


def test_runs_by_hand() -> None:
    lows = np.zeros(12, np.int32)
    highs = np.array([9, 1, 1, 1, 1, 1, 1, 1, 1, 9, 1, 1], np.int32)
    assert has_flat_run(lows, highs, 1)
    highs[4] = 9
    assert not has_flat_run(lows, highs, 1)


def test_blocks_of_jpeg_around_tissue_are_outside(section: NDArray[np.uint8]) -> None:
    padding = sides()["frame"]
    buffer = io.BytesIO()
    Image.fromarray(noisy(section, padding, 4, 1.5)).save(buffer, "JPEG", quality=80)
    spoiled = np.asarray(Image.open(buffer))
    found = flat_in(spoiled)
    assert [flat.sure for flat in found] == [True]
    outside = grow_outside(spoiled, [flat.area for flat in found])
    assert (outside & padding).sum() > 0.9 * padding.sum()
    # Compression mixes what meets at the border, of which 2 px are taken.
    assert not (outside & ~np.asarray(ndimage.binary_dilation(padding, np.ones((3, 3)), iterations=2))).any()
