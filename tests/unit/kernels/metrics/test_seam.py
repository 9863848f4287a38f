from __future__ import annotations

import math
from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from segem.kernels.metrics.seam import Seams, SeamSums
from segem.records.seams import SeamAudit

Map = NDArray[np.uint8]
TILES = Seams(rows=(128,), columns=(128,))


def audit(probability: Map, seams: Seams) -> SeamAudit:
    sums = reduce(SeamSums.__add__, (SeamSums.count(section, seams) for section in probability))
    return sums.audit(seams, (probability.shape[0], probability.shape[1], probability.shape[2]))


def draw_map(seed: int, sections: int = 8, size: int = 256) -> Map:
    """Return what a net's output looks like: membrane and cells that it is sure of, and soft borders between them."""
    random = np.random.default_rng(seed)
    smooth = gaussian_filter(random.standard_normal((sections, size, size)), (0.5, 8, 8), mode="reflect")
    doubt = gaussian_filter(random.standard_normal(smooth.shape), (0, 2, 2))
    evidence = 8 * (0.5 - np.abs(smooth) / smooth.std()) + 0.4 * doubt / doubt.std()
    found: Map = np.rint(255 / (1 + np.exp(-evidence))).astype(np.uint8)
    return found


def change_tiles(probability: Map, change: float) -> Map:
    """Multiply every second of four tiles, like the squares of a chessboard."""
    changed = probability.astype(float)
    changed[:, :128, :128] *= change
    changed[:, 128:, 128:] *= change
    found: Map = np.clip(np.rint(changed), 0, 255).astype(np.uint8)
    return found


def test_contrasts_by_hand() -> None:
    section = np.zeros((64, 32), np.uint8)
    section[32:] = 10
    sums = SeamSums.count(section, Seams(rows=(32,)))
    # Two pieces of 16 pixels jump by 10 at row 32; rows 29 and beyond, and 35 and beyond, do not jump at all.
    assert sums.edges.shape == (1, 15, 2)
    assert sums.edges[0, 0] == pytest.approx((2 * math.log(1 + 10), 2))
    # Flat tissue tells nothing of planes beside the border.
    assert not sums.edges[0, 1:].any()


def test_a_slope_that_goes_on_is_no_jump() -> None:
    rows = np.arange(64, dtype=np.uint8) * 3
    sums = SeamSums.count(np.repeat(rows[:, np.newaxis], 32, axis=1), Seams(rows=(32,)))
    assert not sums.edges.any()


def test_a_jump_is_found_along_either_axis() -> None:
    section = draw_map(0, 1)[0]
    along = SeamSums.count(section, Seams(rows=(100,)))
    across = SeamSums.count(section.T, Seams(columns=(100,)))
    assert np.array_equal(along.edges, across.edges)


@given(st.integers(0, 2**16), st.integers(1, 3))
def test_sections_add_up(seed: int, sections: int) -> None:
    probability = np.random.default_rng(seed).integers(0, 256, (sections, 64, 64)).astype(np.uint8)
    seams = Seams(rows=(32,), columns=(32,), sections=(1,))
    each = [SeamSums.count(section, seams) for section in probability]
    total = reduce(SeamSums.__add__, each, SeamSums())
    assert np.array_equal(total.edges, np.sum([one.edges for one in each], axis=0))
    assert len(total.sections) == len(total.means) == sections


def test_borders_at_the_edge_of_the_volume_are_none() -> None:
    seams = Seams(rows=(0, 256, 300), columns=(-1,), sections=(0, 8))
    assert seams.within((8, 256, 256)) == Seams()
    found = audit(draw_map(1), seams)
    assert (found.planes, found.ratio, found.shows) == (0, None, False)
    assert found.describe() == "no seam can show: the volume has no borders inside"


def test_borders_between_sections_are_told_from_those_within() -> None:
    found = audit(draw_map(4), Seams(rows=(128,), columns=(64, 128), sections=(2,)))
    assert (found.planes, found.planes_z, found.within_sections) == (4, 1, 3)


def test_where_there_is_nothing_to_compare_with_nothing_is_measured() -> None:
    flat = np.zeros((1, 64, 64), np.uint8)
    found = audit(flat, Seams(rows=(32,)))
    assert (found.planes, found.ratio, found.shows) == (1, None, False)
    assert found.describe().startswith("seams were not measured")


@pytest.mark.parametrize("seed", range(12))
def test_a_whole_map_shows_no_seam(seed: int) -> None:
    found = audit(draw_map(10 * seed), Seams((128,), (64, 128, 192), (3,)))
    assert not found.shows, found.where
    assert found.ratio is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.ratio < found.high
    assert 0.85 < found.ratio < 1.15
    assert found.describe().startswith("no seam shows")


def test_intervals_of_whole_maps_hold_a_ratio_of_one() -> None:
    found = [audit(draw_map(seed, 2), TILES) for seed in range(100, 140)]
    held = [one.low is not None and one.high is not None and one.low <= 1 <= one.high for one in found]
    # 38 of 40 are expected; fewer than 33 would come once in 500.
    assert sum(held) >= 33


@pytest.mark.parametrize("change", [0.9, 0.97, 1.03])
def test_a_gain_of_a_tile_shows(change: float) -> None:
    # Membrane that was stored at 255 hides what is brighter, so tiles that lose 3 % show it as well.
    found = audit(change_tiles(draw_map(3), change), TILES)
    assert found.shows
    assert found.low is not None
    assert found.low > 1
    assert found.describe().startswith("seams show at the borders of tiles or blocks: the probability jumps ")


@pytest.mark.parametrize("axis", [1, 2])
def test_a_tile_shifted_by_one_pixel_shows(axis: int) -> None:
    probability = draw_map(4)
    probability[:, :128, :128] = np.roll(probability[:, :128, :128], 1, axis)
    found = audit(probability, TILES)
    assert found.shows
    assert audit(probability, Seams()).shows is False, "the same map without the knowledge where tiles are"


def test_an_offset_of_one_tile_is_found_where_it_is() -> None:
    probability = draw_map(5, sections=8, size=512)
    probability[:, 128:256, 256:384] += 12
    lattice = tuple(range(128, 512, 128))
    found = audit(probability, Seams(lattice, lattice))
    assert found.shows
    assert found.where is not None


def test_constant_blending_shows() -> None:
    """Two tiles that overlap are averaged: what they do not agree on begins and ends with a step."""
    left, right = draw_map(6), draw_map(6)
    right = np.clip(right.astype(int) + draw_map(7) // 8, 0, 255).astype(np.uint8)
    blended = left.copy()
    blended[:, :, 96:160] = (left[:, :, 96:160].astype(int) + right[:, :, 96:160]) // 2
    blended[:, :, 160:] = right[:, :, 160:]
    assert audit(blended, Seams(columns=(96, 160))).shows


def test_a_fault_in_one_section_shows_and_is_named() -> None:
    probability = draw_map(8, sections=20)
    probability[7, 128:] = np.clip(probability[7, 128:].astype(int) + 40, 0, 255)
    found = audit(probability, TILES)
    assert found.shows
    assert found.where is not None


def test_a_change_between_blocks_along_z_shows() -> None:
    dimmer = np.random.default_rng(9).uniform(0.97, 1, (24, 1, 1))
    probability = (draw_map(9, sections=1) * dimmer).astype(np.uint8)
    whole = audit(probability, Seams(sections=(12,)))
    assert whole.shows is False
    assert whole.ratio_z is not None
    changed = probability.copy()
    changed[12:] = np.roll(changed[12:], 5, axis=1)
    found = audit(changed, Seams(sections=(12,)))
    assert found.shows
    assert found.where is not None
    assert found.where.startswith("between sections, where blocks end (before section 12)")


def test_faint_differences_are_not_called_seams() -> None:
    """A change by less than one level cannot be stored, so it cannot be seen."""
    probability = draw_map(11)
    assert np.array_equal(change_tiles(probability, 1.0), probability)
    assert not audit(change_tiles(probability, 1.001), TILES).shows
