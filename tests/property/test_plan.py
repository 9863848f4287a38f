"""Plans: every voxel written once, tiles on one lattice, whatever the shapes."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segem.config import Window
from segem.errors import ConfigError
from segem.geometry import Box, Halo
from segem.kernels.blend import axis_weights
from segem.plan import Plan, Tiling, blend_tiling, crop_tiling

strides = st.sampled_from([1, 2, 4, 8])
small = st.integers(1, 3)


@st.composite
def crop_plans(draw: st.DrawFn) -> Plan:
    shape = (draw(st.integers(1, 4)), draw(st.integers(1, 70)), draw(st.integers(1, 70)))
    write_block = (draw(st.integers(1, 3)), draw(st.integers(1, 5)) * 8, draw(st.integers(1, 5)) * 8)
    halo = Halo(draw(st.integers(0, 2)), draw(st.integers(0, 20)), draw(st.integers(0, 20)))
    tile_px = draw(st.none() | st.integers(1, 40))
    return Plan(shape, write_block, crop_tiling(shape, write_block, halo, draw(strides), tile_px))


@st.composite
def blended_plans(draw: st.DrawFn) -> Plan:
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 70)), draw(st.integers(1, 70)))
    write_block = (draw(small), draw(st.integers(1, 5)) * 8, draw(st.integers(1, 5)) * 8)
    overlap = draw(st.floats(0, 0.9))
    window = draw(st.sampled_from(get_args(Window)))
    tiling = blend_tiling(shape, draw(strides), draw(st.integers(1, 40)), overlap, draw(st.integers(0, 1)), window)
    return Plan(shape, write_block, tiling)


@given(st.one_of(crop_plans(), blended_plans()))
def test_write_boxes_cover_every_voxel_exactly_once(plan: Plan) -> None:
    written = np.zeros(plan.shape, int)
    count = 0
    for block in plan.blocks():
        written[block.write.slices] += 1
        count += 1
    assert (written == 1).all()
    assert count == plan.count


@settings(max_examples=1000)
@given(st.one_of(crop_plans(), blended_plans()))
def test_blocks_by_rows_are_the_same_blocks(plan: Plan) -> None:
    assert sorted(plan.blocks_by_rows(), key=lambda block: block.index) == list(plan.blocks())


@given(crop_plans())
def test_cropped_tiles_cover_every_voxel_exactly_once(plan: Plan) -> None:
    written = np.zeros(plan.shape, int)
    for block in plan.blocks():
        for tile in block.tiles:
            assert block.write.contains(tile.write)
            written[tile.write.slices] += 1
    assert (written == 1).all()


@given(st.one_of(crop_plans(), blended_plans()))
def test_tiles_lie_on_the_lattice_and_inside_their_block(plan: Plan) -> None:
    volume = Box.of_shape(plan.shape)
    for block in plan.blocks():
        for tile in block.tiles:
            assert block.read.contains(tile.read)
            assert volume.contains(tile.read)
            assert tile.read.contains(tile.write)
            assert tile.write.size > 0
            assert all(start % plan.tiling.stride_px == 0 for start in tile.read.start[1:])


@given(crop_plans())
def test_cores_have_their_whole_halo_or_the_edge(plan: Plan) -> None:
    halo = plan.tiling.halo
    for block in plan.blocks():
        for tile in block.tiles:
            for axis, reach in enumerate(halo.zyx):
                assert tile.read.start[axis] <= max(0, tile.write.start[axis] - reach)
                assert tile.read.stop[axis] >= min(plan.shape[axis], tile.write.stop[axis] + reach)


@given(crop_plans(), st.integers(1, 5), st.integers(1, 5))
def test_what_a_tile_reads_does_not_depend_on_the_blocks(plan: Plan, y: int, x: int) -> None:
    other = Plan(plan.shape, (1, 8 * y, 8 * x), plan.tiling)
    seen_by = {}
    for p in (plan, other):
        seen_by[id(p)] = {
            (z, r, c): tile.read
            for block in p.blocks()
            for tile in block.tiles
            for z in range(tile.write.start[0], tile.write.stop[0])
            for r in range(tile.write.start[1], tile.write.stop[1])
            for c in range(tile.write.start[2], tile.write.stop[2])
        }
    assert seen_by[id(plan)] == seen_by[id(other)]


@settings(max_examples=1000)
@given(blended_plans())
def test_blending_weights_are_positive_and_sum_to_one(plan: Plan) -> None:
    for axis in (1, 2):
        windows = plan.windows(axis)
        total = np.zeros(plan.shape[axis])
        assert plan.tiling.window is not None
        weights = axis_weights(plan.shape[axis], plan.tiling.core_px[axis - 1], windows, plan.tiling.window)
        for (start, stop), weight in zip(windows, weights, strict=True):
            assert (weight > 0).all()
            total[start:stop] += weight
        np.testing.assert_allclose(total, 1, atol=1e-5)


def test_a_section_that_fits_is_one_tile_without_overhead() -> None:
    tiling = crop_tiling((10, 1024, 1024), (4, 1024, 1024), Halo(0, 96, 96), 16)
    plan = Plan((10, 1024, 1024), (4, 1024, 1024), tiling)
    assert plan.overhead() == 1
    assert all(tile.read == tile.write for block in plan.blocks() for tile in block.tiles)


def test_overhead_of_two_by_two_tiles_by_hand() -> None:
    # 2048 in two cores of 1024, each seen with 96 px on its inner side only: (1120 / 1024) ** 2.
    tiling = crop_tiling((1, 2048, 2048), (1, 2048, 2048), Halo(0, 96, 96), 16)
    assert Plan((1, 2048, 2048), (1, 2048, 2048), tiling).overhead() == pytest.approx((1120 / 1024) ** 2)


def test_large_sections_get_cores_that_divide_the_shard() -> None:
    tiling = crop_tiling((1, 20000, 20000), (1, 2048, 2048), Halo(0, 96, 96), 16)
    assert tiling.core_px == (1024, 1024)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Tiling("crop", (15, 16), Halo(), 8, (15, 16)),
        lambda: Tiling("crop", (16, 16), Halo(0, 4, 4), 8, (16, 16)),
        lambda: Tiling("gaussian", (16, 16), Halo(), 8, (24, 24)),
        lambda: Tiling("crop", (16, 16), Halo(), 8, (8, 8)),
        lambda: Plan((0, 4, 4), (1, 8, 8), crop_tiling((1, 4, 4), (1, 8, 8), Halo(), 1)),
    ],
)
def test_lattices_that_would_be_wrong_are_refused(make: object) -> None:
    with pytest.raises(ConfigError):
        make()  # type: ignore[operator]
