"""Training in small: what is drawn, how sections are cut, when it stops and which threshold it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.transforms import Compose
from torch import nn

from segem.config import Precision, TrainConfig
from segem.errors import ConfigError, InputError, ModelError
from segem.learn import batches as batches_module
from segem.learn.batches import cut_crop, draw_batches
from segem.learn.checkpoint import Checkpoints
from segem.learn.learner import uses_mixed_precision
from segem.learn.models.registry import ZOO, build, encoder_of
from segem.learn.operating_point import calibrate, choose_threshold
from segem.learn.sections import LabelledSection
from segem.learn.train import fit
from segem.learn.watch import Snapshot, Watch

TINY = {"features": 2, "depth": 2}
QUICK = {"learning_rate": 0.02, "steps": 120, "crop_px": 32, "precision": "float32", "defects": 0.0}
"""Learns `striped` whatever the seed, and alike on processors with and without bfloat16."""


pytestmark = pytest.mark.usefixtures("one_thread")


def config(**more) -> TrainConfig:
    return TrainConfig(**({"architecture": TINY, "steps": 20, "batch": 2, "crop_px": 64} | more))


def striped(volume: str = "v", size: int = 96, weight: float = 1.0) -> LabelledSection:
    """Return a section whose membranes are dark rows, easy to learn."""
    truth = np.zeros((size, size), np.uint8)
    truth[::8] = truth[1::8] = 1
    return LabelledSection(volume, (0.5 - 2.0 * truth).astype(np.float32)[np.newaxis], truth, weight)


def test_volumes_are_drawn_as_often_as_their_weights_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches_module, "build_augmentation", lambda *_: Compose([]))
    flat = [
        LabelledSection(volume, np.full((1, 64, 64), value, np.float32), np.zeros((64, 64), np.uint8), weight)
        for volume, value, weight in (("a", 0.0, 3.0), ("b", 1.0, 1.0), ("b", 1.0, 1.0))
    ]
    batches = draw_batches(flat, config(batch=50))
    images = torch.cat([next(batches)[0] for _ in range(40)])
    assert images.shape == (2000, 1, 64, 64)
    # Of 2000 draws a quarter, with a standard deviation of 1 %: a volume counts by its weight, not by its sections.
    assert float(images.mean()) == pytest.approx(0.25, abs=0.05)


def test_a_seed_may_have_any_number_of_digits() -> None:
    assert fit([striped()], [striped()], config(steps=1, seed=10**30)).steps == 1


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_every_other_patch_shows_membrane_whatever_the_batch(monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    monkeypatch.setattr(batches_module, "build_augmentation", lambda *_: Compose([]))
    batches = draw_batches([striped()], TrainConfig(model="patchnet", steps=1, batch=batch))
    assert torch.cat([next(batches).truth for _ in range(6)]).flatten().tolist() == [0, 1] * 3 * batch


@pytest.mark.parametrize("shape", [(40, 40), (1, 300), (3, 5), (256, 256), (300, 40)])
def test_any_section_gives_a_whole_crop_of_itself(shape: tuple[int, int]) -> None:
    image = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    section = LabelledSection("v", np.stack([-image, image, -image]), (image % 2 == 0).astype(np.uint8))
    crop = cut_crop(section, image, 256, np.random.default_rng(0))
    assert crop["image"].shape == (3, 256, 256)
    assert crop["label"].shape == crop["weight"].shape == (1, 256, 256)
    assert np.isin(crop["image"][1], image).all()
    assert np.array_equal(crop["label"], crop["image"][1:2] % 2 == 0)
    assert np.array_equal(crop["weight"], crop["image"][1:2])


def test_looking_at_what_is_reached_changes_nothing_and_survives_a_kill(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ways = [striped()], [striped("w"), striped("x")]
    blind = fit(*ways, config(steps=6))
    assert [point.step for point in blind.history] == [6]
    monkeypatch.setattr("segem.learn.watch.SHARE_OF_TIME", 1e9)
    monkeypatch.setattr("segem.learn.watch.LOOKS", 1e9)
    often = config(steps=6, look_seconds=1e-9)
    shown: list[tuple[tuple[int, ...], int]] = []
    said: list[float | None] = []
    watched = fit(
        *ways,
        often,
        on_look=lambda probability, points: shown.append((probability.shape, len(points))),
        on_step=lambda now: said.append(now.validation_iou),
    )
    assert all(torch.equal(a, b) for a, b in zip(*(f.net.state_dict().values() for f in (blind, watched)), strict=True))
    assert shown == [((96, 96), number) for number in range(1, 7)]
    assert said == [point.validation_iou for point in watched.history[:6]]
    assert watched.history[-1].validation_iou == watched.validation_iou == blind.validation_iou

    def killed(_: object, points: Sequence[Snapshot]) -> None:
        if len(points) == 4:
            raise KeyboardInterrupt

    kept = Checkpoints(tmp_path / "c", 1e9, 1)
    with pytest.raises(KeyboardInterrupt):
        fit(*ways, often, on_look=killed, kept=kept)
    again = fit(*ways, often, kept=kept)
    assert [point.step for point in again.history] == [1, 2, 3, 4, 5, 6, 6]
    assert [p.validation_iou for p in again.history] == [p.validation_iou for p in watched.history]


def test_looks_take_a_twentieth_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("segem.learn.watch.time.monotonic", lambda: clock[0])
    watch, spent = Watch(10.0), 0.0
    while clock[0] < 3600:
        if watch.due():
            with watch.measure(clock[0]):
                clock[0] += 3.0
            spent += 3.0
        clock[0] += 1.0
    assert 0.04 < spent / clock[0] <= 0.05


def test_a_frozen_encoder_stays_as_it_is_and_the_rest_learns() -> None:
    start = build("unet", TINY)
    fitted = fit([striped()], [striped()], config(steps=3, freeze="encoder"), base=start)
    before, after = start.state_dict(), fitted.net.state_dict()
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert moved
    # Not even the statistics of its batch norm.
    assert not [key for key in moved if key.startswith("down.")]
    assert {key.split(".")[0] for key in moved} == {"up", "merge", "head"}


@pytest.mark.parametrize("name", sorted(name for name, spec in ZOO.items() if spec.encoder))
def test_an_encoder_is_a_part_of_its_net(name: str) -> None:
    with torch.device("meta"):
        names = [key for key, _ in build(name).named_parameters()]
    frozen = [key for key in names if key.startswith(encoder_of(name))]
    assert 0 < len(frozen) < len(names)


def test_an_architecture_without_an_encoder_cannot_freeze_one() -> None:
    with pytest.raises(ConfigError, match="fullres: this architecture has no encoder"):
        encoder_of("fullres")


@pytest.mark.usefixtures("warnings_on_stderr")
def test_training_on_sections_smaller_than_the_crop_warns(capsys: pytest.CaptureFixture[str]) -> None:
    fitted = fit([striped(size=40)], [striped(size=40)], config(crop_px=256, steps=1, batch=1))
    assert np.isfinite(fitted.final_loss)
    assert capsys.readouterr().err.startswith(
        "warning: v: its sections of 40 x 40 px are smaller than the 256 x 256 px"
    )


@pytest.mark.usefixtures("warnings_on_stderr")
def test_sections_of_the_size_of_the_crop_warn_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    fit([striped(size=64)], [striped(size=64)], config(crop_px=64, steps=1, batch=1))
    assert capsys.readouterr().err == ""


def test_sections_too_small_to_learn_from_are_refused() -> None:
    with pytest.raises(InputError, match="v: the train sections are too small to learn from; expected 32 x 32 px"):
        fit([striped(size=31)], [striped()], config())


@pytest.mark.parametrize("part", ["train", "validation"])
def test_images_of_one_grey_level_are_refused(part: str) -> None:
    grey = replace(striped("grey"), image=np.zeros((1, 96, 96), np.float32))
    parts = {"train": [striped()], "validation": [striped()]} | {part: [striped(), grey]}
    with pytest.raises(InputError, match=f"grey: the images of the {part} sections show one grey level only"):
        fit(parts["train"], parts["validation"], config())


def test_the_loss_falls() -> None:
    losses: list[float] = []
    fitted = fit([striped()], [striped()], config(**QUICK), on_step=lambda progress: losses.append(progress.loss))
    assert len(losses) == fitted.steps == 120
    # A running average over about 50 steps lags behind the loss itself. Over eight seeds it fell to 0.37 of the first
    # one, with a standard deviation of 0.08, and each of them reached an IoU of 0.999 or more.
    assert losses[-1] == fitted.final_loss < 0.65 * losses[0]
    # A quarter is membrane: calling all of it so would reach 0.25.
    assert fitted.validation_iou > 0.9


def test_progress_ends_at_one() -> None:
    fractions: list[float] = []
    fit([striped()], [striped()], config(steps=4), on_step=lambda progress: fractions.append(progress.fraction))
    assert fractions == [0.25, 0.5, 0.75, 1.0]


def test_a_budget_of_time_ends_training() -> None:
    assert fit([striped()], [striped()], config(steps=None, minutes=0.02)).steps >= 1


def test_training_that_diverges_stops_at_the_step() -> None:
    with pytest.raises(ModelError, match=r"step \d+: training failed.*found (nan|inf)\. Fix: lower the learning rate"):
        fit([striped()], [striped()], config(learning_rate=1e38))


def test_a_net_that_the_last_step_has_broken_is_told_with_what_to_do() -> None:
    net = build("unet", TINY)
    with torch.no_grad():
        next(net.parameters()).fill_(np.inf)
    with pytest.raises(ModelError, match=r"a validation section of v.*NaN or infinity\. Fix: .* lower --learning-rate"):
        calibrate(net.eval(), [striped()])


def test_an_image_that_is_no_number_stops_training_at_once() -> None:
    broken = striped()
    broken.image[...] = np.nan
    with pytest.raises(ModelError, match="step 1: "):
        fit([broken], [striped()], config())


@pytest.mark.parametrize("value", [0, 1])
def test_labels_of_one_class_are_refused_with_a_hint(value: int) -> None:
    section = striped()
    section.truth[...] = value
    with pytest.raises(InputError, match=r"the train labels hold one class only.*polarity \(membrane: zero or nonzero"):
        fit([section], [striped()], config())
    with pytest.raises(InputError, match="the validation labels hold one class only"):
        fit([striped()], [section], config())
    with pytest.raises(InputError, match="no train sections"):
        fit([], [striped()], config())


@pytest.mark.parametrize("value", [0, 1])
def test_a_volume_of_one_class_chooses_no_threshold(value: int) -> None:
    # Its IoU would be best where all of it is background, or membrane, and outweigh what the others say.
    other = striped("w")
    other.truth[...] = value
    with pytest.raises(InputError, match="w: the validation labels hold one class only"):
        fit([striped()], [striped(), other], config())
    fit([striped(), other], [striped()], config(steps=1))


def test_the_threshold_is_the_best_on_the_mean_of_the_volumes() -> None:
    levels = (np.arange(100, dtype=np.float32) + 0.5) / 100
    logits = np.log(levels / (1 - levels)).reshape(1, 10, 10)
    as_is = nn.Identity()
    above = [LabelledSection("v", logits, (levels.reshape(10, 10) > 0.6).astype(np.uint8))]
    assert choose_threshold(as_is, above) == (0.6, 1.0)
    lower = LabelledSection("w", logits, (levels.reshape(10, 10) > 0.3).astype(np.uint8))
    # Ten sections of one volume count as much as one of the other: 40 of 70 voxels at 0.3, 40 of 70 at 0.6.
    threshold, iou = choose_threshold(as_is, above * 10 + [lower])
    assert 0.3 <= threshold <= 0.6
    assert iou == pytest.approx((40 / 70 + 1) / 2, abs=0.01)


def test_calibration_makes_frequencies_of_probabilities_and_each_volume_counts_alike() -> None:
    rng = np.random.default_rng(0)
    true_logits = rng.normal(0, 2, (2, 60, 60))
    truth = (rng.random(true_logits.shape) < 1 / (1 + np.exp(-true_logits))).astype(np.uint8)
    # A net that is three times too sure, and biased towards membrane.
    sure = (3 * true_logits + 2).astype(np.float32)
    sections = [LabelledSection(v, sure[k : k + 1], truth[k]) for k, v in enumerate("vw")]
    found = calibrate(nn.Identity(), sections)
    assert found.ece_before is not None
    assert found.ece_validation is not None
    assert found.scale == pytest.approx(1 / 3, abs=0.03)
    assert found.bias == pytest.approx(-2 / 3, abs=0.1)
    assert found.ece_before > 0.1
    assert found.ece_validation < 0.03


def test_a_threshold_is_chosen_after_calibration() -> None:
    fitted = fit([striped()], [striped()], config(steps=4))
    assert choose_threshold(fitted.calibrated_net, [striped()]) == (fitted.threshold, fitted.validation_iou)
    assert calibrate(fitted.net, [striped()]) == fitted.calibration


def test_mixed_precision_learns_as_well() -> None:
    fitted = fit([striped()], [striped()], config(**(QUICK | {"precision": "bfloat16"})))
    assert fitted.validation_iou > 0.9
    assert all(value.dtype != torch.bfloat16 for value in fitted.net.state_dict().values())


@pytest.mark.parametrize(("precision", "half"), [("float32", False), ("bfloat16", True)])
def test_a_precision_that_is_asked_for_is_taken(precision: Precision, half: bool) -> None:
    assert uses_mixed_precision(precision, torch.device("cpu")) is half


def test_three_sections_of_context_learn_from_the_middle_one() -> None:
    lone = striped()
    noise = np.random.default_rng(0).normal(size=(2, *lone.truth.shape)).astype(np.float32)
    section = LabelledSection("v", np.stack([noise[0], lone.image[0], noise[1]]), lone.truth)
    wide = QUICK | {"architecture": TINY | {"context_sections": 3}}
    assert fit([section], [section], config(**wide)).validation_iou > 0.9
