from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest

from segem.config import parse_rules
from segem.errors import ConfigError, InputError, WorkspaceError
from segem.io.run import enter_volumes, note_failure
from segem.kernels.metrics.calibration import CalibrationBins
from segem.kernels.metrics.iou import Confusion
from segem.kernels.metrics.not_defined import NotDefined
from segem.kernels.metrics.section import SectionMask, compare_section
from segem.kernels.metrics.segmentation import SegmentationSums
from segem.kernels.metrics.warping import WarpingSums
from segem.records.card import TrainedOn
from segem.records.intervals import Interval, TooFew
from segem.stages.reporting.certainty import compare_volumes
from segem.stages.reporting.evaluate import NO_MEMBRANE, NOT_MEASURED, evaluate
from segem.stages.reporting.tally import MaskTally, count_mask
from tests.fabricate import add_baseline, add_model, add_volume, fill, guess, new_workspace, source_digest, tissue

RUN = "r1"


@pytest.fixture
def workspace(tmp_path):
    return new_workspace(tmp_path / "w")


@pytest.fixture
def scored(workspace):
    """A labelled volume of three sections, with K-means and a model."""
    image, truth = tissue((3, 96, 80))
    add_volume(workspace, "fly", image, truth)
    kmeans, probability = (image < 120).astype(np.uint8), guess(truth)
    add_baseline(workspace, RUN, "fly", kmeans)
    add_model(workspace, RUN, "fly", probability)
    return truth, kmeans, probability


def only(evaluation):
    (volume,) = evaluation.volumes
    return volume


def test_scores_are_pooled_over_all_voxels(workspace, scored):
    truth, kmeans, probability = scored
    mask = (probability >= 128).astype(np.uint8)
    volume = only(evaluate(RUN, workspace))
    expected = Confusion.count(truth, mask)
    assert volume.state == "complete"
    assert volume.measured
    assert volume.note is None
    assert volume.sections == 3
    assert volume.scores.model.iou == expected.iou
    assert (volume.scores.model.precision, volume.scores.model.recall) == (expected.precision, expected.recall)
    assert volume.scores.baseline.iou == Confusion.count(truth, kmeans).iou
    assert volume.scores.model.iou != np.mean([s.iou_model for s in volume.per_section])
    assert volume.threshold == 0.5
    assert volume.seam_ratio is None


def test_segmentation_scores_are_means_over_sections(workspace, scored):
    truth, _, probability = scored
    volume = only(evaluate(RUN, workspace))
    total = SegmentationSums.nothing()
    for t, p in zip(truth, probability, strict=True):
        total = total + SegmentationSums.count(t, p)
    assert volume.scores.model.rand.model_dump() == asdict(total.best("rand"))
    assert volume.scores.model.information.model_dump() == asdict(total.best("information"))
    assert volume.scores.model.rand.value == pytest.approx(np.mean([s.v_rand for s in volume.per_section]))
    assert volume.scores.model.information.value == pytest.approx(np.mean([s.v_info for s in volume.per_section]))
    assert volume.scores.baseline.rand.threshold == 0.0


def test_calibration_is_that_of_the_stored_probability(workspace, scored):
    truth, _, probability = scored
    volume = only(evaluate(RUN, workspace))
    assert volume.ece == pytest.approx(CalibrationBins.count(truth, probability / 255).error)
    assert sum(one.voxels for one in volume.reliability) == truth.size
    assert sum(one.voxels * one.membrane for one in volume.reliability) == pytest.approx(truth.sum())
    off = sum(one.voxels * abs(one.probability - one.membrane) for one in volume.reliability)
    assert volume.ece == pytest.approx(off / truth.size)
    assert volume.ece > 0


def test_per_section_scores(workspace, scored):
    truth, kmeans, probability = scored
    volume = only(evaluate(RUN, workspace))
    assert [s.section for s in volume.per_section] == [0, 1, 2]
    last = Confusion.count(truth[2], (probability[2] >= 128).astype(np.uint8))
    assert volume.per_section[2].iou_model == last.iou
    assert volume.per_section[2].recall == last.recall
    assert volume.per_section[2].iou_baseline == Confusion.count(truth[2], kmeans[2]).iou


def test_perfect_probability_scores_one(workspace):
    image, truth = tissue((2, 64, 64))
    add_volume(workspace, "fly", image, truth)
    add_baseline(workspace, RUN, "fly", 1 - truth)
    add_model(workspace, RUN, "fly", truth * np.uint8(255))
    volume = only(evaluate(RUN, workspace))
    assert (
        volume.scores.model.iou,
        volume.scores.model.rand.value,
        volume.scores.model.information.value,
    ) == pytest.approx((1, 1, 1))
    assert volume.scores.baseline.iou == 0.0


def test_without_truth_nothing_is_measured(workspace):
    image, truth = tissue((2, 64, 64))
    add_volume(workspace, "blind", image)
    add_baseline(workspace, RUN, "blind", truth)
    add_model(workspace, RUN, "blind", guess(truth), core_px=32)
    volume = only(evaluate(RUN, workspace))
    assert volume.note == NOT_MEASURED == "not measured: no ground truth"
    assert not volume.measured
    assert volume.scores.model is None
    assert volume.scores.baseline is None
    assert volume.per_section == ()
    assert volume.seam_ratio == pytest.approx(1.0, abs=0.5)


def test_a_truth_without_membrane_has_no_score(workspace):
    """An empty image with empty labels and an empty mask is no perfect result."""
    nothing = np.zeros((2, 64, 64), np.uint8)
    add_volume(workspace, "empty", nothing, nothing)
    add_baseline(workspace, RUN, "empty", nothing)
    add_model(workspace, RUN, "empty", nothing)
    volume = only(evaluate(RUN, workspace))
    assert volume.note == NO_MEMBRANE == "not measured: the ground truth holds no membrane"
    assert (volume.measured, volume.iou, volume.per_section, volume.ece) == (False, None, (), None)
    assert volume.reliability == ()
    assert volume.known_fraction == 1.0


def test_a_section_without_membrane_has_no_iou(workspace):
    image, truth = tissue((3, 64, 64))
    truth[1] = 0
    add_volume(workspace, "fly", image, truth)
    add_baseline(workspace, RUN, "fly", truth)
    add_model(workspace, RUN, "fly", truth * np.uint8(255))
    volume = only(evaluate(RUN, workspace))
    assert [section.iou_model for section in volume.per_section] == [1, None, 1]
    assert [section.iou_baseline for section in volume.per_section] == [1, None, 1]
    assert (volume.per_section[1].precision, volume.per_section[1].recall) == (None, None)
    assert volume.per_section[1].v_rand is not None
    assert (volume.iou.model, volume.iou.baseline) == (1, 1)


def test_seams_are_where_the_plan_put_tile_borders(workspace):
    image, truth = tissue((4, 192, 192))
    probability = np.random.default_rng(0).integers(90, 110, truth.shape).astype(np.uint8)
    add_volume(workspace, "fly", image, truth)
    add_model(workspace, RUN, "fly", probability, core_px=96)
    whole = only(evaluate(RUN, workspace))
    assert whole.seams.planes == 2
    assert whole.seam_ratio == whole.seams.ratio == pytest.approx(1, abs=0.2)
    assert not whole.seams.shows
    assert whole.verdict.state == "review"
    probability[:, :, 96:] += 10
    add_model(workspace, RUN, "fly", probability, core_px=96)
    broken = only(evaluate(RUN, workspace))
    assert broken.seams.shows
    assert any("seams show" in warning for warning in broken.warnings)
    assert broken.verdict.state == "rejected"
    # The same step beside the border is tissue.
    probability[:, :, 80:96] += 10
    add_model(workspace, RUN, "fly", probability, core_px=96)
    assert not only(evaluate(RUN, workspace)).seams.shows


def test_rules_given_now_go_before_those_of_the_run(workspace, scored):
    enter_volumes(workspace, RUN, ["fly"], accept=("iou >= 0.1", "jaccard >= 0.1"))
    _, kmeans, probability = scored
    add_baseline(workspace, RUN, "fly", kmeans)
    add_model(workspace, RUN, "fly", probability)
    with pytest.raises(ConfigError, match=f"run {RUN}.*no score is called jaccard"):
        evaluate(RUN, workspace)
    found = evaluate(RUN, workspace, parse_rules(["iou >= .1"]))
    assert found.accept == ("iou >= 0.1",)
    assert only(found).verdict.state == found.verdict.state == "accepted"
    assert evaluate(RUN, workspace, []).verdict.state == "review"


def test_intervals_are_of_enough_tissue_or_not_at_all(workspace, scored):
    volume = only(evaluate(RUN, workspace))
    few = {type(interval) for interval in volume.intervals.values()}
    assert few == {TooFew}
    assert volume.intervals["v_rand"].too_few == "3 sections with a score; 6 or more are needed"
    image, truth = tissue((6, 144, 144))
    add_volume(workspace, "large", image, truth, voxel_nm=(50, 16, 16))
    add_baseline(workspace, RUN, "large", (image < 120).astype(np.uint8))
    add_model(workspace, RUN, "large", guess(truth))
    (large,) = (one for one in evaluate(RUN, workspace).volumes if one.name == "large")
    for intervals, scores in ((large.intervals, large.scores.model), (large.baseline_intervals, large.scores.baseline)):
        for name in ("iou", "precision", "recall", "v_rand", "v_info"):
            assert isinstance(intervals[name], Interval)
            assert 0 <= intervals[name].low <= getattr(scores, name) <= intervals[name].high <= 1
    assert np.sum(large.blocks.model, axis=0)[0] == np.sum((truth == 1) & (guess(truth) >= 128))
    assert large.bands["iou"].floor == large.scores.baseline.iou
    assert large.bands["iou"].held_out is None
    differences = compare_volumes(large, large, ("model", "baseline"))
    gained = large.scores.model.iou - large.scores.baseline.iou
    assert (differences["iou"].low + differences["iou"].high) / 2 == pytest.approx(gained)
    assert (compare_volumes(large, large)["v_rand"].low, compare_volumes(large, large)["v_rand"].high) == (0, 0)
    with pytest.raises(InputError, match="cannot be compared"):
        compare_volumes(large, volume)


@pytest.mark.parametrize("state", ["failed", "running"])
def test_an_unfinished_volume_is_never_measured(workspace, scored, state):
    _, _, probability = scored
    add_model(workspace, RUN, "fly", probability, state=state, reason="block (0, 0, 1): not a number")
    volume = only(evaluate(RUN, workspace))
    assert volume.state == "failed"
    assert volume.reason == "block (0, 0, 1): not a number"
    assert not volume.measured
    assert volume.scores.model is volume.scores.baseline is volume.seam_ratio is None


def test_a_volume_that_failed_at_ingest_carries_its_reason(workspace, scored):
    note_failure(workspace, RUN, "torn", "torn.tif: not a TIFF file")
    fly, torn = evaluate(RUN, workspace).volumes
    assert fly.measured
    assert (torn.state, torn.reason, torn.sections) == ("failed", "torn.tif: not a TIFF file", None)


def test_a_volume_the_model_never_reached_is_failed(workspace, scored):
    image, truth = tissue((1, 32, 32))
    add_volume(workspace, "late", image, truth)
    add_baseline(workspace, RUN, "late", truth)
    late = evaluate(RUN, workspace).volumes[1]
    assert (late.state, late.reason) == ("failed", "the segmentation was never started")
    assert late.scores.baseline is None


def test_a_run_of_kmeans_alone_is_complete(workspace):
    image, truth = tissue((2, 64, 64))
    add_volume(workspace, "fly", image, truth)
    add_baseline(workspace, RUN, "fly", truth)
    evaluation = evaluate(RUN, workspace)
    volume = only(evaluation)
    assert evaluation.model is None
    assert volume.state == "complete"
    assert volume.scores.baseline.iou == 1.0
    assert volume.scores.model is None
    assert volume.per_section[1].iou_model is None
    assert volume.warnings == ("no model mask: the segmentation was never started",)


def test_a_missing_baseline_is_a_warning(workspace):
    image, truth = tissue((1, 64, 64))
    add_volume(workspace, "fly", image, truth, warnings=["1 of 1 sections hold one intensity only: a.tif"])
    add_baseline(workspace, RUN, "fly", None, state="failed", reason="disk full")
    add_model(workspace, RUN, "fly", guess(truth))
    volume = only(evaluate(RUN, workspace))
    assert volume.scores.baseline is None
    assert volume.scores.model is not None
    assert volume.warnings == (
        "1 of 1 sections hold one intensity only: a.tif",
        "no baseline: disk full",
    )


def test_a_lost_file_is_a_failure_not_background(workspace, scored):
    shard = next(
        p for p in (workspace.result(RUN, "fly") / "labels" / "membrane" / "0" / "c").rglob("*") if p.is_file()
    )
    shard.unlink()
    volume = only(evaluate(RUN, workspace))
    assert volume.state == "failed"
    assert "a block is missing" in volume.reason


def test_a_flipped_bit_is_a_failure(workspace, scored):
    shard = next(p for p in (workspace.result(RUN, "fly") / "0" / "c").rglob("*") if p.is_file())
    data = bytearray(shard.read_bytes())
    data[40] ^= 1
    shard.write_bytes(data)
    volume = only(evaluate(RUN, workspace))
    assert volume.state == "failed"
    assert "cannot be read" in volume.reason


def test_scores_on_training_sections_are_flagged(workspace):
    image, truth = tissue((2, 64, 64))
    add_volume(workspace, "fly", image, truth)
    used = TrainedOn(
        volume="isbi",
        source_digest=source_digest(workspace, "fly"),
        train=(0, 2),
        validation=(2, 3),
        train_digests=("", ""),
        validation_digests=("",),
        share=1.0,
    )
    add_model(workspace, RUN, "fly", guess(truth), facts={"trained_on": (used,)})
    assert any("trained on sections 0 to 1" in w for w in only(evaluate(RUN, workspace)).warnings)


def test_cells_that_were_numbered_are_scored_as_such(workspace):
    """The membrane drawn between two numbers swallows a thin cell; its number does not.

    V_rand is of what is outlined, as in the challenge: the membrane itself, found to the pixel, has 1.
    """
    truth, ids = np.zeros((1, 20, 20), np.uint8), np.full((1, 20, 20), 3, np.uint32)
    ids[:, :, 10], ids[:, :, 11:] = 70_000, 5
    truth[:, :, 9:12] = 1
    volume = add_volume(workspace, "fly", truth, truth)
    volume.add_label("truth-ids", np.uint32)
    fill(volume.label("truth-ids"), ids, volume)
    add_model(workspace, RUN, "fly", truth * np.uint8(255))
    found = only(evaluate(RUN, workspace)).scores.model
    assert (found.iou, found.rand.value, found.information.value) == (1, 1, 1)
    # Found on one side of it alone, the thin cell runs together with what lies beyond.
    half = truth.copy()
    half[:, :, 10:12] = 0
    add_model(workspace, RUN, "fly", half * np.uint8(255))
    found = only(evaluate(RUN, workspace)).scores.model
    assert (found.rand.value, found.information.value) == (1, 1)
    assert found.adapted_rand_error > 0
    assert found.voi_merge > 0


def test_truth_without_a_single_cell_gives_iou_but_no_segments(workspace):
    image, _ = tissue((1, 32, 32))
    add_volume(workspace, "solid", image, np.ones((1, 32, 32), np.uint8))
    add_model(workspace, RUN, "solid", np.full((1, 32, 32), 255, np.uint8))
    volume = only(evaluate(RUN, workspace))
    assert volume.scores.model.iou == 1.0
    assert volume.scores.model.rand is None
    assert volume.per_section[0].v_rand is None
    none = ("rand", "information", "mean_iou", "adapted_rand_error", "voi_split", "voi_merge", "pixel_error", "merges")
    assert volume.scores.model.undefined.keys() >= set(none)
    assert volume.scores.model.undefined["mean_iou"] == "the truth holds one class only"
    assert volume.scores.model.undefined["merges"] == "the truth holds no cell"
    assert volume.per_section[0].undefined["v_rand"] == "the truth holds no cell"
    assert volume.per_section[0].merged_at == ()


def test_an_empty_mask_has_no_precision_and_says_why(workspace):
    image, truth = tissue((2, 32, 32))
    add_volume(workspace, "fly", image, truth)
    add_model(workspace, RUN, "fly", np.zeros_like(truth))
    volume = only(evaluate(RUN, workspace))
    model = volume.scores.model
    assert (model.iou, model.recall, model.dice) == (0, 0, 0)
    assert (model.precision, model.cl_dice, model.boundary_f1) == (None, None, None)
    assert model.undefined["precision"] == model.undefined["cl_dice"] == "the mask holds no membrane"
    assert volume.precision is None
    assert volume.per_section[1].undefined["precision"] == "the mask holds no membrane"


def test_a_section_of_unknown_truth_says_so(workspace):
    image, truth = tissue((2, 32, 32))
    truth[1] = 2
    add_volume(workspace, "fly", image, truth)
    found = (truth == 1).astype(np.uint8)
    add_baseline(workspace, RUN, "fly", found)
    add_model(workspace, RUN, "fly", found * np.uint8(255))
    volume = only(evaluate(RUN, workspace))
    first, second = volume.per_section
    assert (first.iou_model, first.merges) == (1, 0)
    # Membrane of two pixels lies within the band along its borders.
    assert first.undefined == {"iou_outside_band": "no true membrane lies outside the band along its borders"}
    assert set(second.undefined.values()) == {"nothing is known of the truth"}
    assert {"iou_model", "iou_baseline", "v_rand", "merges"} <= second.undefined.keys()
    assert (second.iou_model, second.merges, second.v_rand) == (None, None, None)


def test_more_scores_of_the_volume_are_those_of_its_sections_together(workspace, scored):
    truth, _, probability = scored
    volume = only(evaluate(RUN, workspace))
    total = MaskTally()
    for t, p in zip(truth, probability, strict=True):
        total += count_mask(t, SectionMask.of_truth(t, (4.0, 4.0), 10.0), p >= 128, p)[0]
    model = volume.scores.model
    assert model.tolerance_nm == 10
    for name, value in total.values().items():
        if isinstance(value, NotDefined):
            assert (getattr(model, name), model.undefined[name]) == (None, value.why)
        else:
            assert getattr(model, name) == pytest.approx(value), name
    assert model.merges == sum(section.merges for section in volume.per_section)
    assert all(len(section.merged_at) == min(20, section.merges) for section in volume.per_section)
    assert set(model.undefined) == {"iou_outside_band"}
    assert model.warping_error is None


def test_the_warping_error_is_taken_where_it_is_asked_for(workspace):
    image, truth = tissue((2, 64, 64))
    torn = truth.copy()
    torn[:, 20:44] = 0
    add_volume(workspace, "fly", image, truth)
    add_baseline(workspace, RUN, "fly", torn)
    add_model(workspace, RUN, "fly", truth * np.uint8(255))
    scores = only(evaluate(RUN, workspace, full=True)).scores
    total = WarpingSums()
    for t, mask in zip(truth, torn, strict=True):
        total += WarpingSums.count(*compare_section(t, mask, (4.0, 4.0), 10.0))
    assert 0 < scores.baseline.warping_error == total.error < (truth != torn).mean()
    assert scores.model.warping_error == 0


def test_evaluation_is_json(workspace, scored):
    values = json.loads(evaluate(RUN, workspace).model_dump_json())
    assert values["run"] == RUN
    assert values["model"]["name"] == "unet-em"
    assert 0 < values["volumes"][0]["scores"]["model"]["rand"]["value"] <= 1


def test_no_such_run(workspace):
    with pytest.raises(WorkspaceError, match="no such run"):
        evaluate("never", workspace)
