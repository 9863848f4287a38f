"""Statistics from histograms equal statistics of the voxels."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import DTypeLike, NDArray

from segem.errors import InputError
from segem.kernels.normalize import IntensityStatistics, histogram, zscore

images = st.sampled_from([np.uint8, np.uint16]).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=3, max_side=9))
)


def test_by_hand() -> None:
    statistics = IntensityStatistics.from_histogram(histogram(np.array([[2, 2], [4, 8]], np.uint8)))
    assert statistics == IntensityStatistics(4.0, np.sqrt(6.0), 2, 8, {"1": 2.0, "50": 2.0, "99": 8.0})


@given(images)
def test_statistics_equal_those_of_the_voxels(image: NDArray[np.uint8 | np.uint16]) -> None:
    found = IntensityStatistics.from_histogram(histogram(image))
    assert found.mean == pytest.approx(image.mean(dtype=np.float64), rel=1e-12)
    assert found.std == pytest.approx(image.std(dtype=np.float64), rel=1e-9, abs=1e-9)
    assert (found.minimum, found.maximum) == (image.min(), image.max())
    for key, value in found.percentiles.items():
        assert np.count_nonzero(image <= value) * 100 >= int(key) * image.size
        assert np.count_nonzero(image < value) * 100 < int(key) * image.size


@given(images)
def test_histograms_add_up(image: NDArray[np.uint8 | np.uint16]) -> None:
    parts = sum((histogram(part) for part in image), np.zeros(int(np.iinfo(image.dtype).max) + 1, np.int64))
    assert np.array_equal(parts, histogram(image))
    assert parts.dtype == np.int64


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_large_section_is_counted_in_little_memory(dtype: DTypeLike) -> None:
    section = np.random.default_rng(0).integers(0, 256, (1100, 1000)).astype(dtype)
    tracemalloc.start()
    counts = histogram(section)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(counts, np.bincount(section.ravel(), minlength=np.iinfo(dtype).max + 1))
    assert peak < 4_000_000  # eight bytes a voxel would be 8 800 000


def test_no_overflow_in_a_huge_volume() -> None:
    counts = np.zeros(65536, np.int64)
    counts[[0, 65535]] = 10**13
    statistics = IntensityStatistics.from_histogram(counts)
    assert statistics.mean == 32767.5
    assert statistics.std == 32767.5
    assert statistics.percentiles == {"1": 0.0, "50": 0.0, "99": 65535.0}


@given(images)
def test_statistics_survive_json(image: NDArray[np.uint8 | np.uint16]) -> None:
    statistics = IntensityStatistics.from_histogram(histogram(image))
    text = json.dumps({**statistics.to_dict(), "constant_sections": []})
    assert IntensityStatistics.from_dict(json.loads(text)) == statistics


@given(images)
def test_zscores_have_no_mean_and_unit_deviation(image: NDArray[np.uint8 | np.uint16]) -> None:
    scores = zscore(image, IntensityStatistics.from_histogram(histogram(image)))
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    assert scores.mean(dtype=np.float64) == pytest.approx(0, abs=1e-2)
    if image.std() >= 1:
        assert scores.std(dtype=np.float64) == pytest.approx(1, abs=1e-3)


def test_zscore_leaves_its_input_alone() -> None:
    image = np.array([1.0, 2.0], np.float32)
    zscore(image, IntensityStatistics(1.0, 2.0, 1, 2, {}))
    assert image.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("value", [0, 7, 255])
def test_a_constant_volume_is_finite(value: int) -> None:
    image = np.full((2, 3), value, np.uint8)
    assert np.array_equal(zscore(image, IntensityStatistics.from_histogram(histogram(image))), np.zeros((2, 3)))


def test_what_has_no_histogram_is_refused() -> None:
    with pytest.raises(InputError, match="expected uint8 or uint16, found float32"):
        histogram(np.zeros(3, np.float32))
    with pytest.raises(InputError, match="no voxels"):
        IntensityStatistics.from_histogram(np.zeros(256, np.int64))
