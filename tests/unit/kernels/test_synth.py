from __future__ import annotations

from itertools import islice, pairwise

import numpy as np
import pytest
from scipy import ndimage
from skimage.morphology import skeletonize

from segem.config import SynthConfig, parse
from segem.errors import ConfigError
from segem.kernels.kmeans import fit_two_means, mark_membrane
from segem.kernels.metrics.iou import Confusion
from segem.kernels.normalize import histogram
from segem.kernels.synth import draw_sections, synthesize

SEEDS = (0, 7)


@pytest.fixture(scope="module", params=SEEDS)
def em(request):
    return synthesize(SynthConfig(shape=(3, 512, 512), seed=request.param))


def test_shapes_and_types(em):
    assert em.image.shape == em.truth.shape == (3, 512, 512)
    assert em.image.dtype == em.truth.dtype == np.uint8
    assert np.unique(em.truth).tolist() == [0, 1]


def test_the_seed_decides_every_byte():
    config = SynthConfig(shape=(2, 96, 128), seed=5)
    first, again = synthesize(config), synthesize(config)
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.truth, again.truth)
    other = synthesize(config.model_copy(update={"seed": 6}))
    assert not np.array_equal(first.image, other.image)
    assert not np.array_equal(first.truth, other.truth)


def test_a_short_volume_is_the_start_of_a_long_one():
    short = synthesize(SynthConfig(shape=(2, 64, 64), seed=1))
    longer = list(islice(draw_sections(SynthConfig(shape=(1000, 64, 64), seed=1)), 2))
    np.testing.assert_array_equal(short.image, [section.image for section in longer])
    np.testing.assert_array_equal(short.truth, [section.truth for section in longer])


def test_membrane_covers_about_a_fifth(em):
    assert 0.15 < em.truth.mean() < 0.28


def test_cells_are_closed(em):
    for truth in em.truth:
        # Labels of `ndimage.label` are 4-connected, as membranes must separate them.
        area = np.bincount(ndimage.label(truth == 0)[0].ravel())[1:]
        assert np.count_nonzero(area > 50) > 50
        assert area.max() < 0.4 * truth.size


def test_membranes_are_about_20_nm_wide(em):
    truth = em.truth[0] == 1
    width_nm = 4 * (2 * ndimage.distance_transform_edt(truth)[skeletonize(truth)] - 1)
    assert 16 < np.median(width_nm) < 26
    assert np.percentile(width_nm, 95) < 60


def test_neighbouring_sections_are_alike_but_not_the_same(em):
    for one, other in pairwise(em.truth):
        assert 0.4 < Confusion.count(one, other).iou < 0.85


def test_membrane_is_dark_and_the_rest_varies_about_as_much(em):
    membrane, rest = em.image[em.truth == 1].astype(float), em.image[em.truth == 0].astype(float)
    contrast = rest.mean() - membrane.mean()
    assert 40 < contrast < 80
    assert 0.4 < rest.std() / contrast < 1


def test_intensity_alone_finds_membrane_poorly(em):
    means = fit_two_means(histogram(em.image))
    assert 0.3 < Confusion.count(em.truth, mark_membrane(em.image, means)).iou < 0.52


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 40), (1, 33, 7)])
def test_small_volumes(shape):
    assert synthesize(SynthConfig(shape=shape)).image.shape == shape


def test_lengths_follow_the_voxel_size():
    fine = synthesize(SynthConfig(shape=(1, 256, 256), voxel_nm=(50, 4, 4), seed=2))
    coarse = synthesize(SynthConfig(shape=(1, 128, 128), voxel_nm=(50, 8, 8), seed=2))
    assert coarse.truth.mean() == pytest.approx(fine.truth.mean(), abs=0.08)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"shape": (0, 8, 8)}, r"shape\.0: .*greater than or equal to 1"),
        ({"shape": (2, 8, -1)}, r"shape\.2"),
        ({"voxel_nm": (50, 0.1, 4)}, r"voxel_nm\.1: .*greater than or equal to 1"),
        ({"voxel_nm": (50, 4, 1000)}, r"voxel_nm\.2: .*less than or equal to 32"),
        ({"voxel_nm": (-50, 4, 4)}, r"voxel_nm\.0"),
        ({"voxel_nm": (float("nan"), 4, 4)}, r"voxel_nm\.0"),
        ({"voxel_nm": (float("inf"), 4, 4)}, r"voxel_nm\.0"),
        ({"seed": -1}, "seed"),
    ],
)
def test_what_cannot_be_drawn_is_refused_at_once(change, complaint):
    with pytest.raises(ConfigError, match=complaint):
        parse(SynthConfig, change)
