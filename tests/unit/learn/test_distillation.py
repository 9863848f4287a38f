"""Fine-tuning on new tissue without forgetting the old."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from segem.config import TrainConfig
from segem.learn.artefact import load_net, save_artefact
from segem.learn.batches import draw_batches
from segem.learn.checkpoint import Checkpoints
from segem.learn.distillation import compute_distillation
from segem.learn.learner import Learner
from segem.learn.models.registry import build
from segem.learn.sections import LabelledSection
from segem.learn.train import Fitted, Progress, fit
from segem.records.card import ModelCard

TINY = TrainConfig(architecture={"features": 4, "depth": 2}, steps=40, batch=4, crop_px=64)


pytestmark = pytest.mark.usefixtures("one_thread")


def section(volume: str, sign: float = 1.0, *, rehearsed: bool = False) -> LabelledSection:
    """Return a section whose membranes are dark rows, or pale ones."""
    truth = np.zeros((96, 96), np.uint8)
    truth[::8] = truth[1::8] = 1
    return LabelledSection(volume, (sign * (0.5 - 2.0 * truth)).astype(np.float32)[np.newaxis], truth, 1.0, rehearsed)


def test_what_is_forgotten_is_the_divergence_on_rehearsed_crops() -> None:
    images = torch.zeros(4, 1, 2, 2)
    logits = torch.full((4, 1, 2, 2), math.log(3))
    # From one half to three quarters: ln 2 below the cross-entropy of (1/2, 1/2) with (3/4, 1/4); one crop of four.
    divergence = -0.5 * math.log(0.75) - 0.5 * math.log(0.25) - math.log(2)
    which = torch.tensor([False, True, False, False])
    assert float(compute_distillation(torch.zeros_like, images, logits, which)) == pytest.approx(
        divergence / 4, abs=1e-6
    )
    logits[which] = 0
    assert float(compute_distillation(torch.zeros_like, images, logits, which)) == pytest.approx(0, abs=1e-6)
    assert float(compute_distillation(torch.zeros_like, images, logits, ~which)) == pytest.approx(
        3 * divergence / 4, abs=1e-6
    )


def test_new_tissue_is_not_held_back() -> None:
    def never(_: torch.Tensor) -> torch.Tensor:
        raise AssertionError("the old net is not asked of new tissue")

    logits = torch.ones(2, 1, 4, 4, requires_grad=True)
    assert float(compute_distillation(never, torch.zeros(2, 1, 4, 4), logits, torch.zeros(2, dtype=torch.bool))) == 0


def test_batches_say_which_crops_are_rehearsed() -> None:
    flat = np.zeros((96, 96), np.uint8)
    flat[:48] = 1
    ways = [
        LabelledSection(name, np.full((1, 96, 96), value, np.float32), flat, 1.0, rehearsed)
        for name, value, rehearsed in (("old", 9.0, True), ("new", -9.0, False))
    ]
    batch = next(draw_batches(ways, TINY.model_copy(update={"batch": 40, "defects": 0.0})))
    assert torch.equal(batch.image.mean((1, 2, 3)) > 0, batch.rehearsed)
    assert 0 < int(batch.rehearsed.sum()) < 40


def far(net: nn.Module, other: nn.Module) -> float:
    image = torch.from_numpy(section("old").image)[None]
    with torch.inference_mode():
        return float((net(image).sigmoid() - other(image).sigmoid()).abs().mean())


@pytest.mark.slow
@pytest.mark.parametrize("depth", [2, 4])
def test_a_net_that_remembers_stays_nearer_to_what_its_base_gives(depth: int) -> None:
    config = TINY.model_copy(
        update={
            "architecture": {"features": 4, "depth": depth},
            "deep_supervision": depth == 4,
            "crop_px": 32,
            "learning_rate": 0.01,
            "precision": "float32",
            "defects": 0.0,
        }
    )
    # What an untrained net gives is far from all labels, old and new, so that nothing but the distillation keeps a net
    # near it. Next to no distillation still freezes batch norm, and so differs in nothing else.
    torch.manual_seed(100)
    base = build("unet", config.architecture).eval()
    ways = [section("old", rehearsed=True), section("new", -1.0)], [section("new", -1.0)]
    free, kept = (fit(*ways, config.model_copy(update={"remember": weight}), base=base) for weight in (1e-9, 10.0))
    # Over six seeds 0.22 with a standard deviation of 0.10 at depth 2, 0.24 and 0.09 at depth 4.
    assert far(kept.net, base) < 0.55 * far(free.net, base)


def test_layers_normalise_by_the_statistics_of_the_old_net() -> None:
    start = build("unet", TINY.architecture)
    config = TINY.model_copy(update={"steps": 3})
    ways = [section("old", rehearsed=True), section("new", -1.0)], [section("new", -1.0)]

    def moved(weight: float) -> set[str]:
        after = fit(*ways, config.model_copy(update={"remember": weight}), base=start).net.state_dict()
        return {
            key.rpartition(".")[2] for key, value in start.state_dict().items() if not torch.equal(value, after[key])
        }

    assert moved(0.0) == {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
    assert moved(1.0) == {"weight", "bias"}


def test_what_a_teacher_says_of_every_crop_is_added_by_its_weight(tmp_path: Path) -> None:
    torch.manual_seed(1)
    card = ModelCard(name="old", architecture="unet", options=TINY.architecture, threshold=0.5)
    old = save_artefact(tmp_path / "old", card, build("unet", TINY.architecture))
    batch = next(draw_batches([section("v")], TINY))

    def first_loss(teach: float) -> float:
        config = TINY.model_copy(update={"teacher": str(old.path), "teach": teach, "precision": "float32"})
        return Learner(config, None, rehearses=False, device="cpu").step(batch, 1, 0.0)

    alone = Learner(TINY.model_copy(update={"precision": "float32"}), None, rehearses=False, device="cpu")
    with torch.no_grad():
        logits = alone.net(batch.image)
        said, found = torch.sigmoid(load_net(old)(batch.image)), torch.sigmoid(logits)
    # The divergence of two coins, a pixel, over all crops.
    apart = said * torch.log(said / found) + (1 - said) * torch.log((1 - said) / (1 - found))
    assert float(apart.mean()) > 0.01
    assert first_loss(0.0) == pytest.approx(alone.step(batch, 1, 0.0), abs=1e-6)
    assert first_loss(3.0) == pytest.approx(first_loss(0.0) + 3 * float(apart.mean()), abs=1e-4)


def test_without_a_base_model_there_is_nothing_to_remember() -> None:
    ways = [section("old", rehearsed=True)], [section("old")]
    alike = [fit(*ways, TINY.model_copy(update={"remember": weight, "steps": 3})) for weight in (0.0, 10.0)]
    assert weights(alike[0]) == weights(alike[1])


def test_a_training_that_was_stopped_remembers_the_first_net_still(tmp_path: Path) -> None:
    start = build("unet", TINY.architecture)
    ways = [section("old", rehearsed=True), section("new", -1.0)], [section("new", -1.0)]
    whole = fit(*ways, TINY.model_copy(update={"steps": 8}), base=start)

    def stop(now: Progress) -> None:
        if now.fraction == 0.5:
            raise KeyboardInterrupt

    kept = Checkpoints(tmp_path / "c", 1e9, 1)
    with pytest.raises(KeyboardInterrupt):
        fit(*ways, TINY.model_copy(update={"steps": 8}), base=start, kept=kept, on_step=stop)
    again = fit(*ways, TINY.model_copy(update={"steps": 8}), base=start, kept=kept)
    assert weights(again) == weights(whole)


def weights(fitted: Fitted) -> list[bytes]:
    return [value.numpy().tobytes() for value in fitted.net.state_dict().values()]
