"""Sections along another axis are told by how much they differ, and stacks as they are raise no doubt."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from scipy import ndimage

from segem.kernels.axes import AxisTally, say_swapped


def ask(stack: NDArray[np.uint8]) -> str | None:
    tally = AxisTally()
    for section in stack:
        tally.add(section)
    found = tally.find_doubt()
    return None if found is None else found[0]


def sections(thickness: float, noise: float = 4.0) -> NDArray[np.uint8]:
    """Return cells cut into sections so many times as thick as a pixel is wide."""
    rng = np.random.default_rng(0)
    cells = ndimage.gaussian_filter(rng.normal(size=(64, 96, 96)), (6 / thickness, 6, 6))
    grey = 120 + 60 * cells / cells.std() + rng.normal(0, noise, cells.shape)
    return np.clip(grey, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
def test_thick_sections_are_found_along_every_axis(axes: tuple[int, int, int]) -> None:
    found = ask(sections(8).transpose(axes))
    assert found == (None, "y", "x")[axes.index(0)]


def test_real_sections_are_found_along_every_axis(em_data: Path) -> None:
    stack = tifffile.imread(em_data / "isbi2012" / "train-volume.tif")[:20, :256, :256]
    for axes in itertools.permutations(range(3)):
        assert ask(stack.transpose(axes)) == (None, "y", "x")[axes.index(0)]


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
def test_voxels_as_deep_as_wide_prove_nothing(axes: tuple[int, int, int]) -> None:
    assert ask(sections(1).transpose(axes)) is None


def test_noise_of_lines_proves_nothing() -> None:
    stack = sections(1).astype(float)
    stack += np.random.default_rng(1).normal(0, 30, (*stack.shape[:2], 1))
    assert ask(np.clip(stack, 0, 255).astype(np.uint8)) is None


def test_what_is_filled_or_empty_proves_nothing() -> None:
    stack = sections(8)
    assert ask(np.repeat(stack, 2, axis=0)) is None
    assert ask(np.zeros((9, 64, 64), np.uint8)) is None
    assert ask(stack[:2]) is None


def test_outside_counts_for_nothing() -> None:
    stack = sections(8).transpose(2, 1, 0)
    tally = AxisTally()
    for section in stack:
        outside = np.zeros(section.shape, bool)
        outside[:40] = True
        tally.add(np.where(outside, np.uint8(0), section), outside)
    found = tally.find_doubt()
    assert found is not None
    assert found[0] == "x"


def test_the_fix_exchanges_the_axes() -> None:
    (warning,) = say_swapped(("x", 7.4), "zxy", "the order of MATLAB")
    assert "along x differ 7 times as much" in warning
    assert "give --axes xzy" in warning
    assert list(say_swapped(None, "zyx", "convention")) == []
