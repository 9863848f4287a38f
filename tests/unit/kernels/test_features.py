from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segem.errors import InputError
from segem.kernels.feature_kmeans import FeatureClusters, fit_feature_clusters, mark_membrane_cluster
from segem.kernels.features import features_halo_px, filter_features

SIGMAS = (1.0, 2.0)


def stacked(section, sigmas=SIGMAS):
    return np.stack(list(filter_features(section, sigmas)))


def test_responses_to_a_parabola_are_its_derivatives():
    # y^2/2 + 2 x: gradient (y, 2), Hessian eigenvalues 1 and 0; sigma 2 scales them by 2 and 4.
    y, x = np.mgrid[-40:41, -40:41].astype(np.float32)
    smooth, gradient, least, largest, difference = filter_features(y**2 / 2 + 2 * x, [2.0])
    centre = (slice(35, 46), slice(35, 46))
    np.testing.assert_allclose(smooth[centre], (y**2 / 2 + 2 * x + 2)[centre], atol=0.05)
    np.testing.assert_allclose(gradient[centre], 2 * np.hypot(y, 2)[centre], atol=0.05)
    np.testing.assert_allclose(least[centre], 0, atol=0.05)
    np.testing.assert_allclose(largest[centre], 4, atol=0.05)
    np.testing.assert_allclose(difference[centre], (4 - 1.6**2 * 4) / 2, atol=0.05)


@given(st.integers(0, 2**32 - 1), st.integers(0, 60), st.integers(0, 50))
def test_a_part_with_its_halo_responds_as_the_whole(seed, top, left):
    section = np.random.default_rng(seed).normal(size=(71, 63)).astype(np.float32)
    halo = features_halo_px(SIGMAS)
    y0, x0 = max(0, top - halo), max(0, left - halo)
    part = stacked(section[y0 : top + 11 + halo, x0 : left + 13 + halo])
    inner = part[:, top - y0 : top - y0 + 11, left - x0 : left - x0 + 13]
    np.testing.assert_array_equal(inner, stacked(section)[:, top : top + 11, left : left + 13])


@given(st.integers(1, 9), st.integers(1, 9))
def test_any_shape_has_responses(height, width):
    assert stacked(np.ones((height, width), np.float32)).shape == (10, height, width)


def test_the_darkest_cluster_is_membrane_whatever_its_features():
    # Three groups along one feature; the middle one is dark.
    samples = np.repeat(np.array([[0.0], [5.0], [9.0]], np.float32), 50, axis=0)
    grey = np.repeat(np.array([100, 20, 180], np.uint8), 50)
    found = fit_feature_clusters(samples, grey, clusters=3, seed=0)
    assert (found.dark, found.bright) == (20.0, 140.0)
    section = np.array([[0, 4, 5, 6, 9]], np.float32)
    assert mark_membrane_cluster([section], found).tolist() == [[0, 1, 1, 1, 0]]


def test_a_seed_gives_the_same_clusters():
    random = np.random.default_rng(3)
    samples, grey = random.normal(size=(3000, 4)).astype(np.float32), random.integers(0, 65536, 3000).astype(np.uint16)
    first, again = (fit_feature_clusters(samples, grey, clusters=4, seed=7) for _ in range(2))
    np.testing.assert_array_equal(first.centres, again.centres)
    other = fit_feature_clusters(samples, grey, clusters=4, seed=8)
    assert not np.array_equal(first.centres, other.centres)


@pytest.mark.parametrize("seed", [2**32, 2**70])
def test_a_seed_may_be_of_any_size(seed):
    samples = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    grey = np.arange(50, dtype=np.uint8)
    found, small = (fit_feature_clusters(samples, grey, clusters=2, seed=each) for each in (seed, seed % 2**32))
    assert np.array_equal(found.centres, small.centres)


def test_voxels_that_are_all_alike_are_no_membrane():
    found = fit_feature_clusters(np.full((20, 3), 2.5, np.float32), np.full(20, 9, np.uint8), clusters=2, seed=0)
    assert (len(found.centres), found.dark, found.bright) == (1, 9.0, 9.0)
    assert not mark_membrane_cluster([np.full((2, 2), 2.5, np.float32)] * 3, found).any()


def test_no_voxel_is_refused():
    with pytest.raises(InputError, match="no voxels"):
        fit_feature_clusters(np.zeros((0, 3), np.float32), np.zeros(0, np.uint8), clusters=2, seed=0)


def test_features_and_clusters_must_be_of_a_number():
    clusters = FeatureClusters(np.zeros(2, np.float32), np.ones(2, np.float32), np.zeros((2, 2), np.float32), 1.0, 2.0)
    with pytest.raises(ValueError, match="zip"):
        mark_membrane_cluster([np.zeros((1, 1), np.float32)], clusters)
