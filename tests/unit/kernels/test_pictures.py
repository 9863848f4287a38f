from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segem.kernels.pictures import (
    FOUND,
    INVENTED,
    MISSED,
    draw_errors,
    draw_membrane,
    draw_overlay,
    find_shrink_factor,
    stretch_contrast,
)


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 600))
def test_no_side_stays_too_long(y, x, longest):
    factor = find_shrink_factor((y, x), longest)
    assert max(-(-y // factor), -(-x // factor)) <= longest
    assert factor == 1 or max(-(-y // (factor - 1)), -(-x // (factor - 1))) > longest


def test_contrast_is_stretched_and_clipped():
    section = np.array([[0, 100, 150, 200, 255]], np.uint8)
    assert stretch_contrast(section, 100, 200).tolist() == [[0, 0, 128, 255, 255]]


def test_wide_intensities_fit_eight_bits():
    section = np.array([[1000, 3000], [1000, 3000]], np.uint16)
    assert stretch_contrast(section, 1000, 3000).tolist() == [[0, 255], [0, 255]]
    assert stretch_contrast(section, 1000, 3000, factor=2).tolist() == [[128]]


def test_a_constant_section_has_finite_grey():
    assert stretch_contrast(np.full((2, 2), 7, np.uint8), 7, 7).tolist() == [[0, 0], [0, 0]]


def test_membrane_is_dark_and_partly_covered_pixels_grey():
    mask = np.array([[1, 1, 0, 0], [1, 0, 0, 0]], np.uint8)
    assert draw_membrane(mask, factor=2).tolist() == [[64, 255]]


def test_each_kind_of_error_has_its_colour():
    raw = np.full((1, 4), 200, np.uint8)
    truth, predicted = np.array([[1, 0, 1, 0]]), np.array([[1, 1, 0, 0]])
    found, invented, missed, nothing = draw_errors(raw, truth, predicted)[0].astype(int)
    for pixel, colour in ((found, FOUND), (invented, INVENTED), (missed, MISSED)):
        assert np.abs(pixel - colour).max() < 40
    assert len(set(nothing)) == 1, "background stays grey"


def test_masks_shrink_to_the_size_of_the_raw_picture():
    raw = np.zeros((3, 4), np.uint8)
    mask = np.ones((5, 8), np.uint8)
    assert draw_errors(raw, mask, mask, factor=2).shape == (3, 4, 3)
    assert draw_overlay(raw, mask, factor=2).shape == (3, 4, 3)


def test_overlay_lets_the_tissue_shine_through():
    raw = np.array([[0, 255]], np.uint8)
    dark, bright = draw_overlay(raw, np.ones((1, 2)))[0].astype(int)
    assert (bright - dark > 30).all()
