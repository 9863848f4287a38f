"""Deep supervision: heads that teach the net, and are gone when it is done."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from segem.config import TrainConfig
from segem.errors import ConfigError
from segem.learn.losses import MembraneLoss
from segem.learn.models.registry import ZOO, build, side_outputs
from segem.learn.supervision import Supervised, SupervisedLoss, supervise
from segem.learn.train import Fitted, fit
from tests.unit.learn.test_train import config, striped

DEEP = {"features": 2, "depth": 4}


pytestmark = pytest.mark.usefixtures("one_thread")


def deep(**more: object) -> TrainConfig:
    return config(**({"architecture": DEEP, "steps": 3, "crop_px": 32, "deep_supervision": True} | more))


def fitted(**more: object) -> Fitted:
    return fit([striped()], [striped()], deep(**more))


def weights(of: Fitted) -> dict[str, Tensor]:
    return of.net.state_dict()


def test_each_head_teaches_the_layers_below_it_and_no_others() -> None:
    learner = Supervised(build("unet", DEEP), side_outputs("unet", DEEP))
    for stride, above in ((2, {"merge.0", "up.0"}), (4, {"merge.0", "up.0", "merge.1", "up.1"})):
        learner.zero_grad(set_to_none=True)
        learner(torch.randn(2, 1, 32, 32))[stride].square().sum().backward()
        untaught = {name for name, value in learner.net.named_parameters() if value.grad is None}
        assert {".".join(name.split(".")[:2]) for name in untaught} == above | {"head.weight", "head.bias"}
        bottom = learner.net.get_parameter("down.4.0.weight").grad
        assert bottom is not None
        assert float(bottom.abs().sum()) > 0


def test_the_net_gives_what_it_gives_without_heads() -> None:
    net, x = build("unet", DEEP).eval(), torch.randn(1, 1, 33, 50)
    alone = copy.deepcopy(net)(x)
    levels = Supervised(net, side_outputs("unet", DEEP))(x)
    assert list(levels) == [1, 2, 4]
    assert torch.equal(levels[1], alone)


def test_truth_is_pooled_to_the_size_of_a_level_whatever_the_size_of_the_crop() -> None:
    seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def loss(logits: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
        seen.append((logits, truth, weight))
        return logits.new_tensor(7.0)

    truth = torch.tensor([[1.0, 1, 0], [0, 1, 0], [1, 0, 1]])[None, None]
    levels = {1: torch.zeros(1, 1, 3, 3), 2: torch.zeros(1, 1, 4, 4)}
    assert float(SupervisedLoss(loss)(levels, truth, 1 + truth)) == pytest.approx(7)
    (_, full, _), (logits, half, weight) = seen
    assert torch.equal(full, truth)
    assert half[0, 0].tolist() == [[0.75, 0.0], [0.5, 1.0]]
    assert torch.equal(weight, 1 + half)
    assert logits.shape == half.shape


def test_levels_count_by_their_size() -> None:
    truth = torch.ones(1, 1, 4, 4)
    levels = {1: truth, 2: torch.full((1, 1, 2, 2), 2.0), 4: torch.full((1, 1, 1, 1), 4.0)}
    mean = SupervisedLoss(lambda logits, truth, weight: logits.mean())(levels, truth, truth)
    assert float(mean) == pytest.approx((1 + 2 / 2 + 4 / 4) / (1 + 1 / 2 + 1 / 4))


def test_what_is_left_is_the_very_net_that_the_architecture_names() -> None:
    made = fitted()
    plain = build("unet", DEEP)
    assert {key: value.shape for key, value in weights(made).items()} == {
        key: value.shape for key, value in plain.state_dict().items()
    }
    plain.load_state_dict(weights(made))
    x = torch.randn(1, 1, 48, 48)
    torch.testing.assert_close(made.net(x), plain.eval()(x))
    assert not any(module._forward_hooks for module in made.net.modules())


def test_it_follows_from_the_seed_and_makes_a_difference() -> None:
    one, again, plain = fitted(), fitted(), fitted(deep_supervision=False)
    assert one.final_loss == again.final_loss
    assert all(torch.equal(a, b) for a, b in zip(weights(one).values(), weights(again).values(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(weights(one).values(), weights(plain).values(), strict=True))


def test_crops_that_are_no_multiple_of_the_stride_teach_too() -> None:
    assert fitted(crop_px=41, steps=1).final_loss > 0


def test_a_frozen_encoder_stays_as_it_is() -> None:
    start = build("unet", DEEP)
    made = fit([striped()], [striped()], deep(freeze="encoder"), base=start)
    before = start.state_dict()
    moved = {key.split(".")[0] for key, value in weights(made).items() if not torch.equal(before[key], value)}
    assert moved == {"up", "merge", "head"}


def test_in_mixed_precision_the_losses_are_near_those_in_full() -> None:
    half, full = (fitted(precision=precision, steps=1) for precision in ("bfloat16", "float32"))
    assert half.final_loss != full.final_loss
    assert half.final_loss == pytest.approx(full.final_loss, rel=0.05)
    assert all(value.dtype != torch.bfloat16 for value in weights(half).values())


@pytest.mark.parametrize("name", sorted(ZOO))
def test_an_architecture_without_side_outputs_is_refused(name: str) -> None:
    if name == "unet":
        net, _ = supervise(build(name), MembraneLoss(), TrainConfig(steps=1))
        assert len(net.heads) == 2
        return
    with pytest.raises(
        ConfigError, match=f"{name}: this net has no coarser.*leave out --deep-supervision, or take unet"
    ):
        side_outputs(name)


def test_a_net_that_is_too_shallow_is_refused() -> None:
    with pytest.raises(ConfigError, match="unet: this net has no coarser outputs"):
        fitted(architecture={"features": 2, "depth": 2})


def test_what_is_unknown_has_no_part_in_the_truth_of_a_coarse_pixel() -> None:
    truth, weight = torch.rand(1, 1, 8, 8).round(), torch.ones(1, 1, 8, 8)
    weight[..., 2:5, 3:] = 0
    levels = {stride: torch.randn(1, 1, 8 // stride, 8 // stride) for stride in (1, 2, 4)}
    other = torch.where(weight > 0, truth, 1 - truth)
    loss = SupervisedLoss(MembraneLoss())
    assert torch.equal(loss(levels, truth, weight), loss(levels, other, weight))
    assert not torch.equal(loss(levels, truth, weight), loss(levels, other, torch.ones_like(weight)))
