"""Disagreement of models: worked by hand, and what it ignores."""

from __future__ import annotations

import numpy as np
import pytest

from segem.errors import InputError
from segem.kernels.disagreement import disagreement, find_hottest_tile


def test_bits_worked_by_hand() -> None:
    # Two members at 1/4 and 3/4: the mean is 1/2, of 1 bit; each has 2 - 3/4 log2 3 bits.
    found = disagreement(np.array([[0.25], [0.75]]))
    assert found[0] == pytest.approx(1 - (2 - 0.75 * np.log2(3)))
    # Of four sure members one dissents: the entropy of 1/4.
    assert disagreement(np.array([0.0, 0.0, 0.0, 1.0])[:, None])[0] == pytest.approx(2 - 0.75 * np.log2(3))


def test_members_that_are_equally_unsure_do_not_disagree() -> None:
    assert disagreement(np.full((3, 2, 2), 0.5)).max() == 0
    everything = np.random.default_rng(0).random((4, 50, 50)).astype(np.float32)
    assert 0 <= disagreement(everything).min() <= disagreement(everything).max() <= 1
    assert disagreement(np.stack([everything[0]] * 3)).max() < 1e-12


def test_one_model_alone_is_refused() -> None:
    with pytest.raises(InputError, match="disagreement needs several models"):
        disagreement(np.zeros((1, 2, 2)))


def test_the_hottest_tile_is_the_one_of_an_exhaustive_search() -> None:
    values = np.random.default_rng(0).random((17, 23))
    means = {(y, x): values[y : y + 5, x : x + 5].mean() for y in range(13) for x in range(19)}
    (y, x), most = max(means.items(), key=lambda item: item[1])
    rows, columns, mean = find_hottest_tile(values, 5)
    assert (rows, columns) == ((y, y + 5), (x, x + 5))
    assert mean == pytest.approx(most)


def test_a_section_smaller_than_the_tile_is_taken_whole() -> None:
    assert find_hottest_tile(np.ones((3, 8)), 4)[:2] == ((0, 3), (0, 4))
    assert find_hottest_tile(np.ones((3, 2)), 4) == ((0, 3), (0, 2), 1.0)
