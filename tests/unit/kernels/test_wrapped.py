"""Intensities that wrapped around are told from all others."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from segem.kernels.wrapped import doubt_sign


def counted(values: NDArray[np.integer]) -> tuple[NDArray[np.int64], int]:
    least = int(values.min())
    return np.bincount(values.astype(np.int64).ravel() - least), least


def grey(mean: float, width: float, dtype: str) -> NDArray[np.integer]:
    """Return intensities around a mean, as those of tissue, cut off at the ends of the type."""
    ends = np.iinfo(dtype)
    return np.random.default_rng(0).normal(mean, width, 100_000).clip(ends.min, ends.max).astype(dtype)


@pytest.mark.parametrize(
    ("mean", "width", "written", "read"),
    [
        (32_768, 2000, "u2", "i2"),
        (32_768, 6000, "u2", "i2"),
        (40_000, 6000, "u2", "i2"),
        (0, 500, "i2", "u2"),
        (600, 500, "i2", "u2"),
        (128, 20, "u1", "i1"),
        (150, 30, "u1", "i1"),
    ],
)
def test_what_is_cut_in_the_middle_has_wrapped_around(mean: float, width: float, written: str, read: str) -> None:
    values = grey(mean, width, written)
    assert doubt_sign(*counted(values), written) is None
    told = doubt_sign(*counted(values.view(read)), np.dtype(read).newbyteorder(">"))
    assert told is not None
    assert f"of type {np.dtype(read)} lie at both ends of its range, as if written as {np.dtype(written)}" in told


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (grey(128, 20, "u1"), "u1"),
        (grey(1128, 30, "u2"), "u2"),
        (grey(-30_000, 800, "i2"), "i2"),
        # All levels, as after equalising; and both ends saturated.
        (np.arange(65_536).astype("u2"), "u2"),
        (grey(32_768, 20_000, "u2"), "u2"),
        (grey(0, 60_000, "i2"), "i2"),
        # One voxel in a thousand is hot, or dead.
        (np.where(np.arange(100_000) % 1000, grey(400, 200, "u2"), 65_000), "u2"),
        # What no type is wide enough to confuse, a mask, and one intensity.
        (grey(0, 20, "i2").astype("i4"), "i4"),
        (np.array([0, 65_535] * 50), "u2"),
        (np.full(9, 7), "i2"),
    ],
)
def test_other_intensities_are_not_doubted(values: NDArray[np.integer], dtype: str) -> None:
    assert doubt_sign(*counted(values), dtype) is None
