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
    percentiles = {"1": 2.0, "50": 2.0, "99": 8.0}
    assert statistics == IntensityStatistics(4.0, np.sqrt(6.0), 2, 8, percentiles, low=2, high=8)


@given(images)
def test_statistics_equal_those_of_the_voxels(image: NDArray[np.uint8 | np.uint16]) -> None:
    found = IntensityStatistics.from_histogram(histogram(image))
    within = image[(image >= found.low) & (image <= found.high)]
    assert found.mean == pytest.approx(within.mean(dtype=np.float64), rel=1e-12)
    assert found.std == pytest.approx(within.std(dtype=np.float64), rel=1e-9, abs=1e-9)
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
    statistics = IntensityStatistics.from_histogram(histogram(image))
    scores = zscore(image, statistics)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    counted = (image >= statistics.low) & (image <= statistics.high)
    scores = scores[counted]
    assert scores.mean(dtype=np.float64) == pytest.approx(0, abs=1e-2)
    if image[counted].std() >= 1:
        assert scores.std(dtype=np.float64) == pytest.approx(1, abs=1e-3)


def test_zscore_leaves_its_input_alone() -> None:
    image = np.array([1.0, 2.0], np.float32)
    zscore(image, IntensityStatistics(1.0, 2.0, 1, 2, {}))
    assert image.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("value", [0, 7, 255])
def test_a_constant_volume_is_finite(value: int) -> None:
    image = np.full((2, 3), value, np.uint8)
    assert np.array_equal(zscore(image, IntensityStatistics.from_histogram(histogram(image))), np.zeros((2, 3)))


@given(images)
def test_the_fence_holds_what_lies_between_the_percentiles(image: NDArray[np.uint8 | np.uint16]) -> None:
    found = IntensityStatistics.from_histogram(histogram(image))
    assert found.low is not None
    assert found.high is not None
    first, last = found.percentiles["1"], found.percentiles["99"]
    # The extremes may be bars that were drawn into the image, which take no part, and a percentile may be one of them.
    assert found.minimum <= found.low <= found.percentiles["50"] <= found.high <= found.maximum
    assert found.low <= first or first == found.minimum
    assert last <= found.high or last == found.maximum
    clipped = found.clip(image)
    assert (clipped.min(), clipped.max()) == (found.low, found.high)
    assert np.array_equal(found.clip(clipped), clipped)
    assert np.array_equal(clipped == image, (image >= found.low) & (image <= found.high))


@pytest.mark.parametrize("hot", [1e-5, 1e-4, 1e-3])
def test_hot_pixels_change_no_statistics(hot: float) -> None:
    rng = np.random.default_rng(0)
    clean = rng.normal(1128, 30, 200_000).clip(1000, 1255).astype(np.uint16)
    struck = clean.copy()
    struck[rng.permutation(clean.size)[: int(hot * clean.size)]] = 65535
    before, after = (IntensityStatistics.from_histogram(histogram(each)) for each in (clean, struck))
    assert (before.low, before.high) == (before.minimum, before.maximum)
    # Without a fence, one voxel in a thousand would make the deviation seventy times as large.
    assert after.mean == pytest.approx(before.mean, abs=0.1)
    assert after.std == pytest.approx(before.std, rel=0.005)
    assert after.maximum == 65535
    assert after.clip(struck).max() < 1400


def test_a_fence_by_hand() -> None:
    # Of 101 voxels the 2nd and the 100th are the percentiles: 100 and 110, so the fence is 90 and 120.
    counts = np.zeros(65536, np.int64)
    counts[[80, 100, 110, 121]] = 1, 50, 49, 1
    statistics = IntensityStatistics.from_histogram(counts)
    assert (statistics.low, statistics.high, statistics.minimum, statistics.maximum) == (90, 120, 80, 121)
    assert statistics.mean == pytest.approx((50 * 100 + 49 * 110) / 99)


def test_where_nearly_all_voxels_are_alike_there_is_no_fence() -> None:
    counts = np.zeros(256, np.int64)
    counts[[7, 200]] = 1000, 3
    statistics = IntensityStatistics.from_histogram(counts)
    assert (statistics.low, statistics.high) == (7, 200)


def test_a_window_clips_and_all_voxels_count() -> None:
    image = np.array([0, 50, 100, 255], np.uint8)
    statistics = IntensityStatistics.from_histogram(histogram(image), (50, 100))
    assert (statistics.low, statistics.high) == (50, 100)
    assert (statistics.mean, statistics.std) == (75.0, 25.0)
    assert statistics.clip(image).tolist() == [50, 50, 100, 100]


def test_statistics_of_earlier_versions_have_no_fence() -> None:
    statistics = IntensityStatistics.from_dict({"mean": 1, "std": 1, "minimum": 0, "maximum": 9, "percentiles": {}})
    image = np.array([0, 255], np.uint8)
    assert statistics.clip(image) is image


def test_what_has_no_histogram_is_refused() -> None:
    with pytest.raises(InputError, match="expected uint8 or uint16, found float32"):
        histogram(np.zeros(3, np.float32))
    with pytest.raises(InputError, match="no voxels"):
        IntensityStatistics.from_histogram(np.zeros(256, np.int64))


def test_a_bar_of_more_than_a_hundredth_moves_no_statistics() -> None:
    rng = np.random.default_rng(0)
    tissue = histogram(rng.integers(1000, 1256, 20_000).astype(np.uint16))
    clean = IntensityStatistics.from_histogram(tissue)
    for level in (65535, 0):
        barred = tissue.copy()
        barred[level] = 400
        found = IntensityStatistics.from_histogram(barred)
        assert (found.mean, found.std) == (clean.mean, clean.std)
        assert found.low >= 1000 - 255
        assert found.high <= 1255 + 255


def test_extremes_that_are_most_of_an_image_are_no_bars() -> None:
    counts = np.zeros(256, np.int64)
    counts[[0, 100, 255]] = 500, 1, 500
    found = IntensityStatistics.from_histogram(counts)
    assert (found.low, found.high) == (0, 255)
    assert found.mean == pytest.approx(127.5, abs=0.1)
