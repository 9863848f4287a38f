from __future__ import annotations

import numpy as np
import pytest
import tifffile

from segem.config import BaselineConfig, parse
from segem.errors import ConfigError
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.metrics.iou import Confusion
from segem.stages.reporting.evaluate import evaluate
from segem.stages.segmentation.baseline import baseline
from tests.fabricate import add_volume, new_workspace, tissue

METHODS = ("kmeans", "kmeans-features", "watershed", "ncut")


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return new_workspace(tmp_path)


def mask_of(workspace, method, run="r", **settings):
    found = baseline("em", run, BaselineConfig(method=method, **settings), workspace)
    mask = np.asarray(Volume.open(workspace.result(run, "em")).label("baseline")[:])
    assert found.membrane_fraction == mask.mean()
    return mask, found


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 200), (1, 90, 2)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_any_shape_and_type_twice(workspace, method, shape, dtype):
    image = np.random.default_rng(1).integers(0, np.iinfo(dtype).max, shape).astype(dtype)
    add_volume(workspace, "em", image)
    mask, found = mask_of(workspace, method)
    again, same = mask_of(workspace, method, run="again")
    np.testing.assert_array_equal(again, mask)
    assert same == found


@pytest.mark.parametrize("method", METHODS)
def test_a_constant_volume_has_no_membrane(workspace, method):
    add_volume(workspace, "em", np.full((2, 70, 50), 9, np.uint8))
    assert not mask_of(workspace, method)[0].any()


@pytest.mark.parametrize("method", ["kmeans-features", "watershed"])
def test_methods_find_the_membrane_of_tissue(workspace, method):
    image, truth = tissue((2, 150, 160))
    add_volume(workspace, "em", image, truth)
    mask, found = mask_of(workspace, method)
    assert Confusion.count(truth, mask).iou > 0.3
    assert found.threshold is None


def test_a_run_says_which_method_it_was(workspace):
    image, truth = tissue((1, 60, 60))
    add_volume(workspace, "em", image, truth)
    mask_of(workspace, "watershed")
    (volume,) = evaluate("r", workspace).volumes
    assert volume.baseline.name == "watershed"
    assert volume.scores.baseline is not None


def test_features_do_not_depend_on_how_a_section_is_cut(workspace, monkeypatch):
    image = np.random.default_rng(3).integers(0, 250, (2, 300, 300)).astype(np.uint8)
    add_volume(workspace, "em", image)
    whole, found = mask_of(workspace, "kmeans-features")
    # The sample is of the same one tile a section; only what is computed at once is smaller.
    monkeypatch.setattr("segem.io.shards._SHARD_EDGE", 256)
    cut, same = mask_of(workspace, "kmeans-features", run="cut")
    np.testing.assert_array_equal(cut, whole)
    assert (same.dark, same.bright) == (found.dark, found.bright)


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"method": "magic"}, "method"),
        ({"method": "watershed", "sigma_px": 2}, "sigma_px smooths for kmeans"),
        ({"watershed": {"width_px": 4}}, "odd number"),
        ({"features": {"sigmas_px": []}}, "sigmas_px"),
        ({"ncut": {"superpixel_px": 1}}, "superpixel_px"),
    ],
)
def test_settings_that_make_no_sense(settings, what):
    with pytest.raises(ConfigError, match=what):
        parse(BaselineConfig, settings)


def test_watershed_beats_kmeans_on_real_sections(workspace, em_data):
    folder = em_data / "isbi2012"
    image = tifffile.imread(folder / "train-volume.tif", key=range(2))
    truth = (tifffile.imread(folder / "train-labels.tif", key=range(2)) == 0).astype(np.uint8)
    add_volume(workspace, "em", image)
    iou = {m: Confusion.count(truth, mask_of(workspace, m, run=m)[0]).iou for m in ("kmeans", "watershed")}
    assert iou["watershed"] > iou["kmeans"] + 0.05
