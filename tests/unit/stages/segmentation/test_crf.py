"""A refined run: made of another one block by block, and then a run like any other."""

from __future__ import annotations

import numpy as np
import pytest

from segem.config import CrfConfig, ExecutionConfig, RefineConfig
from segem.errors import ConfigError, SegemError, WorkspaceError
from segem.io.blocks import shard_path
from segem.io.run import load_run, volume_lock
from segem.io.volume import Volume
from segem.kernels.crf import refine
from segem.kernels.pictures import stretch_contrast
from segem.kernels.threshold import quantize_probability
from segem.stages.reporting.evaluate import evaluate
from segem.stages.segmentation.crf import refine_volume
from segem.stages.segmentation.export import export
from segem.stages.segmentation.repair import repair
from segem.stages.segmentation.verify import plan_of, verify
from tests.fabricate import add_model, add_volume, enter_in_ledger, fill, guess, new_workspace, tissue

SHAPE = (2, 300, 290)
THRESHOLD = 0.6
"""Of the run that is refined: the CRF starts from its mask."""
CRF = CrfConfig(w1=2, sa_px=8, sb_grey=32, w2=1, sg_px=1)
CONFIG = RefineConfig(of="r", crf=CRF)
QUIET = ExecutionConfig()
BLOCKS = 4


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.setattr("segem.io.shards._SHARD_EDGE", 256)
    space = new_workspace(tmp_path / "w")
    image, truth = tissue(SHAPE)
    source = add_volume(space, "em", image, truth)
    source.build_pyramid()
    source.build_pyramid("truth")
    add_model(space, "r", "em", guess(truth), threshold=THRESHOLD, facts={"trained_on": []})
    enter_in_ledger(space)
    return space


def arrays(workspace, run="r2"):
    result = Volume.open(workspace.result(run, "em"))
    return np.asarray(result.raw[:]), np.asarray(result.label("membrane")[:])


def whole_sections(workspace, image=None):
    probability, _ = arrays(workspace, "r")
    image = np.asarray(Volume.open(workspace.volume("em")).raw[:]) if image is None else image
    return np.stack(
        [
            quantize_probability(refine(p / np.float32(255), section, CRF, THRESHOLD))
            for p, section in zip(probability, image, strict=True)
        ]
    )


def test_every_section_is_refined_whole(workspace):
    before = arrays(workspace, "r")
    found = refine_volume("em", "r2", CONFIG, QUIET, workspace)
    assert (found.blocks, found.computed, found.skipped) == (BLOCKS, BLOCKS, 0)
    probability, membrane = arrays(workspace)
    # Blocks of 256 px are refined with a halo: that costs one step of 255 at most.
    apart = np.abs(probability.astype(int) - whole_sections(workspace))
    assert apart.max() <= 1
    np.testing.assert_array_equal(membrane, probability >= 128)
    assert (probability != before[0]).mean() > 0.1
    for layer, kept in zip(before, arrays(workspace, "r"), strict=True):
        np.testing.assert_array_equal(layer, kept)


def test_too_small_a_halo_shows(workspace):
    refine_volume("em", "r2", CONFIG.model_copy(update={"halo_px": 0}), QUIET, workspace)
    assert np.abs(arrays(workspace)[0].astype(int) - whole_sections(workspace)).max() > 1


def test_a_refined_run_is_a_run_like_any_other(workspace, tmp_path):
    refine_volume("em", "r2", CONFIG, QUIET, workspace)
    assert verify("r2", workspace) == []
    (raw,), (refined,) = (evaluate(run, workspace).volumes for run in ("r", "r2"))
    assert refined.state == "complete"
    assert refined.threshold == 0.5
    assert refined.model == raw.model
    assert "the probability is that of run r, refined by a CRF" in refined.warnings
    # This noise is not of one grain with the image, so that a CRF can only help.
    assert refined.scores.model.iou > raw.scores.model.iou
    export("r2", "em", "membrane", tmp_path / "m.tif", workspace)


def test_finished_blocks_are_skipped(workspace):
    refine_volume("em", "r2", CONFIG, QUIET, workspace)
    before = arrays(workspace)
    found = refine_volume("em", "r2", CONFIG, QUIET, workspace)
    assert (found.computed, found.skipped) == (0, BLOCKS)
    for layer, kept in zip(before, arrays(workspace), strict=True):
        np.testing.assert_array_equal(layer, kept)


@pytest.mark.parametrize(
    "changed",
    [
        {"threshold": 0.6},
        {"crf": CRF.model_copy(update={"w1": 2.1})},
        {"crf": CRF.model_copy(update={"iterations": 9})},
        {"halo_px": 20},
    ],
)
def test_other_settings_make_other_blocks(workspace, changed):
    refine_volume("em", "r2", CONFIG, QUIET, workspace)
    other = CONFIG.model_copy(update=changed)
    with pytest.raises(ConfigError, match="--replace"):
        refine_volume("em", "r2", other, QUIET, workspace)
    assert refine_volume("em", "r2", other, QUIET, workspace, replace=True).computed == BLOCKS


def test_a_changed_probability_makes_the_blocks_that_see_it_anew(workspace):
    refine_volume("em", "r2", CONFIG, QUIET, workspace)
    result = Volume.open(workspace.result("r", "em"))
    probability, _ = arrays(workspace, "r")
    probability[1, 5, 5] ^= 1
    fill(result.raw, probability, result)
    # Far from the other three blocks, and beyond their halo.
    assert refine_volume("em", "r2", CONFIG, QUIET, workspace).computed == 1
    assert np.abs(arrays(workspace)[0].astype(int) - whole_sections(workspace)).max() <= 1


def test_a_changed_grey_level_makes_the_blocks_that_see_it_anew(workspace):
    refine_volume("em", "r2", CONFIG, QUIET, workspace)
    source = Volume.open(workspace.volume("em"))
    image = np.asarray(source.raw[:])
    image[0, 299, 289] ^= 255
    fill(source.raw, image, source)
    # The block it lies in, and the one to the left, in whose halo it lies.
    assert refine_volume("em", "r2", CONFIG, QUIET, workspace).computed == 2


def lose_and_spoil(workspace):
    result = Volume.open(workspace.result("r2", "em"))
    plan = plan_of(load_run(workspace, "r2").volumes["em"].membrane.phases[0], result.shape)
    first, *_, last = plan.blocks()
    shard_path(result.raw, first.write).unlink()
    damaged = shard_path(result.label("membrane"), last.write)
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)


def test_damage_is_named_and_mended(workspace):
    refine_volume("em", "r2", CONFIG, QUIET, workspace)
    before = arrays(workspace)
    lose_and_spoil(workspace)
    assert [fault.what for fault in verify("r2", workspace)] == [
        "crf block (0, 0, 0): its file is missing",
        "crf block (0, 1, 1): its voxels are not those that were written",
    ]
    mended = repair("r2", workspace, QUIET)
    assert len(mended.repaired) == 2
    assert mended.left == ()
    for layer, kept in zip(before, arrays(workspace), strict=True):
        np.testing.assert_array_equal(layer, kept)


def test_blocks_of_two_probabilities_are_not_mixed(workspace):
    refine_volume("em", "r2", CONFIG, QUIET, workspace)
    lose_and_spoil(workspace)
    fill(
        Volume.open(workspace.result("r", "em")).raw,
        guess(tissue(SHAPE)[1], seed=2),
        Volume.open(workspace.volume("em")),
    )
    enter_in_ledger(workspace)
    left = [fault.what for fault in repair("r2", workspace, QUIET).left]
    assert any("probability of the run is no longer available" in what for what in left)


def test_more_than_8_bits_are_windowed(workspace):
    image = np.asarray(Volume.open(workspace.volume("em")).raw[:]).astype(np.uint16) * 17
    add_volume(workspace, "deep", image)
    add_model(workspace, "r", "deep", arrays(workspace, "r")[0], threshold=THRESHOLD)
    refine_volume("deep", "r2", CONFIG, QUIET, workspace)
    found = np.asarray(Volume.open(workspace.result("r2", "deep")).raw[:]).astype(int)
    window = Volume.open(workspace.volume("deep")).statistics.percentiles
    expected = whole_sections(workspace, [stretch_contrast(section, window["1"], window["99"]) for section in image])
    assert np.abs(found - expected).max() <= 1


def test_what_cannot_be_refined(workspace):
    with pytest.raises(ConfigError, match="cannot refine itself"):
        refine_volume("em", "r", CONFIG, QUIET, workspace)
    with pytest.raises(WorkspaceError, match="no such run"):
        refine_volume("em", "r2", CONFIG.model_copy(update={"of": "gone"}), QUIET, workspace)
    add_model(workspace, "broken", "em", None, state="failed", reason="a disk was full")
    with pytest.raises(WorkspaceError, match="a disk was full"):
        refine_volume("em", "r2", CONFIG.model_copy(update={"of": "broken"}), QUIET, workspace)
    with volume_lock(workspace, "r2", "em"), pytest.raises(SegemError, match="another process"):
        refine_volume("em", "r2", CONFIG, QUIET, workspace)


def test_a_lost_probability_is_an_error_not_background(workspace):
    result = Volume.open(workspace.result("r", "em"))
    next(path for path in (result.path / "0" / "c").rglob("*") if path.is_file()).unlink()
    with pytest.raises(SegemError, match="missing"):
        refine_volume("em", "r2", CONFIG, QUIET, workspace)
    assert load_run(workspace, "r2").volumes["em"].membrane.state == "failed"


def test_too_little_memory_is_said_at_once(workspace):
    wide = CONFIG.model_copy(update={"crf": CRF.model_copy(update={"sa_px": 400})})
    with pytest.raises(ConfigError, match="raise --memory"):
        refine_volume("em", "r2", wide, ExecutionConfig(memory=1_000_000_000), workspace)
