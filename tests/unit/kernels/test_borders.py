"""Border weights by hand."""

from __future__ import annotations

import numpy as np
import pytest

from segem.kernels.borders import border_weights


def wall(width: int) -> np.ndarray:
    truth = np.zeros((9, 40), np.uint8)
    truth[:, 10 : 10 + width] = 1
    return truth


def test_a_wall_between_two_cells_by_the_formula() -> None:
    weights = border_weights(wall(3), 10, 5)
    # In the wall the distances to both cells add up to its width and one.
    assert weights[4, 10:13] == pytest.approx(1 + 10 * np.exp(-(4**2) / 50), rel=1e-6)
    assert (weights[:, :10] == 1).all()
    assert (weights[:, 13:] == 1).all()


def test_a_thin_wall_counts_more_than_a_thick_one() -> None:
    assert border_weights(wall(2), 10, 5)[4, 11] > border_weights(wall(6), 10, 5)[4, 11] > 1


@pytest.mark.parametrize("truth", [np.ones((4, 4), np.uint8), np.zeros((4, 4), np.uint8)])
def test_sections_of_one_class_count_all_alike(truth: np.ndarray) -> None:
    assert (border_weights(truth, 10, 5) == 1).all()


def test_no_strength_means_no_weights() -> None:
    assert (border_weights(wall(3), 0, 5) == 1).all()
