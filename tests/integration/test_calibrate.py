"""A model is calibrated after its training: other probabilities, the same weights, the same masks everywhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from segem.config import ExecutionConfig, Manifest, RefineConfig, RuntimeName, SegmentConfig, TrainConfig
from segem.errors import ConfigError, InputError
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.normalize import zscore
from segem.learn.artefact import WEIGHTS, Artefact, find_model, load_artefact, load_net, save_artefact
from segem.learn.operating_point import choose_merge_below
from segem.learn.predict import predict_section
from segem.records.card import Calibration
from segem.records.expected import Abstains, Expected
from segem.stages.reporting.evaluate import evaluate
from segem.stages.reporting.expected import NO_REFERENCE
from segem.stages.segmentation.crf import refine_volume
from segem.stages.segmentation.segment import segment
from segem.stages.training.calibrate import calibrate_model, keep_mask
from segem.stages.training.train import train
from tests.integration.test_train import entry, labelled

QUIET = ExecutionConfig(device="cpu")
SPLIT = {"train": [0, 3], "validation": [3, 4], "test": [4, 5]}
CONFIG = TrainConfig(architecture={"features": 2, "depth": 2}, steps=20, batch=2, crop_px=64, seed=3)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return Manifest(name="m", volumes=(entry(tmp_path / "a", split=SPLIT),))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of models: `mine`, and `plain` as it was before models were calibrated."""
    root = tmp_path_factory.mktemp("models")
    space = Workspace(root / "w")
    space.prepare()
    torch.set_num_threads(1)
    learned = Manifest(name="m", volumes=(entry(root / "a", split=SPLIT),))
    made = load_artefact(train(learned, "mine", CONFIG, space, device="cpu").path)
    net = load_net(made, calibrate=False)
    with torch.no_grad():
        net.get_parameter("head.bias").add_(2)  # far too sure of membrane, however well the training went
    volume = Volume.open(space.volume("tissue"))
    probability = predict_section(net, zscore(np.asarray(volume.raw[:1]), volume.statistics))
    # However such a short training goes, masks hold both classes: three tenths of this section are membrane.
    threshold = float(np.quantile(probability, 0.7))
    card = made.card.model_copy(update={"name": "plain", "calibration": Calibration(), "threshold": threshold})
    save_artefact(space.models / "plain" / "1", card, net)
    return space.models


@pytest.fixture
def plain(models: Path, workspace: Workspace) -> Artefact:
    """Return the model `plain` of a workspace that holds a copy of both."""
    shutil.copytree(models, workspace.models, dirs_exist_ok=True)
    return find_model("plain", workspace)


def layers(workspace: Workspace, run: str) -> tuple[np.ndarray, np.ndarray]:
    volume = Volume.open(workspace.result(run, "tissue"))
    return np.asarray(volume.raw[:], np.int16), np.asarray(volume.label("membrane")[:])


def test_probabilities_change_and_weights_and_masks_do_not(
    workspace: Workspace, manifest: Manifest, plain: Artefact
) -> None:
    result = calibrate_model("plain", manifest, "new", workspace, device="cpu")
    new = find_model("new", workspace)
    assert (new.path / WEIGHTS).read_bytes() == (plain.path / WEIGHTS).read_bytes()
    assert new.digest != plain.digest
    calibration = new.card.calibration
    assert calibration.line == (result.scale, result.bias) != (1, 0)
    assert calibration.ece_before is not None
    assert calibration.ece_validation is not None
    assert calibration.ece_validation < calibration.ece_before
    assert [(part.volume, part.sections) for part in calibration.fitted_on] == [("tissue", (3, 4))]
    (score,) = new.card.scores
    assert score.sections == (4, 5)
    assert score.ece is not None
    assert new.card.trained_on == plain.card.trained_on
    assert new.card.reference is not None
    (reference,) = new.card.reference.volumes
    assert (reference.volume, reference.sections, reference.seen_sections) == ("tissue", (3, 4), 3)
    merge_below = new.card.merge_below
    assert result.merge_below == merge_below is not None
    sections = [labelled(workspace, "tissue", 3)]
    assert merge_below == choose_merge_below(load_net(new), sections)

    # A card that says another limit, or none, is that of the same model: no block is computed again for it.
    other = new.card.model_copy(update={"merge_below": None})
    assert save_artefact(workspace.models / "other" / "1", other, load_net(new, calibrate=False)).digest == new.digest

    segment("tissue", "r", SegmentConfig(model="plain", runtime="torch"), QUIET, workspace)
    before = layers(workspace, "r")
    calibrated = SegmentConfig(model="new", runtime="torch")
    with pytest.raises(ConfigError, match="made in another way"):
        segment("tissue", "r", calibrated, QUIET, workspace)
    replaced = segment("tissue", "r", calibrated, QUIET, workspace, replace=True)
    assert replaced.computed == replaced.blocks, "blocks of an uncalibrated run are none of a calibrated one"
    after = layers(workspace, "r")
    (found,) = evaluate("r", workspace).volumes
    assert isinstance(found.expected, Expected | Abstains)
    assert found.expected != Abstains(abstains=NO_REFERENCE)
    # A probability on the edge between two stored values may be rounded to either: single voxels, where a mask
    # that began a step too early or too late would change all those of one value.
    least = before[0][before[1] == 1].min()
    changed = before[1] != after[1]
    assert np.isin(before[0][changed], [least - 1, least]).all()
    assert changed.sum() <= 5 < 50 < min((before[0] == value).sum() for value in (least - 1, least))
    assert 0 < before[1].mean() < 1
    assert np.abs(after[0] - before[0]).mean() > 1

    # A second calibration starts from the net, not from the first one.
    calibrate_model("new", manifest, "newer", workspace, device="cpu")
    newer = find_model("newer", workspace).card
    assert newer.calibration.line == pytest.approx(calibration.line, abs=0.01)
    assert newer.threshold == new.card.threshold


def test_every_runtime_and_a_crf_see_calibrated_probabilities(
    workspace: Workspace, manifest: Manifest, plain: Artefact
) -> None:
    calibrate_model("plain", manifest, "new", workspace, device="cpu")

    def found(run: str, runtime: RuntimeName, model: str = "new", **more: object) -> np.ndarray:
        config = SegmentConfig(**({"model": model, "runtime": runtime, "int8_tolerance": 0.5} | more))
        segment("tissue", run, config, QUIET, workspace)
        return layers(workspace, run)[0]

    exact, uncalibrated = found("torch", "torch"), found("plain", "torch", model="plain")
    moved = np.abs(exact - uncalibrated).mean()
    assert moved > 1
    assert np.abs(found("gaussian", "torch", stitch="gaussian", tile_px=48) - exact).mean() < 0.2 * moved
    assert np.abs(found("openvino", "openvino") - exact).max() <= 1
    assert np.abs(found("int8", "openvino-int8") - exact).mean() < 0.5 * moved
    refined = []
    for run in ("torch", "plain"):
        refine_volume("tissue", f"{run}-crf", RefineConfig(of=run, operating_point=0.5), QUIET, workspace)
        refined.append(layers(workspace, f"{run}-crf")[0])
    assert np.abs(refined[0] - refined[1]).mean() > 0.5 * moved


def test_sections_a_model_learned_from_calibrate_nothing(workspace: Workspace, tmp_path: Path, plain: Artefact) -> None:
    def refused(split: dict[str, list[int]]) -> str:
        manifest = Manifest(name="m", volumes=(entry(tmp_path / "a", split=split),))
        with pytest.raises(ConfigError, match="sections it learned from") as caught:
            calibrate_model("plain", manifest, "new", workspace, device="cpu")
        return str(caught.value)

    assert "found section 2." in refused({"train": [0, 2], "validation": [2, 4]})
    assert "found sections 0 to 1." in refused({"train": [2, 3], "validation": [3, 4], "test": [0, 2]})
    assert not (workspace.models / "new").exists()


def test_sections_that_chose_the_threshold_score_nothing(workspace: Workspace, tmp_path: Path, plain: Artefact) -> None:
    split = {"train": [0, 3], "validation": [4, 5], "test": [3, 4]}
    manifest = Manifest(name="m", volumes=(entry(tmp_path / "a", split=split),))
    with pytest.raises(ConfigError, match=r"cannot be scored on sections it chose its threshold on.*found section 3"):
        calibrate_model("plain", manifest, "new", workspace, device="cpu")


def test_a_threshold_is_chosen_anew_where_it_is_asked_for(
    workspace: Workspace, manifest: Manifest, plain: Artefact, tmp_path: Path
) -> None:
    new = find_model("mine", workspace)
    wrong = new.card.model_copy(update={"name": "wrong", "threshold": 0.9})
    save_artefact(workspace.models / "wrong" / "1", wrong, load_net(new, calibrate=False))
    kept = calibrate_model("wrong", manifest, "kept", workspace, device="cpu")
    chosen = calibrate_model("wrong", manifest, "chosen", workspace, choose=True, device="cpu")
    assert kept.threshold > 0.85
    assert chosen.threshold == pytest.approx(new.card.threshold, abs=0.03)
    (before,), (after,) = kept.scores, chosen.scores
    assert after.iou > before.iou + 0.02
    card = find_model("chosen", workspace).card
    assert card.trained_on[0] == wrong.trained_on[0]
    assert [(part.train, part.validation) for part in card.trained_on[1:]] == [((0, 0), (3, 4))]
    assert card.scores == chosen.scores, "an IoU of other masks is none of this model"

    # What chose a threshold judges nothing, under whatever name.
    twice = (
        entry(tmp_path / "a", split={"train": [0, 2], "validation": [3, 4]}),
        entry(tmp_path / "a", "again", split={"train": [0, 2], "validation": [4, 5], "test": [3, 4]}),
    )
    other = load_artefact(plain.path)
    free = other.card.model_copy(update={"name": "free", "trained_on": ()})
    save_artefact(workspace.models / "free" / "1", free, load_net(other, calibrate=False))
    with pytest.raises(ConfigError, match="cannot be scored on sections it chose its threshold on"):
        calibrate_model("free", Manifest(name="m", volumes=twice), "no", workspace, device="cpu")


def test_a_report_names_the_sections_that_a_model_knows(
    workspace: Workspace, manifest: Manifest, plain: Artefact
) -> None:
    strange = plain.card.model_copy(update={"name": "strange", "trained_on": ()})
    save_artefact(workspace.models / "strange" / "1", strange, load_net(plain, calibrate=False))
    calibrate_model("strange", manifest, "own", workspace, choose=True, device="cpu")

    def known_to(model: str) -> list[str]:
        segment("tissue", model, SegmentConfig(model=model, runtime="torch"), QUIET, workspace)
        (scores,) = evaluate(model, workspace).volumes
        return [warning for warning in scores.warnings if "of this volume" in warning]

    learned = (
        "the model was trained on sections 0 to 2 of this volume: scores there do not show how it does on new data"
    )
    threshold = "the threshold of the model, or of its base model"
    chose = f"{threshold}, was chosen on section 3 of this volume: scores there do not show how it does on new data"
    fitted = (
        "the probabilities of the model were calibrated on section 3 of this volume: the calibration error there does "
        "not show how it does on new data"
    )
    assert known_to("plain") == [learned, chose]
    assert known_to("own") == [chose, fitted]


def test_truth_of_one_class_calibrates_nothing(workspace: Workspace, tmp_path: Path, plain: Artefact) -> None:
    blank = entry(tmp_path / "b", "blank", SPLIT, change=lambda truth: truth.fill(0))
    with pytest.raises(InputError, match="the test labels hold no membrane"):
        calibrate_model("plain", Manifest(name="m", volumes=(blank,)), "new", workspace, device="cpu")


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.725, 0.95])
@pytest.mark.parametrize("before", [Calibration(), Calibration(scale=2, bias=1.3)])
def test_a_moved_threshold_cuts_the_same_mask(threshold: float, before: Calibration) -> None:
    logits = np.linspace(-8, 8, 100_001)

    def mask(calibration: Calibration, threshold: float) -> np.ndarray:
        p = 1 / (1 + np.exp(-(calibration.scale * logits + calibration.bias)))
        return np.rint(255 * p) >= round(255 * threshold, 6)

    found = Calibration(scale=0.65, bias=-0.58)
    moved, at = keep_mask(found, before, threshold)
    assert np.array_equal(mask(before, threshold), mask(moved, at))
    assert moved.scale == found.scale
    assert abs(moved.bias - found.bias) < 0.1


@pytest.mark.parametrize("name", ["unet-em", "unet"])
def test_a_calibrated_model_hides_nothing_that_came_with_segem(
    workspace: Workspace, manifest: Manifest, name: str
) -> None:
    with pytest.raises(ConfigError, match="this name is taken"):
        calibrate_model("unet-em", manifest, name, workspace)
