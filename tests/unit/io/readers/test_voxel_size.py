"""Voxel sizes: what is given and stated is compared, what cannot be is refused, and what is real never is."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segem.errors import InputError
from segem.io.readers.reader import StatedVoxelSize
from segem.io.readers.voxel_size import GIVEN, find_doubt, settle_voxel_size

REAL = {
    "ssTEM": (50, 4, 4),
    "ssTEM, thin": (40, 4, 4),
    "ssTEM, VNC": (50, 4.6, 4.6),
    "ssTEM, drosophila brain": (35, 4, 4),
    "MICrONS, half resolution": (40, 8, 8),
    "ATUM-SEM": (30, 6, 6),
    "ATUM-SEM at 3 nm": (30, 3, 3),
    "ATUM multibeam": (33, 4, 4),
    "thick sections": (120, 8, 8),
    "SBEM": (25, 10, 10),
    "SBEM, coarse": (30, 16, 16),
    "SBEM, E2006": (24.3, 11.24, 11.24),
    "SBEM, retina": (25, 16.5, 16.5),
    "SBEM, isotropic": (25, 25, 25),
    "FIB-SEM": (8, 8, 8),
    "FIB-SEM, fine": (4, 4, 4),
    "FIB-SEM, medulla": (10, 10, 10),
    "FIB-SEM, coarse": (16, 16, 16),
    "FIB-SEM, thin slices": (4, 8, 8),
    "FIB-SEM, tilted": (10, 5.08, 6.6),
    "FIB-SEM, 5 and 15": (15, 5, 5),
    "tomogram": (1.3, 1.3, 1.3),
    "tomogram, fine": (0.5, 0.5, 0.5),
    "tomogram, float32 of Angstrom": (0.49999999, 0.49999999, 0.49999999),
    "tomogram, binned": (2.1, 2.1, 2.1),
    "X-ray": (100, 100, 100),
    "hemibrain at a coarse level": (32, 32, 32),
    "array tomography": (70, 2.5, 2.5),
    "one overview": (50, 64, 64),
}
WRONG = {
    (4, 4, 50): "X,Y,Z, which would be 50,4,4",
    (4.6, 4.6, 50): "X,Y,Z, which would be 50,4.6,4.6",
    (0.05, 0.004, 0.004): "micrometres, which would be 50,4,4",
    (0.05, 0.002, 0.002): "micrometres, which would be 50,2,2",
    (0.008, 0.008, 0.008): "micrometres, which would be 8,8,8",
    (0.004, 0.004, 0.05): "micrometres in the order of X,Y,Z, which would be 50,4,4",
    (5e-8, 4e-9, 4e-9): "metres, which would be 50,4,4",
    (4, 50, 50): "less than half as thick",
    (50, 4, 400): "y and x differ",
    (4000, 4000, 4000): "more than 1000 nm",
    (50, 0.1, 0.1): "less than 0.5 nm",
}


def stated(z: float | None, y: float | None, x: float | None) -> StatedVoxelSize:
    return StatedVoxelSize(z, y, x, "the tags")


def refused(given: tuple[float, float, float] | None, said: StatedVoxelSize | None = None) -> str:
    with pytest.raises(InputError) as caught:
        settle_voxel_size(given, said, trusted=False, where="a.mrc")
    assert str(caught.value).startswith("a.mrc: ")
    assert "Fix: " in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("size", REAL.values(), ids=REAL)
def test_a_real_size_is_taken_whether_given_or_stated(size: tuple[float, float, float]) -> None:
    for found in (
        settle_voxel_size(size, None, trusted=False, where="a"),
        settle_voxel_size(None, stated(*size), trusted=False, where="a"),
    ):
        assert found.size.zyx == size


@pytest.mark.parametrize(("size", "likely"), WRONG.items(), ids=map(str, WRONG))
def test_an_implausible_size_is_refused_with_what_it_looks_like(size: tuple[float, float, float], likely: str) -> None:
    for line in (refused(size), refused(None, stated(*size))):
        assert "an implausible voxel size" in line
        assert likely in line
        assert "--trust-voxel" in line
    assert "(given)" in refused(size)
    assert "(the tags)" in refused(None, stated(*size))
    assert settle_voxel_size(size, None, trusted=True, where="a").size.zyx == size


def test_what_the_source_states_is_taken_and_named() -> None:
    found = settle_voxel_size(None, stated(50, 4, 4), trusted=False, where="a")
    assert found.size.zyx == (50, 4, 4)
    assert found.facts() == {
        "origin": "the tags",
        "trusted": False,
        "stated": {"zyx_nm": [50, 4, 4], "where": "the tags"},
    }


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("factor", [0.98, 1.02, 10, 1000, 25.4])
def test_a_size_that_contradicts_the_source_is_refused_and_may_be_overruled(axis: int, factor: float) -> None:
    said = stated(50, 4, 4)
    size = [50.0, 4.0, 4.0]
    size[axis] *= factor
    given = (size[0], size[1], size[2])
    line = refused(given, said)
    assert f"not the one that the source states, along {'zyx'[axis]}; expected 50,4,4 nm (z,y,x) by the tags" in line
    assert "leave --voxel-nm out" in line
    found = settle_voxel_size(given, said, trusted=True, where="a")
    assert (found.size.zyx, found.origin, found.trusted, found.stated) == (given, GIVEN, True, said)


def test_rounding_is_no_contradiction_and_what_is_not_stated_none() -> None:
    assert settle_voxel_size((50, 4, 4), stated(50.3, 4.03, 3.98), trusted=False, where="a").size.zyx == (50, 4, 4)
    assert settle_voxel_size((50, 4, 4), stated(None, 4, 4), trusted=False, where="a").origin == GIVEN
    assert settle_voxel_size((50, 4, 4), stated(None, None, None), trusted=False, where="a").origin == GIVEN


def test_what_is_missing_is_asked_for() -> None:
    assert "give --voxel-nm Z,Y,X" in refused(None)
    line = refused(None, stated(None, 4.6, 4.6))
    assert "only a part of its voxel size" in line
    assert "found ?,4.6,4.6 in the tags" in line
    assert "give --voxel-nm Z,4.6,4.6 with what is missing" in line
    line = refused((50, 8, 8), stated(None, 4.6, 4.6))
    assert "along y and x; expected ?,4.6,4.6" in line
    assert "correct --voxel-nm" in line


@pytest.mark.parametrize("nothing", [0.0, -4.0, math.nan, math.inf])
def test_sizes_that_no_voxel_has_state_nothing(nothing: float) -> None:
    assert "found ?,4,4" in refused(None, stated(nothing, 4, 4))
    assert settle_voxel_size((50, 4, 4), stated(nothing, 4, 4), trusted=False, where="a").size.zyx == (50, 4, 4)


@given(st.tuples(st.floats(1, 40), st.floats(0.7, 1.4), st.floats(0.6, 15)))
def test_sections_at_least_as_thick_as_pixels_are_never_doubted_and_micrometres_always(
    drawn: tuple[float, float, float],
) -> None:
    thicker, longer, x = drawn
    y = max(x * longer, 0.5)
    size = (min(max(x, y) * thicker, 1000), y, x)
    assert find_doubt(size) == ""
    if max(size) / 1000 < 0.5:
        assert find_doubt((size[0] / 1000, y / 1000, x / 1000)) != ""
