"""Blending weights, checked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from segem.config import Window
from segem.kernels.blend import axis_weights

HALF_OVERLAPPING = [(0, 4), (2, 6), (4, 8)]


def test_hann_windows_by_hand() -> None:
    # sin^2 of 22.5 and 67.5 degrees; their sum is 1, so that windows that overlap by half need no normalising.
    low, high = (1 - 0.5**0.5) / 2, (1 + 0.5**0.5) / 2
    first, second, _ = axis_weights(8, 4, HALF_OVERLAPPING, "hann")
    np.testing.assert_allclose(first, [1, 1, high, low], atol=1e-7)
    np.testing.assert_allclose(second, [low, high, high, low], atol=1e-7)


def test_gaussian_windows_by_hand() -> None:
    # Distances of 1/8 and 3/8 of the window are one and three standard deviations.
    near, far = np.exp(-0.5), np.exp(-4.5)
    first, second, _ = axis_weights(8, 4, HALF_OVERLAPPING, "gaussian")
    np.testing.assert_allclose(first[2:], [near / (near + far), far / (near + far)], atol=1e-7)
    np.testing.assert_allclose(second, [far, near, near, far] / (near + far), atol=1e-7)


@pytest.mark.parametrize("form", ["gaussian", "hann"])
@pytest.mark.parametrize("core_px", [1, 2, 16, 4096])
def test_a_pixel_at_the_edge_of_a_window_is_never_lost(form: Window, core_px: int) -> None:
    # Windows that meet without overlap: each pixel, also the outermost, is seen by one of them only.
    for weight in axis_weights(2 * core_px, core_px, [(0, core_px), (core_px, 2 * core_px)], form):
        np.testing.assert_array_equal(weight, 1)
    # Overlapping by half, the outermost pixel of a window is all but left to its neighbour, and yet not lost.
    if core_px > 1:
        windows = [(0, core_px), (core_px // 2, core_px // 2 + core_px)]
        assert min(weight.min() for weight in axis_weights(core_px * 3 // 2, core_px, windows, form)) > 0
