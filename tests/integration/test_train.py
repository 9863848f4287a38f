"""From labelled stacks to a model: repeatable, honest about its test sections, and fit for use."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from safetensors.torch import load_file

from segem.config import (
    ExecutionConfig,
    LabelSource,
    Manifest,
    SegmentConfig,
    Split,
    SynthConfig,
    TrainConfig,
    VolumeEntry,
)
from segem.errors import ConfigError, InputError, SegemError, WorkspaceError
from segem.io.blocks import read_block
from segem.io.run import load_run
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.normalize import zscore
from segem.kernels.synth import synthesize
from segem.learn.artefact import WEIGHTS, find_model, load_artefact, load_net, save_artefact
from segem.learn.models.registry import ZOO, build
from segem.learn.operating_point import calibrate, choose_merge_below, choose_threshold
from segem.learn.sections import LabelledSection
from segem.learn.train import fit
from segem.records.card import LearnedAt, MeasuredHalo
from segem.stages.segmentation.segment import segment
from segem.stages.training import labelled as labelled_module
from segem.stages.training import memory as memory_module
from segem.stages.training import train as train_module
from segem.stages.training.job import Terms
from segem.stages.training.train import TrainResult, train
from segem.stages.volumes.ingest import ingest
from tests.nets import UNKNOWN_HALO

SHAPE = (5, 96, 96)
SPLIT = {"train": [0, 3], "validation": [3, 4], "test": [4, 5], "weight": 2.0}
CONFIG = TrainConfig(architecture={"features": 2, "depth": 2}, steps=20, batch=2, crop_px=64, seed=3)
SHORT = CONFIG.model_copy(update={"steps": 3})
QUIET = ExecutionConfig(device="cpu")


pytestmark = pytest.mark.usefixtures("one_thread")


def entry(
    folder: Path, name: str = "tissue", split: dict[str, Any] | None = SPLIT, change: Any = None, seed: int = 1
) -> VolumeEntry:
    """Write a synthetic volume; `change` may edit its truth in place."""
    em = synthesize(SynthConfig(shape=SHAPE, seed=seed))
    if change is not None:
        change(em.truth)
    folder.mkdir(exist_ok=True)
    tifffile.imwrite(folder / f"{name}.tif", em.image, photometric="minisblack")
    tifffile.imwrite(folder / f"{name}-truth.tif", em.truth * 255, photometric="minisblack")
    return VolumeEntry(
        name=name,
        source=folder / f"{name}.tif",
        voxel_nm=(50, 4, 4),
        labels=LabelSource(source=folder / f"{name}-truth.tif", membrane="nonzero"),
        split=None if split is None else Split.model_validate(split),
    )


def trained(workspace: Workspace, *entries: VolumeEntry, config: TrainConfig = SHORT, **more: Any) -> TrainResult:
    manifest = Manifest(name="m", volumes=entries)
    return train(manifest, "mine", config, workspace, device="cpu", **more)


def refused(workspace: Workspace, kind: type[SegemError], *entries: VolumeEntry) -> str:
    with pytest.raises(kind) as caught:
        trained(workspace, *entries)
    assert not list(workspace.models.rglob("model.json"))
    return str(caught.value)


def test_the_card_says_what_the_model_is_and_it_segments(workspace: Workspace, tmp_path: Path) -> None:
    coarser = entry(tmp_path / "a", "other", None, seed=2).model_copy(update={"voxel_nm": (40, 6, 5)})
    volumes = entry(tmp_path / "a"), coarser
    result = trained(workspace, *volumes, config=CONFIG, terms=Terms("CC0-1.0", "Someone"))
    artefact = find_model("mine", workspace)
    card = artefact.card
    assert artefact.path == result.path
    used = []
    # Without a split the last fifth validates.
    for name, cut, stop, share in (("tissue", 3, 4, 2 / 3), ("other", 4, 5, 1 / 3)):
        noted = Volume.open(workspace.volume(name)).attributes
        known = {
            "train_digests": tuple(noted["section_digests"][:cut]),
            "validation_digests": tuple(noted["section_digests"][cut:stop]),
        }
        parts = {"train": (0, cut), "validation": (cut, stop), "share": pytest.approx(share, abs=1e-4)}
        used.append({"volume": name, "source_digest": noted["source_digest"]} | parts | known)
        assert len({*noted["section_digests"]} - {""}) == 5
    assert [part.model_dump() for part in card.trained_on] == used
    assert card.learned_at == LearnedAt(pixel_nm=(4, 6), section_nm=(40, 50))
    assert card.scores == result.scores
    (score,) = card.scores
    assert (score.volume, score.sections) == ("tissue", (4, 5))
    assert 0 < score.iou < 1
    assert (card.licence, card.citation) == ("CC0-1.0", "Someone")
    training = card.training
    assert training is not None
    assert training.steps == result.steps == 20
    assert (training.seed, training.crop_px, training.batch, training.base) == (3, 64, 2, None)
    assert training.options == card.options
    assert training.final_loss is not None
    assert training.final_loss > 0
    assert training.validation_iou == result.validation_iou
    assert card.calibration.line != (1, 0)
    assert card.calibration.ece_validation is not None
    assert 0 < card.calibration.ece_validation < 1
    assert score.ece is not None
    assert 0 <= score.ece < 1
    assert set(card.versions) == {"segem", "runtime", "python"}

    validation = [labelled(workspace, "tissue", 3), labelled(workspace, "other", 4)]
    # A trained net lies in memory otherwise than a loaded one, and so rounds otherwise.
    assert card.calibration.line == pytest.approx(
        calibrate(load_net(artefact, calibrate=False), validation).line, rel=1e-4
    )
    chosen = choose_threshold(load_net(artefact), validation)
    assert (card.threshold, result.validation_iou) == (chosen[0], pytest.approx(chosen[1], abs=1e-4))
    assert card.merge_below == choose_merge_below(load_net(artefact), validation) is not None

    # What it reached on the way, and what it finds, in the folder of the version and nowhere else.
    (last,) = json.loads((result.path / "training.json").read_text(encoding="utf-8"))
    assert (last["step"], round(last["validation_iou"], 4)) == (20, result.validation_iou)
    with Image.open(result.path / "training.png") as picture:
        # Three panels, enlarged to about 400 px, with room between and around.
        assert picture.size[0] == 3 * 4 * SHAPE[2] + 2 * 8 + 2 * 16
    assert not (workspace.models / "mine" / "training.png").exists()

    segment("tissue", "r", SegmentConfig(model="mine"), QUIET, workspace)
    mask = np.asarray(Volume.open(workspace.result("r", "tissue")).label("membrane")[...])
    assert mask.shape == SHAPE
    assert 0 < mask.mean() < 1


@pytest.mark.parametrize(("architecture", "halo_px", "mode"), [("dilated", 6, "crop"), ("pooled", None, "gaussian")])
def test_a_halo_that_no_architecture_gives_is_measured_and_decides_how_tiles_are_stitched(
    workspace: Workspace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    architecture: str,
    halo_px: int | None,
    mode: str,
) -> None:
    monkeypatch.setitem(ZOO, architecture, UNKNOWN_HALO[architecture])
    trained(workspace, entry(tmp_path), config=SHORT.model_copy(update={"model": architecture, "architecture": {}}))
    card = find_model("mine", workspace).card
    assert card.halo == (None if halo_px is None else MeasuredHalo(px=halo_px, tolerance=1e-5))
    segment("tissue", "r", SegmentConfig(model="mine", tile_px=32), QUIET, workspace)
    record = load_run(workspace, "r").volumes["tissue"].membrane
    assert record is not None
    tiling = record.phases[0].tiling
    assert tiling.mode == mode
    assert tiling.halo[1] == (halo_px or 0)


def test_the_halo_of_an_architecture_that_gives_one_is_not_measured(workspace: Workspace, tmp_path: Path) -> None:
    trained(workspace, entry(tmp_path))
    assert find_model("mine", workspace).card.halo is None


def labelled(workspace: Workspace, name: str, z: int) -> LabelledSection:
    volume = Volume.open(workspace.volume(name))
    image = zscore(np.asarray(volume.raw[z : z + 1]), volume.statistics)
    return LabelledSection(name, image, np.asarray(volume.label("truth")[z]))


def test_the_same_steps_give_the_same_weights_and_test_truth_never_matters(tmp_path: Path) -> None:
    def spoil_test(truth: np.ndarray) -> None:
        truth[4] = 1 - truth[4]

    def spoil_train(truth: np.ndarray) -> None:
        truth[0] = 1 - truth[0]

    made = {}
    for name, change in {"first": None, "again": None, "test": spoil_test, "train": spoil_train}.items():
        space = Workspace(tmp_path / name)
        result = trained(space, entry(tmp_path / f"{name}-data", change=change), config=CONFIG)
        made[name] = (load_file(result.path / WEIGHTS), result.threshold, result.scores)

    assert same(made["first"][0], made["again"][0])
    assert made["first"][1:] == made["again"][1:]
    assert same(made["first"][0], made["test"][0])
    assert made["first"][1] == made["test"][1]
    assert made["first"][2] != made["test"][2]
    assert not same(made["first"][0], made["train"][0])


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(bool((one[key] == other[key]).all()) for key in one)


def test_test_sections_are_read_after_training_only(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[object] = []

    def noted(call: Callable[..., Any], event: Callable[..., object]) -> Callable[..., Any]:
        def inner(*args: Any, **kwargs: Any) -> Any:
            events.append(event(*args))
            return call(*args, **kwargs)

        return inner

    monkeypatch.setattr(labelled_module, "read_block", noted(read_block, lambda _, box, *__: box.start[0]))
    monkeypatch.setattr(train_module, "fit", noted(fit, lambda *_: "fit"))
    trained(workspace, entry(tmp_path / "a"))
    at = events.index("fit")
    assert {*events[:at]} == {0, 1, 2, 3}
    # Then scores, and last what estimates rest on: labels of validation sections alone.
    scored = next(k for k in range(at + 1, len(events)) if events[k] != 4)
    assert {*events[at + 1 : scored]} == {4}
    assert {*events[scored:]} == {3}


def test_a_split_beyond_the_stack_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    beyond = entry(tmp_path / "a", split=SPLIT | {"test": [4, 6]})
    told = refused(workspace, ConfigError, beyond)
    assert "tissue: the split names sections that do not exist; expected 0 to 5, found 4 to 6. Fix: " in told


def test_labels_of_one_class_are_refused_with_the_polarity(workspace: Workspace, tmp_path: Path) -> None:
    def clear(truth: np.ndarray) -> None:
        truth[...] = 0

    def clear_training(truth: np.ndarray) -> None:
        truth[:3] = 0

    told = refused(workspace, InputError, entry(tmp_path / "a", change=clear))
    assert "the test labels hold no membrane, so there is nothing to score" in told
    told = refused(workspace, InputError, entry(tmp_path / "b", "other", change=clear_training))
    assert "the train labels hold one class only" in told
    assert "polarity (membrane: zero or nonzero)" in told


def test_a_net_that_no_machine_holds_is_refused_before_anything_is_read(workspace: Workspace, tmp_path: Path) -> None:
    huge = SHORT.model_copy(update={"architecture": {"features": 256, "depth": 7}})
    with pytest.raises(ConfigError, match=r"unet: the net is too large for this machine; .* for 31,853,412,609 param"):
        trained(workspace, entry(tmp_path / "a"), config=huge)
    assert workspace.volumes() == []


def test_volumes_without_labels_are_refused(workspace: Workspace, tmp_path: Path) -> None:
    bare = entry(tmp_path / "a").model_copy(update={"labels": None})
    assert "no volume of this manifest has labels" in refused(workspace, ConfigError, bare)


def test_volumes_without_labels_are_left_out(workspace: Workspace, tmp_path: Path) -> None:
    bare = entry(tmp_path / "a", "bare").model_copy(update={"labels": None})
    result = trained(workspace, entry(tmp_path / "a"), bare)
    assert [part.volume for part in load_artefact(result.path).card.trained_on] == ["tissue"]
    assert workspace.volumes() == ["tissue"]


def test_one_section_cannot_both_train_and_validate(workspace: Workspace, tmp_path: Path) -> None:
    one = entry(tmp_path / "a", split=None)
    for path in (one.source, tmp_path / "a" / "tissue-truth.tif"):
        tifffile.imwrite(path, tifffile.imread(path)[:1], photometric="minisblack")
    assert "too few sections to train and validate; expected 2 or more, found 1" in refused(workspace, ConfigError, one)


@pytest.mark.parametrize("layer", ["0", "labels/truth/0"])
@pytest.mark.parametrize("damage", ["lost", "flipped"])
def test_a_damaged_volume_is_one_clear_error(workspace: Workspace, tmp_path: Path, layer: str, damage: str) -> None:
    volume = entry(tmp_path / "a")
    ingest(volume.ingest_config(), workspace)
    shard = workspace.volume("tissue") / layer / "c" / "0" / "0" / "0"
    content = bytearray(shard.read_bytes())
    content[50] ^= 1
    shard.write_bytes(content)
    if damage == "lost":
        shard.unlink()
        # A lost file is noticed and ingested again before training.
        trained(workspace, volume)
        assert shard.exists()
        return
    with pytest.raises(WorkspaceError, match="Fix: run `segem ingest` for tissue with --again"):
        trained(workspace, volume)
    ingest(volume.ingest_config(), workspace, again=True)
    trained(workspace, volume)


def test_fine_tuning_starts_at_the_weights_of_the_base_model_and_keeps_its_history(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    first = trained(workspace, entry(tmp_path / "d"))
    still = SHORT.model_copy(update={"learning_rate": 1e-12, "architecture": {}})
    second = trained(workspace, entry(tmp_path / "d"), config=still, base=str(first.path))
    weights, kept = (load_file(result.path / WEIGHTS) for result in (first, second))
    assert all(torch.allclose(weights[key], kept[key], atol=1e-6) for key in weights if key.endswith("conv.weight"))
    assert torch.allclose(weights["head.weight"], kept["head.weight"], atol=1e-6)
    card = load_artefact(second.path).card
    assert card.options == {"context_sections": 1, "features": 2, "depth": 2, "shuffle_px": 1}
    assert card.training.base.digest == load_artefact(first.path).digest
    assert card.training.base.training == load_artefact(first.path).card.training
    assert len(card.trained_on) == 2


def test_a_fine_tuned_model_keeps_the_terms_of_its_base(workspace: Workspace, tmp_path: Path) -> None:
    source = entry(tmp_path / "d")
    trained(workspace, source, terms=Terms("MIT", "Ada 2026"))
    further = SHORT.model_copy(update={"architecture": {}})
    card = load_artefact(trained(workspace, source, config=further, base="mine").path).card
    assert (card.licence, card.citation) == ("MIT", "Ada 2026")
    own = Terms("CC0-1.0", "Bob 2026")
    card = load_artefact(trained(workspace, source, config=further, base="mine", terms=own).path).card
    assert (card.licence, card.citation) == ("CC0-1.0", "Bob 2026; Ada 2026")
    card = load_artefact(trained(workspace, source, config=further, base="mine", terms=own).path).card
    assert card.citation == "Bob 2026; Ada 2026"


def test_a_smaller_net_learns_from_a_teacher_and_says_so(workspace: Workspace, tmp_path: Path) -> None:
    source, terms = entry(tmp_path / "d"), Terms("CC-BY-4.0", "Ada 2026")
    teacher = load_artefact(trained(workspace, source, terms=terms).path)
    small = {"architecture": {"features": 1, "depth": 2}, "teacher": "mine"}
    card = load_artefact(trained(workspace, source, config=SHORT.model_copy(update=small)).path).card
    assert card.training is not None
    assert card.training.teacher is not None
    assert (card.options["features"], card.training.base, card.training.teach) == (1, None, 2.0)
    assert (card.training.teacher.digest, card.training.teacher.training) == (teacher.digest, teacher.card.training)
    # What the teacher has seen, this net knows too.
    assert card.trained_on[1:] == teacher.card.trained_on
    assert (card.licence, card.citation) == ("CC-BY-4.0", "Ada 2026")
    for split in ({"train": [3, 4], "validation": [4, 5], "test": [0, 2]}, {"train": [3, 5], "validation": [2, 3]}):
        taught = SHORT.model_copy(update={"teacher": str(teacher.path)})
        with pytest.raises(ConfigError, match=f"sections it learned from.*unseen by {teacher.path}"):
            trained(workspace, entry(tmp_path / "d", split=split), config=taught)
    patches = {"model": "patchnet", "architecture": {}, "teacher": str(teacher.path)}
    with pytest.raises(ConfigError, match="patchnet: a net that learns from patches cannot have a teacher"):
        trained(workspace, source, config=SHORT.model_copy(update=patches))
    three = {"architecture": {"context_sections": 3, "features": 1, "depth": 2}, "teacher": str(teacher.path)}
    with pytest.raises(ConfigError, match=r"another number of sections; expected --context-sections 1, found .* 3"):
        trained(workspace, source, config=SHORT.model_copy(update=three))


@pytest.mark.usefixtures("warnings_on_stderr")
def test_a_teacher_of_other_terms_or_other_pixels_is_not_taken_in_silence(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = entry(tmp_path / "d")
    base = trained(workspace, source, terms=Terms("CC-BY-4.0"))
    teacher = trained(workspace, source, terms=Terms("CC-BY-NC-SA-3.0"))
    taught = SHORT.model_copy(update={"architecture": {}, "teacher": str(teacher.path)})
    with pytest.raises(ConfigError, match=r"different licences; found CC-BY-4.0; CC-BY-NC-SA-3.0\. Fix: .*--licence"):
        trained(workspace, source, config=taught, base=str(base.path))
    said = Terms("CC-BY-NC-SA-3.0")
    card = load_artefact(trained(workspace, source, config=taught, base=str(base.path), terms=said).path).card
    assert card.licence == "CC-BY-NC-SA-3.0"
    told = "are not as large as those that the teacher learned at"
    assert told not in capsys.readouterr().err
    coarse = entry(tmp_path / "e", "coarse", seed=2).model_copy(update={"voxel_nm": (50, 8, 8)})
    trained(workspace, coarse, config=taught.model_copy(update={"architecture": SHORT.architecture}))
    assert f"warning: coarse: its pixels of 8 x 8 nm {told}" in capsys.readouterr().err


@pytest.mark.usefixtures("warnings_on_stderr")
def test_fine_tuning_weights_of_unknown_origin_is_warned_of(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, told = trained(workspace, entry(tmp_path / "d")), "does not say what it learned from"
    further = SHORT.model_copy(update={"architecture": {}})
    trained(workspace, entry(tmp_path / "d"), config=further, base=str(made.path))
    assert told not in capsys.readouterr().err
    card = load_artefact(made.path).card
    save_artefact(made.path, card.model_copy(update={"trained_on": ()}), load_net(load_artefact(made.path)))
    trained(workspace, entry(tmp_path / "d"), config=further, base=str(made.path))
    assert f"warning: {made.path}: its card {told}" in capsys.readouterr().err


@pytest.mark.usefixtures("warnings_on_stderr")
def test_labels_that_look_inverted_are_warned_of(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def inverted(truth: np.ndarray) -> None:
        truth[...] = 1 - truth

    trained(workspace, entry(tmp_path / "a", "upright"), entry(tmp_path / "b", "inverted", change=inverted, seed=2))
    said = capsys.readouterr().err
    assert "warning: inverted: the labels look inverted, membrane where K-means finds none (section 0" in said
    assert "upright: the labels" not in said


@pytest.mark.parametrize(
    ("split", "told"),
    [
        (
            {"train": [3, 4], "validation": [4, 5], "test": [0, 2]},
            "scored on sections it learned from.*found sections 0 to 1",
        ),
        ({"train": [3, 5], "validation": [2, 3]}, "calibrated on sections it learned from.*found section 2"),
    ],
)
def test_what_a_base_model_learned_from_neither_calibrates_nor_scores(
    workspace: Workspace, tmp_path: Path, split: dict[str, list[int]], told: str
) -> None:
    first = trained(workspace, entry(tmp_path / "d"))
    again = SHORT.model_copy(update={"architecture": {}})
    with pytest.raises(ConfigError, match=f"tissue: a model cannot be {told}") as caught:
        trained(workspace, entry(tmp_path / "d", split=split), config=again, base=str(first.path))
    assert f"unseen by {first.path}" in str(caught.value)
    # Its validation sections left no trace in the weights.
    other = {"train": [0, 3], "validation": [4, 5], "test": [3, 4]}
    trained(workspace, entry(tmp_path / "d", split=other), config=again, base=str(first.path))


def test_what_a_model_learned_from_is_known_in_a_stack_that_has_grown(workspace: Workspace, tmp_path: Path) -> None:
    first, again = trained(workspace, entry(tmp_path / "d")), SHORT.model_copy(update={"architecture": {}})
    for file in ("tissue", "tissue-truth"):
        stack = tifffile.imread(tmp_path / "d" / f"{file}.tif")
        new = stack[:, ::-1].copy()
        tifffile.imwrite(tmp_path / f"{file}.tif", np.concatenate([new, stack[1:]]), photometric="minisblack")
    # What were sections 1 to 4 are 5 to 8 now, and the model learned from 0 to 2.
    grown = entry(tmp_path / "d").model_copy(
        update={
            "name": "grown",
            "source": tmp_path / "tissue.tif",
            "labels": LabelSource(source=tmp_path / "tissue-truth.tif", membrane="nonzero"),
        }
    )

    def split(test: list[int]) -> VolumeEntry:
        return grown.model_copy(
            update={"split": Split.model_validate({"train": [0, 3], "validation": [3, 5], "test": test})}
        )

    with pytest.raises(
        ConfigError, match=r"grown: a model cannot be scored on sections it learned from.*found sections 5 to 6"
    ):
        trained(workspace, split([5, 9]), config=again, base=str(first.path))
    trained(workspace, split([7, 9]), config=again, base=str(first.path))


def test_one_volume_under_two_names_does_not_test_what_it_trained(workspace: Workspace, tmp_path: Path) -> None:
    other = {"train": [1, 2], "validation": [3, 4], "test": [0, 1]}
    twice = entry(tmp_path / "d"), entry(tmp_path / "d", "twin", split=other)
    told = refused(workspace, ConfigError, *twice)
    assert "twin: a model cannot be scored on sections it learned from" in told
    assert "unseen by the new model, found section 0" in told


def test_a_corrected_manifest_replaces_the_volume_of_the_wrong_one(workspace: Workspace, tmp_path: Path) -> None:
    right = entry(tmp_path / "d")
    wrong = right.model_copy(update={"labels": right.labels.model_copy(update={"membrane": "zero"})})
    trained(workspace, wrong)
    with pytest.raises(ConfigError, match=r"another volume of this name.*--replace to .* `train` or `retrain`"):
        trained(workspace, right)
    assert trained(workspace, right, replace=True).scores


def test_more_sections_than_memory_holds_are_refused_before_they_are_read(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_module, "_TRAINED", 10**9)
    told = refused(workspace, ConfigError, entry(tmp_path / "d"))
    assert "tissue: the training and validation sections do not fit into memory" in told
    assert "Fix: name fewer sections as train or validation in the manifest" in told


def test_no_part_of_a_split_sees_the_images_of_another(workspace: Workspace, tmp_path: Path) -> None:
    trained(workspace, entry(tmp_path / "source"))
    volume = Volume.open(workspace.volume("tissue"))
    train_part = labelled_module.read_labelled_sections(volume, (0, 3), 5)
    # The last section that trains would see the two that follow; it sees itself in their place.
    assert np.array_equal(train_part[2].image[2], train_part[2].image[3])
    assert np.array_equal(train_part[2].image[2], train_part[2].image[4])
    assert np.array_equal(train_part[2].image[0], train_part[0].image[2])
    # Seen twice, a section is in memory once.
    assert np.shares_memory(train_part[2].image[0], train_part[0].image[2])


def test_a_tested_section_sees_its_neighbours_as_in_a_run(workspace: Workspace, tmp_path: Path) -> None:
    trained(workspace, entry(tmp_path / "source"))
    volume = Volume.open(workspace.volume("tissue"))
    (alone,) = labelled_module.read_labelled_sections(volume, (4, 5), 3, seen=(0, volume.shape[0]))
    neighbours = [zscore(np.asarray(volume.raw[z]), volume.statistics) for z in (3, 4, 4)]
    assert np.array_equal(alone.image, np.stack(neighbours))


@pytest.mark.parametrize("pixel_nm", [(8.0, 12.0), (2.0, 3.0)])
def test_crops_of_other_pixel_sizes_only_are_refused(
    workspace: Workspace, tmp_path: Path, pixel_nm: tuple[float, float]
) -> None:
    with pytest.raises(ConfigError, match=r"tissue: .* pixel size that the net never sees.* found 4 x 4 nm"):
        trained(workspace, entry(tmp_path), config=SHORT.model_copy(update={"pixel_nm": pixel_nm}))


def test_a_model_of_single_sections_is_fine_tuned_to_three(workspace: Workspace, tmp_path: Path) -> None:
    source = entry(tmp_path / "source")
    first = trained(workspace, source)
    # The command line gives an option as text.
    wide = SHORT.model_copy(update={"architecture": {"context_sections": "3"}})
    second = trained(workspace, source, config=wide, base=str(first.path))
    card = load_artefact(second.path).card
    assert card.options == {"context_sections": 3, "features": 2, "depth": 2, "shuffle_px": 1}
    assert load_net(load_artefact(second.path)).state_dict()["down.0.0.weight"].shape[1] == 3
    with pytest.raises(ConfigError, match=r"not fewer; expected --context-sections 3 or more, found 1"):
        trained(
            workspace,
            source,
            config=SHORT.model_copy(update={"architecture": {"context_sections": "1"}}),
            base=str(second.path),
        )
    with pytest.raises(ConfigError, match=r"frozen encoder cannot learn to see more sections; expected .* 1, found 3"):
        trained(workspace, source, config=wide.model_copy(update={"freeze": "encoder"}), base=str(first.path))


def test_a_base_model_brings_its_architecture(workspace: Workspace, tmp_path: Path) -> None:
    trained(workspace, entry(tmp_path))
    with pytest.raises(ConfigError, match="has its architecture already"):
        trained(workspace, entry(tmp_path), config=SHORT.model_copy(update={"architecture": {"depth": 3}}), base="mine")


def test_a_model_that_was_deeply_supervised_is_a_model_like_any_other(workspace: Workspace, tmp_path: Path) -> None:
    options = {"features": 2, "depth": 3}
    deep = SHORT.model_copy(update={"deep_supervision": True, "architecture": options})
    made = load_artefact(trained(workspace, entry(tmp_path), config=deep).path)
    assert made.card.training.deep_supervision is True
    assert made.card.training.defects == 0.05
    assert load_net(made, calibrate=False).state_dict().keys() == build("unet", options).state_dict().keys()
    assert load_file(made.path / WEIGHTS).keys() == build("unet", options).state_dict().keys()


def test_deep_supervision_of_another_architecture_is_refused_before_anything_is_read(
    workspace: Workspace, tmp_path: Path
) -> None:
    other = TrainConfig(model="segnet", steps=3, deep_supervision=True)
    with pytest.raises(ConfigError, match="segnet: this net has no coarser outputs"):
        trained(workspace, entry(tmp_path), config=other)
    assert not workspace.volume("tissue").exists()


def test_an_encoder_that_has_learned_nothing_is_not_frozen(workspace: Workspace, tmp_path: Path) -> None:
    frozen = SHORT.model_copy(update={"freeze": "encoder"})
    with pytest.raises(ConfigError, match=r"learned nothing.*give --from or --pretrained"):
        trained(workspace, entry(tmp_path), config=frozen)


def test_a_checkpoint_is_taken_by_the_very_same_training_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace, often = Workspace(tmp_path / "w"), SHORT.model_copy(update={"checkpoint_steps": 1})
    source = entry(tmp_path / "d")

    def full(*_: object) -> None:
        raise WorkspaceError("the disk refused")

    def resumes(*entries: VolumeEntry, config: TrainConfig = often, **more: Any) -> bool:
        """Train up to the last step, where saving fails, and tell whether that resumed from a checkpoint."""
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(train_module, "save_version", full)
            with pytest.raises(WorkspaceError, match="the disk refused"):
                trained(workspace, *entries, config=config, **more)
        return "resuming from step 3" in capsys.readouterr().err

    assert not resumes(source)
    assert resumes(source)
    # How often one is written, and what validates, have no part in the weights.
    assert resumes(source, config=often.model_copy(update={"checkpoint_seconds": 1.0}))
    assert not resumes(source, config=often.model_copy(update={"seed": 4}))
    assert not resumes(source, config=often.model_copy(update={"learning_rate": 1e-4}))
    assert not resumes(source, config=often.model_copy(update={"defects": 0.5}))
    deeper = often.model_copy(update={"architecture": {"features": 2, "depth": 3}})
    assert not resumes(source, config=deeper)
    assert not resumes(source, config=deeper.model_copy(update={"deep_supervision": True}))
    assert not resumes(source.model_copy(update={"split": Split.model_validate(SPLIT | {"train": [0, 2]})}))
    other = Workspace(tmp_path / "o")
    plain = often.model_copy(update={"architecture": {}})
    assert not resumes(source, config=plain, base=str(trained(other, source).path))
    # The same pixels, of another size.
    assert not resumes(source.model_copy(update={"voxel_nm": (50, 8, 8)}), replace=True)
    assert resumes(source, replace=True)

    def spoil(truth: np.ndarray) -> None:
        truth[0] = 1 - truth[0]

    assert not resumes(entry(tmp_path / "d", change=spoil))
    assert resumes(entry(tmp_path / "d"))
    made = trained(workspace, source, config=often)
    assert made.steps == 3
    assert "resuming from step 3" in capsys.readouterr().err
    assert not resumes(source), "a finished training leaves no checkpoint of its own"


def test_the_architecture_of_a_base_model_is_not_ignored(workspace: Workspace, tmp_path: Path) -> None:
    trained(workspace, entry(tmp_path / "source"))
    other = TrainConfig(model="segnet", steps=3)
    with pytest.raises(ConfigError, match="expected --model unet, found --model segnet"):
        trained(workspace, entry(tmp_path / "source"), config=other, base="mine")
