"""Intensities of any type are stored exactly where they fit, and else within half a step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from segem.errors import InputError
from segem.geometry import Box
from segem.kernels.scaling import Scaling, ValueSurvey

WHOLE = [np.bool_, np.int8, np.int16, np.uint32, np.int32, np.uint64, np.int64]


def survey_of(values: NDArray[Any]) -> ValueSurvey:
    survey = ValueSurvey(values.shape)
    survey.add(Box.of_shape(values.shape), values)
    return survey


def restored(stored: NDArray[Any], scaling: Scaling) -> NDArray[np.float64]:
    return scaling.offset + scaling.scale * stored.astype(np.float64)


@pytest.mark.parametrize(
    ("values", "dtype", "offset"),
    [
        (np.array([False, True]), np.uint8, 0),
        (np.array([-128, 127], np.int8), np.uint8, -128),
        (np.array([0, 100], np.int8), np.uint8, 0),
        (np.array([-32768, 32767], np.int16), np.uint16, -32768),
        (np.array([0, 4095], np.int16), np.uint16, 0),
        (np.array([-3, 200], np.int16), np.uint8, -3),
        (np.array([70_000, 70_200], np.uint32), np.uint8, 70_000),
        (np.array([2**40, 2**40 + 65535], np.int64), np.uint16, 2**40),
        (np.array([2**64 - 1, 2**64 - 5], np.uint64), np.uint8, 2**64 - 5),
        (np.array([0.0, 255.0], np.float32), np.uint8, 0),
        (np.array([-7.0, 1000.0]), np.uint16, -7),
        (np.array([1.0, 2.0, np.nan]), np.uint8, 0),
        (np.array([0.0, 2.0, np.inf], np.float16), np.uint8, -1),
    ],
)
def test_whole_numbers_that_fit_are_exact(values: NDArray[Any], dtype: type, offset: int) -> None:
    values = values.reshape(1, 1, -1)
    scaling = survey_of(values).choose()
    stored = scaling.store(values)
    assert (stored.dtype, scaling.offset, scaling.scale, scaling.clipped) == (dtype, offset, 1, None)
    known = np.isfinite(values)
    assert [int(n) + offset for n in stored[known]] == [int(n) for n in values[known]]
    assert (stored[~known] == 0).all()
    assert (stored[known] > 0).all() or known.all()


@given(st.sampled_from(WHOLE).flatmap(lambda kind: hnp.arrays(kind, (2, 3, 4))))
def test_any_whole_numbers(values: NDArray[Any]) -> None:
    scaling = survey_of(values).choose()
    stored = scaling.store(values)
    least, most = int(values.min()), int(values.max())
    if most - least < 65536:
        assert [scaling.offset + int(n) for n in stored.ravel()] == [int(n) for n in values.ravel()]
    else:
        order = np.argsort(values, axis=None)
        assert (np.diff(stored.ravel()[order].astype(int)) >= 0).all()


@given(
    hnp.arrays(np.float32, (2, 5, 6), elements=st.floats(-1e6, 1e6, width=32)),
    hnp.arrays(np.bool_, (2, 5, 6)),
)
def test_fractions_come_back_within_half_a_step(values: NDArray[np.float32], holes: NDArray[np.bool_]) -> None:
    values = np.where(holes, np.float32(np.nan), values)
    survey = survey_of(values)
    if holes.all():
        with pytest.raises(InputError, match="not one voxel is a number"):
            survey.choose()
        return
    scaling = survey.choose((-1e6, 1e6))
    stored = scaling.store(values)
    assert np.array_equal(stored == scaling.nothing, holes) or not holes.any()
    error = np.abs(restored(stored, scaling) - values)[~holes]
    assert error.max() <= scaling.scale / 2 * (1 + 1e-6)


def test_a_window_is_where_values_are_clipped() -> None:
    values = np.linspace(-1, 2, 3001).reshape(1, 1, -1)
    scaling = survey_of(values).choose((0.0, 1.0))
    stored = scaling.store(values)
    assert scaling.clipped == (0.0, 1.0)
    assert (stored[values <= 0] == 0).all()
    assert (stored[values >= 1] == 65535).all()
    assert np.allclose(restored(stored, scaling), values.clip(0, 1), atol=1e-5)


@pytest.mark.parametrize("outlier", [1e30, -1e30])
@pytest.mark.parametrize("count", [1, 5000])
def test_outliers_do_not_cost_resolution(outlier: float, count: int) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(0.5, 0.1, (1, 100, 100)).astype(np.float32)
    values.flat[:count] = outlier
    scaling = survey_of(values).choose()
    stored = scaling.store(values)
    assert scaling.clipped is not None
    assert np.unique(stored.flat[count:]).size > 2000
    assert np.abs(restored(stored, scaling) - values).ravel()[count:].max() <= scaling.scale


def test_what_is_found_does_not_depend_on_the_boxes() -> None:
    values = np.random.default_rng(0).normal(size=(3, 4000, 1100)).astype(np.float32)
    cut = ValueSurvey(values.shape)
    for y in (0, 1000, 3001):
        stop = {0: 1000, 1000: 3001, 3001: 4000}[y]
        cut.add(Box((0, y, 0), (3, stop, 1100)), values[:, y:stop])
    whole = survey_of(values).choose()
    assert cut.choose() == whole
    assert whole.clipped is None or whole.scale > 0
    assert sum(map(np.size, cut.samples)) < values.size / 2


def test_what_fits_a_volume_is_stored_as_it_is() -> None:
    values = np.array([[[3]]], np.uint16)
    assert Scaling(values.dtype).store(values) is values
