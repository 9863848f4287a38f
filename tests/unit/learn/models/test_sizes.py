"""Counts and sizes, published or worked by hand, and mirrored borders."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from segem.learn.models.fullres import FullResolution
from segem.learn.models.mirror import mirrored
from segem.learn.models.registry import build, geometry
from segem.learn.models.segnet import SegNet
from segem.learn.models.unet2015 import ValidUNet, missing_px


def parameters(net: torch.nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    ("channels_in", "classes", "count"), [(1, 2, 31_030_658), (1, 1, 31_030_593), (3, 2, 31_031_810)]
)
def test_the_original_unet_has_as_many_weights_as_published(channels_in: int, classes: int, count: int) -> None:
    with torch.device("meta"):
        assert parameters(ValidUNet(channels_in, classes)) == count


def test_the_unet_of_the_zoo_is_that_of_the_paper() -> None:
    with torch.device("meta"):
        net = build("unet2015")
    assert parameters(net) == 31_030_658
    assert sum(isinstance(module, (torch.nn.Conv2d, torch.nn.ConvTranspose2d)) for module in net.modules()) == 23


@pytest.mark.parametrize(("size", "out"), [(572, 388), (700, 516), (556, 372), (588, 404), (188, 4)])
def test_valid_convolutions_cost_184_pixels(size: int, out: int) -> None:
    with torch.device("meta"):
        assert ValidUNet(features=1)(torch.zeros(1, 1, size, size)).shape == (1, 2, out, out)


@pytest.mark.parametrize("size", [571, 573, 580])
def test_other_sizes_do_not_come_out_wrong_but_not_at_all(size: int) -> None:
    with torch.device("meta"), pytest.raises(RuntimeError):
        ValidUNet(features=1)(torch.zeros(1, 1, size, size))


def test_every_size_is_brought_to_one_that_fits() -> None:
    for size in range(1, 1000):
        assert (size + 184 + missing_px(size)) % 16 == 12
        assert 0 <= missing_px(size) < 16
    assert 512 + 184 + missing_px(512) == 700


def test_dropout_works_in_training_only() -> None:
    torch.manual_seed(0)
    net, x = ValidUNet(features=2), torch.randn(1, 1, 188, 188)
    assert not torch.equal(net(x), net(x))
    net.eval()
    assert torch.equal(net(x), net(x))


def test_weights_start_as_he_et_al_say() -> None:
    torch.manual_seed(0)
    net: Any = ValidUNet(features=16)
    for layer, inputs in ((net.down[3][2], 9 * 128), (net.merge[3][0], 9 * 256), (net.up[3], 256)):
        assert float(layer.weight.detach().std()) == pytest.approx((2 / inputs) ** 0.5, rel=0.03)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 3), (5, 200)])
def test_mirrors_of_mirrors_are_those_of_numpy(size: tuple[int, int]) -> None:
    x = np.random.default_rng(0).normal(size=size)
    found = mirrored(torch.from_numpy(x)[None, None], 47, (47, 61))[0, 0].numpy()
    assert np.array_equal(found, np.pad(x, ((47, 47), (47, 61)), mode="reflect"))


def test_a_full_resolution_net_by_hand() -> None:
    # 3x3 weights without bias and two numbers of batch norm a channel, then one weight a channel and a bias.
    assert parameters(FullResolution(1, 4, 3)) == 9 * (4 + 16 + 16) + 3 * 8 + 4 + 1
    assert geometry("fullres", {"layers": 6}).halo_px == 6


def test_an_encoder_decoder_by_hand() -> None:
    # features 2, depth 2: down 1>2>2, 2>4>4; up 4>2>2 and 2>2>2; head 2>1.
    convolutions = 9 * (2 + 4 + 8 + 16 + 8 + 4 + 4 + 4)
    norms = 2 * (2 + 2 + 4 + 4 + 2 + 2 + 2 + 2)
    assert parameters(SegNet(1, 2, 2)) == convolutions + norms + 3
    # Transposed convolutions of 2x2 keep the channels of their level.
    assert parameters(SegNet(1, 2, 2, "transposed")) == convolutions + norms + 3 + (4 * 16 + 4) + (4 * 4 + 2)
