"""Coarser blocks, against arithmetic by hand and by brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from segem.kernels.pyramid import Reduction, shrink

BLOCK = np.array([[[0, 1, 9], [2, 4, 9], [8, 8, 1]]], np.uint8)


@pytest.mark.parametrize(
    ("how", "expected"),
    [("mean", [[2, 9], [8, 1]]), ("max", [[4, 9], [8, 1]]), ("nearest", [[0, 9], [8, 1]])],
)
def test_by_hand(how: Reduction, expected: list[list[int]]) -> None:
    found = shrink(BLOCK, (1, 2, 2), how)
    assert found.tolist() == [expected]
    assert found.dtype == np.uint8


@given(
    st.sampled_from([np.uint8, np.uint16]).flatmap(
        lambda t: hnp.arrays(t, hnp.array_shapes(min_dims=3, max_dims=3, max_side=7))
    ),
    st.tuples(st.integers(1, 2), st.integers(1, 2), st.integers(1, 2)),
)
def test_means_equal_brute_force(block: NDArray[np.uint8 | np.uint16], factors: tuple[int, int, int]) -> None:
    found = shrink(block, factors, "mean")
    assert found.shape == tuple(-(-n // f) for n, f in zip(block.shape, factors, strict=True))
    assert found.dtype == block.dtype
    for index in np.ndindex(found.shape):
        rows = [[min(i * f + k, n - 1) for k in range(f)] for i, f, n in zip(index, factors, block.shape, strict=True)]
        cell = block[np.ix_(*rows)].astype(np.float64)
        assert found[index] == np.floor(cell.mean() + 0.5)


def test_a_thin_line_survives_in_a_mask() -> None:
    mask = np.zeros((1, 9, 9), np.uint8)
    mask[0, 5, :] = 1
    assert shrink(shrink(mask, (1, 2, 2), "max"), (1, 2, 2), "max")[0, 1].tolist() == [1, 1, 1]


def test_identities_are_never_mixed() -> None:
    cells = np.random.default_rng(0).integers(1, 2**32, (2, 5, 5), dtype=np.uint32)
    assert set(shrink(cells, (2, 2, 2), "nearest").ravel().tolist()) <= set(cells.ravel().tolist())


def test_a_mean_of_many_does_not_overflow() -> None:
    assert shrink(np.full((1, 64, 64), 255, np.uint8), (1, 64, 64), "mean").tolist() == [[[255]]]
