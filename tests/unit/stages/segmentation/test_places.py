"""Places that are computed anew lie on the planes where tiles and blocks meet, and are the same for the same run."""

from __future__ import annotations

import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from segem.geometry import Box, Halo
from segem.io.tissue import Tissue
from segem.kernels.normalize import IntensityStatistics
from segem.kernels.threshold import quantize_probability
from segem.plan import Plan, blend_tiling, crop_tiling
from segem.stages.segmentation.places import PLACE_PX, choose_places, has_borders
from segem.stages.segmentation.plain import PlainModel

STATISTICS = IntensityStatistics(mean=0.0, std=1.0, minimum=0, maximum=255, percentiles={})


def plan_crop(shape: tuple[int, int, int], block: tuple[int, int, int], tile_px: int) -> Plan:
    return Plan(shape, block, crop_tiling(shape, block, Halo(0, 16, 16), 8, tile_px))


@given(
    st.tuples(st.integers(1, 30), st.integers(1, 700), st.integers(1, 700)),
    st.integers(1, 8),
    st.sampled_from([64, 128]),
    st.integers(1, 12),
    st.text(max_size=5),
)
def test_places_lie_in_the_volume_on_the_border_they_name(
    shape: tuple[int, int, int], depth: int, tile_px: int, count: int, seed: str
) -> None:
    plan = plan_crop(shape, (depth, 256, 256), tile_px)
    places = choose_places(plan, count, seed)
    assert places == choose_places(plan, count, seed)
    assert 1 <= len(places) <= count
    for place in places:
        box = place.box
        assert Box.of_shape(shape).contains(box)
        assert box.shape[0] == 1
        assert min(box.shape) > 0
        assert max(box.shape) <= PLACE_PX
        for axis, name in ((1, "row"), (2, "column")):
            for at in map(int, re.findall(rf"{name} (\d+)", place.plane)):
                assert at % tile_px == 0
                assert box.start[axis] < at < box.stop[axis]
                assert ("blocks" in place.plane) or at % 256
        for end in map(int, re.findall(r"section (\d+)", place.plane)):
            assert end % depth == 0
            assert box.start[0] in (end - 1, end)


def test_two_thirds_of_the_places_are_where_borders_cross_and_the_others_on_borders_of_blocks() -> None:
    plan = plan_crop((8, 1024, 1024), (1, 512, 512), 128)
    places = choose_places(plan, 15, "r")
    planes = [place.plane for place in places]
    assert sum(" and " in plane for plane in planes) == 10
    assert {plane for plane in planes if " and " not in plane} == {
        "where blocks meet at row 512",
        "where blocks meet at column 512",
    }
    assert choose_places(plan, 15, "another run") != places


@given(st.sampled_from([(512, 512, 6), (500, 640, 9), (128, 700, 9), (1100, 900, 38)]), st.text(max_size=5))
def test_no_tile_of_a_small_section_is_left_out(size: tuple[int, int, int], seed: str) -> None:
    height, width, count = size
    plan = plan_crop((3, height, width), (1, 2048, 2048), 128)
    touched = {
        (row, column)
        for place in choose_places(plan, count, seed)
        for row, (y0, y1) in enumerate(plan.windows(1))
        for column, (x0, x1) in enumerate(plan.windows(2))
        if place.box.intersect(Box((0, y0, x0), (3, y1, x1))).size
    }
    assert len(touched) == plan.tiles_per_section


def test_along_z_places_lie_on_either_side_of_the_ends_of_blocks() -> None:
    planes = {(p.plane, p.box.start[0]) for p in choose_places(plan_crop((16, 64, 64), (8, 64, 64), 64), 12, "r")}
    ends = {z for plane, z in planes if plane == "inside a tile, blocks end before section 8"}
    assert ends == {7, 8}


def test_one_tile_has_no_border() -> None:
    assert not has_borders(plan_crop((4, 60, 60), (4, 64, 64), 64))
    assert has_borders(plan_crop((5, 60, 60), (4, 64, 64), 64))
    assert has_borders(plan_crop((1, 65, 60), (1, 128, 128), 64))


def test_a_plain_model_sees_sections_beyond_the_end_as_the_last_one() -> None:
    voxels = np.arange(3, dtype=np.uint8)[:, None, None].repeat(4, 1).repeat(4, 2) * 60
    seen: list[list[float]] = []

    def evaluate(channels: np.ndarray) -> np.ndarray:
        seen.append(channels[:, 0, 0].tolist())
        return np.asarray(channels[1] / 255, np.float32)

    model = PlainModel(evaluate, lambda box: Tissue(voxels[box.slices], None), STATISTICS, context_sections=3)
    found = [model.compute_whole(Box((z, 1, 1), (z + 1, 2, 3)), (3, 4, 4), 1) for z in range(3)]
    assert seen == [[0, 0, 60], [0, 60, 120], [60, 120, 120]]
    assert [section.tolist() for section in found] == [[[0, 0]], [[60, 60]], [[120, 120]]]


def test_blended_tiles_of_a_net_that_sees_one_pixel_are_its_output() -> None:
    voxels = np.random.default_rng(0).integers(0, 256, (1, 90, 80)).astype(np.uint8)
    plan = Plan((1, 90, 80), (1, 90, 80), blend_tiling((1, 90, 80), 8, 32, 0.5))
    model = PlainModel(lambda x: x[0] / np.float32(255), lambda box: Tissue(voxels[box.slices], None), STATISTICS)
    for place in choose_places(plan, 4, "r", beyond=True):
        found = model.compute_tiled(place.box, plan)
        expected = quantize_probability(voxels[place.box.slices][0] / np.float32(255))
        assert np.abs(found.astype(int) - expected).max() <= 1


@given(st.integers(0, 63), st.integers(1, 30), st.integers(0, 2**16))
def test_a_place_off_the_lattice_of_the_poolings_is_seen_as_tiles_see_it(start: int, size: int, seed: int) -> None:
    voxels = np.random.default_rng(seed).integers(0, 256, (1, 96, 80)).astype(np.uint8)

    def look_at_the_cells_around(channels: np.ndarray) -> np.ndarray:
        """Return the mean of a cell of 16 pixels and those beside it, which is up to 31 pixels from a pixel of it."""
        height, width = (n // 16 for n in channels.shape[1:])
        cells = np.pad(channels[0].reshape(height, 16, width, 16).mean(axis=(1, 3)), 1)
        around = sum(cells[y : y + height, x : x + width] for y in range(3) for x in range(3)) / 9 / 255
        return np.asarray(around, np.float32).repeat(16, 0).repeat(16, 1)

    model = PlainModel(look_at_the_cells_around, lambda box: Tissue(voxels[box.slices], None), STATISTICS, 1, 16)
    place = Box((0, start, start), (1, start + size, min(80, start + size)))
    # From the edge of a cell it is 16.
    found = model.compute_whole(place, (1, 96, 80), 16)
    whole = model.compute_whole(Box.of_shape((1, 96, 80)), (1, 96, 80), 0)
    assert np.array_equal(found, whole[place.slices[1:]])
