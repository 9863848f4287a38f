from __future__ import annotations

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.cluster import KMeans

from segem.errors import InputError
from segem.kernels.kmeans import TwoMeans, fit_two_means, mark_membrane, smooth, smoothing_halo_px


def histogram(image):
    return np.bincount(image.ravel(), minlength=np.iinfo(image.dtype).max + 1)


def spread(image, threshold):
    """Sum of squared distances to the means of the two parts, the quantity K-means minimises."""
    parts = [image[image < threshold].astype(float), image[image >= threshold].astype(float)]
    return sum(((part - part.mean()) ** 2).sum() for part in parts if part.size)


def test_centres_worked_by_hand():
    # {0, 0, 2} and {10, 12, 14}: means 2/3 and 12, half-way 19/3.
    means = fit_two_means(histogram(np.array([0, 0, 2, 10, 12, 14], np.uint8)))
    assert means.dark == pytest.approx(2 / 3)
    assert means.bright == pytest.approx(12)
    assert means.threshold == pytest.approx(19 / 3)


def test_two_intensities_are_the_centres():
    assert fit_two_means(histogram(np.array([7, 7, 7, 200], np.uint8))) == TwoMeans(7.0, 200.0, 103.5)


def test_equals_kmeans_on_every_voxel():
    rng = np.random.default_rng(5)
    image = np.concatenate([rng.normal(80, 25, 1500), rng.normal(150, 30, 3500)]).clip(0, 255).astype(np.uint8)
    means = fit_two_means(histogram(image))
    fitted = KMeans(n_clusters=2, n_init=10, tol=0, random_state=0).fit(image[:, None].astype(np.float64))
    assert (means.dark, means.bright) == pytest.approx(sorted(fitted.cluster_centers_.ravel()), abs=1e-9)
    darker = int(np.argmin(fitted.cluster_centers_))
    np.testing.assert_array_equal(mark_membrane(image, means), fitted.labels_ == darker)


@given(hnp.arrays(np.uint8, st.integers(2, 60)).filter(lambda image: np.unique(image).size > 1))
def test_no_other_threshold_is_better(image):
    found = spread(image, fit_two_means(histogram(image)).threshold)
    best = min(spread(image, threshold) for threshold in np.unique(image)[1:])
    assert found == pytest.approx(best, abs=1e-6)


def test_sixteen_bits():
    image = np.array([100, 120, 60_000, 60_010], np.uint16)
    means = fit_two_means(histogram(image))
    assert (means.dark, means.bright) == (110.0, 60_005.0)
    assert mark_membrane(image, means).tolist() == [1, 1, 0, 0]


def test_sixteen_bits_are_the_same_bits_every_time():
    image = np.random.default_rng(1).normal(20_000, 8_000, 300_000).clip(0, 65_535).astype(np.uint16)
    assert len({fit_two_means(histogram(image)) for _ in range(5)}) == 1


def test_a_constant_volume_has_no_membrane():
    image = np.full((3, 4), 90, np.uint8)
    means = fit_two_means(histogram(image))
    assert means == TwoMeans(90.0, 90.0, 90.0)
    assert not mark_membrane(image, means).any()


def test_an_empty_histogram_is_refused():
    with pytest.raises(InputError, match="no voxels"):
        fit_two_means(np.zeros(256, np.int64))


def test_membrane_is_strictly_darker_than_the_threshold():
    section = np.array([[19, 20, 21]], np.uint8)
    assert mark_membrane(section, TwoMeans(10, 30, 20.0)).tolist() == [[1, 0, 0]]
    assert mark_membrane(section, TwoMeans(10, 30, 20.5)).tolist() == [[1, 1, 0]]
    assert mark_membrane(section, TwoMeans(10, 30, 20.5)).dtype == np.uint8


def test_smoothing_keeps_dtype_and_stays_within_a_section():
    stack = np.zeros((2, 9, 9), np.uint16)
    stack[0] = 40_000
    blurred = smooth(stack, 2.0)
    assert blurred.dtype == np.uint16
    np.testing.assert_array_equal(blurred, stack)


def test_no_smoothing_changes_nothing():
    section = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert smooth(section, 0) is section


@given(st.integers(0, 2**32 - 1), st.floats(0.3, 3))
def test_a_part_with_its_halo_is_smoothed_as_the_whole(seed, sigma_px):
    section = np.random.default_rng(seed).integers(0, 256, (40, 44), dtype=np.uint8)
    halo = smoothing_halo_px(sigma_px)
    part = smooth(section[15 - halo if halo < 15 else 0 : 25 + halo, :], sigma_px)
    start = min(15, halo)
    np.testing.assert_array_equal(part[start : start + 10], smooth(section, sigma_px)[15:25])


def test_real_sections_give_the_clusters_of_all_their_voxels(em_data):
    section = tifffile.imread(em_data / "isbi2012" / "train-volume.tif", key=0)
    means = fit_two_means(histogram(section))
    fitted = KMeans(n_clusters=2, n_init=3, tol=0, random_state=0).fit(section.reshape(-1, 1).astype(np.float64))
    assert (means.dark, means.bright) == pytest.approx(sorted(fitted.cluster_centers_.ravel()), abs=1e-6)
