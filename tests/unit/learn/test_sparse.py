"""Training on sections of which only a part is painted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses import DiceLoss
from torch import Tensor
from torch.nn import functional

from segem.config import TrainConfig
from segem.errors import InputError
from segem.kernels.truth import UNKNOWN
from segem.learn.augment import IMAGE, LABEL, WEIGHT, build_augmentation
from segem.learn.batches import cut_crop, draw_batches
from segem.learn.losses import MembraneLoss
from segem.learn.operating_point import choose_threshold
from segem.learn.patches import cut_patch
from segem.learn.sections import LabelledSection
from segem.learn.supervision import SupervisedLoss
from segem.learn.train import fit

TINY = TrainConfig(architecture={"features": 2, "depth": 2}, steps=2, batch=2, crop_px=32)


def striped(known: slice = slice(0, 40), volume: str = "v") -> LabelledSection:
    """Return a section of 96 rows of which only some are painted."""
    membrane = np.zeros((96, 96), np.uint8)
    membrane[::8] = membrane[1::8] = 1
    truth = np.full_like(membrane, UNKNOWN)
    truth[known] = membrane[known]
    return LabelledSection(volume, (0.5 - 2.0 * membrane).astype(np.float32)[np.newaxis], truth)


def step(logits: Tensor, truth: Tensor, weight: Tensor) -> tuple[float, Tensor]:
    logits = logits.clone().requires_grad_(True)
    loss = MembraneLoss()(logits, truth, weight)
    loss.backward()
    assert logits.grad is not None
    return float(loss.detach()), logits.grad


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_a_training_step_is_the_same_whatever_unknown_pixels_are(seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    shape = (2, 1, 8, 8)
    logits, weight = torch.randn(shape, generator=rng), 1 + torch.rand(shape, generator=rng)
    truth, other = (torch.randint(0, 2, shape, generator=rng).float() for _ in range(2))
    unknown = torch.rand(shape, generator=rng) < 0.6
    weight[unknown] = 0
    loss, gradient = step(logits, truth, weight)
    assert (gradient[unknown] == 0).all()
    for said in (other, torch.full(shape, float(UNKNOWN))):
        again, same = step(logits, torch.where(unknown, said, truth), weight)
        assert again == loss
        assert torch.equal(same, gradient)
    moved, known_gradient = step(torch.where(unknown, logits + 3, logits), truth, weight)
    assert moved == loss
    assert torch.equal(known_gradient, gradient)


def test_unknown_pixels_have_no_part_in_deep_supervision() -> None:
    rng = torch.Generator().manual_seed(1)
    truth, logits = torch.randint(0, 2, (1, 1, 8, 8), generator=rng).float(), torch.randn(1, 1, 8, 8, generator=rng)
    weight = torch.ones_like(truth)
    weight[..., :5, :] = 0
    losses = []
    for said in (truth, 1 - truth, torch.full_like(truth, float(UNKNOWN))):
        coarse = torch.zeros(1, 1, 2, 2, requires_grad=True)
        loss = SupervisedLoss(MembraneLoss())({1: logits, 4: coarse}, torch.where(weight == 0, said, truth), weight)
        loss.backward()
        assert coarse.grad is not None
        assert (coarse.grad[..., 0, :] == 0).all()
        losses.append((float(loss.detach()), coarse.grad.tolist()))
    assert losses[0] == losses[1] == losses[2]


def test_the_loss_of_known_pixels_by_hand() -> None:
    # Logits of 0 are probabilities of 1/2: cross-entropy ln 2, Dice 1 - 2 * 0.5 / (1 + 1) of the two that count.
    logits, truth = torch.zeros(1, 1, 1, 4), torch.tensor([[[[1.0, 0.0, 1.0, 2.0]]]])
    loss, _ = step(logits, truth, torch.tensor([[[[1.0, 1.0, 0.0, 0.0]]]]))
    assert loss == pytest.approx(np.log(2) + 0.5, abs=1e-4)


def test_where_all_is_known_the_loss_is_cross_entropy_and_dice() -> None:
    rng = torch.Generator().manual_seed(1)
    logits, truth = torch.randn(2, 1, 9, 9, generator=rng), torch.randint(0, 2, (2, 1, 9, 9), generator=rng).float()
    weight = 1 + torch.rand(logits.shape, generator=rng)
    plain = functional.binary_cross_entropy_with_logits(logits, truth, weight) / weight.mean()
    assert torch.equal(MembraneLoss()(logits, truth, weight), plain + DiceLoss(sigmoid=True, batch=True)(logits, truth))


def test_a_batch_of_which_nothing_is_known_teaches_nothing() -> None:
    nothing = torch.zeros(1, 1, 4, 4)
    loss, gradient = step(torch.randn(1, 1, 4, 4), nothing + UNKNOWN, nothing)
    assert loss == 0
    assert (gradient == 0).all()


def test_unknown_pixels_move_with_the_section_and_stay_unknown() -> None:
    truth = np.random.default_rng(0).integers(0, 3, (1, 64, 64)).astype(np.float32)
    augment = build_augmentation(64, seed=3, defects=0.5)
    for _ in range(10):
        out = augment({IMAGE: truth * 0, LABEL: truth, WEIGHT: (truth != UNKNOWN).astype(np.float32)})
        label = np.asarray(out[LABEL])
        assert set(np.unique(label)) <= {0, 1, UNKNOWN}
        assert np.array_equal(np.asarray(out[WEIGHT]) == 0, label == UNKNOWN)


def test_a_crop_shows_something_that_is_known() -> None:
    section = striped(slice(90, 92))
    weight = (section.truth != UNKNOWN).astype(np.float32)
    rng = np.random.default_rng(0)
    crops = [cut_crop(section, weight, 32, rng) for _ in range(50)]
    assert all(crop[WEIGHT].any() and crop[LABEL].shape == (1, 32, 32) for crop in crops)


def test_sections_of_which_nothing_is_known_are_never_drawn() -> None:
    blank = striped(slice(0, 0))
    blank.image[...] = 9
    batches = draw_batches([blank, striped(slice(0, 96)), blank], TINY.model_copy(update={"batch": 4}))
    for _ in range(5):
        image, truth, weight, _ = next(batches)
        assert image.max() < 5
        assert ((weight == 0) == (truth == UNKNOWN)).all()


def test_patches_have_a_known_centre() -> None:
    truth = np.array([[[0, 2, 2], [2, 2, 2], [2, 2, 0]]], np.float32)
    for membrane in (0, 1):
        for seed in range(20):
            patch = cut_patch({LABEL: truth}, 3, membrane=membrane, rng=np.random.default_rng(seed))
            assert patch[LABEL][0, 1, 1] == 0


def test_the_threshold_is_chosen_by_known_pixels() -> None:
    levels = (np.arange(100, dtype=np.float32) + 0.5) / 100
    logits = np.log(levels / (1 - levels)).reshape(1, 10, 10)
    truth = (levels.reshape(10, 10) > 0.6).astype(np.uint8)
    # The rest, had it counted, would have moved the threshold up.
    truth[6:8] = UNKNOWN
    threshold, iou = choose_threshold(torch.nn.Identity(), [LabelledSection("v", logits, truth)])
    assert iou == 1
    assert threshold <= 0.8


@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_part_of_which_nothing_is_known_is_refused(part: str) -> None:
    parts = {"train": [striped()], "validation": [striped()]} | {part: [striped(), striped(slice(0, 0), "blank")]}
    with pytest.raises(InputError, match=rf"blank: nothing is known of the {part} sections.*--ignore"):
        fit(parts["train"], parts["validation"], TINY)


def test_one_class_among_the_known_is_refused() -> None:
    section = striped(slice(0, 2))
    with pytest.raises(InputError, match=r"the train labels hold one class only.*100% membrane"):
        fit([section], [striped()], TINY)
