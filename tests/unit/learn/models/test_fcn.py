"""The FCNs: counts, sizes and offsets of the paper, exact tiles, and stages of training."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from segem.errors import ModelError
from segem.learn.models.fcn import FCN, ModifiedFCN, Upsampling, staged_from
from segem.learn.models.receptive_field import reach_px, seen
from segem.learn.models.registry import ZOO, geometry
from segem.learn.models.vgg import stages
from tests.reach import losses, tile_errors

FINEST: tuple[Literal[32, 16, 8], ...] = (32, 16, 8)


def count(net: Any) -> int:
    return sum(p.numel() for p in net.parameters())


def with_skips(net: FCN) -> FCN:
    for parameter in net.skips.parameters():
        nn.init.normal_(parameter)
    return net


@pytest.mark.parametrize(
    ("classes", "expected", "modified"),
    [
        (21, (134_346_581, 134_357_354, 134_362_751), 20_505_429),
        (2, (134_268_738, 134_269_764, 134_270_278), 20_485_954),
    ],
)
def test_parameters(classes: int, expected: tuple[int, ...], modified: int) -> None:
    with torch.device("meta"):
        assert tuple(count(FCN(3, classes, finest)) for finest in FINEST) == expected
        assert count(ModifiedFCN(3, classes)) == modified
    # The scores of pool4 and of pool3.
    assert np.diff(expected).tolist() == [513 * classes, 257 * classes]


def test_parameters_of_single_layers() -> None:
    with torch.device("meta"):
        net, modified, middle = FCN(3, 21), ModifiedFCN(3, 21), nn.Conv2d(1024, 1024, 3)
        wide, replaced = nn.Conv2d(1024, 1024, 7), nn.Conv2d(512, 1024, 7)
    assert count(net.features) == 14_714_688
    assert count(net.head.fc6) == 4096 * 25_089 == 102_764_544
    assert count(net.head.fc7) == 16_781_312
    # 4,719,616 is 1024 times 4609, and no product of 4096.
    assert count(modified.head.fc6) == 1024 * 4609 == 4_719_616
    assert count(modified.head.fc7) == 1024 * 1025 == 1_049_600
    # Two more 3x3 layers of 1024 channels, not three; and 51 million only for 1024 channels of input.
    assert 2 * count(middle) == 2 * 9_438_208 == 18_876_416
    assert count(wide) == 51_381_248
    assert count(replaced) == 1024 * 25_089 == 25_691_136
    stacked = count(modified.head.fc6) + 2 * count(middle)
    assert stacked == 23_596_032
    assert round(100 * (1 - stacked / count(replaced)), 1) == 8.2
    assert round(100 * (1 - count(modified.head.fc6) / count(replaced)), 1) == 81.6


@pytest.mark.parametrize(
    ("size", "pool3", "pool4", "score", "up32", "up2", "up8"),
    [(224, 53, 27, 8, 288, 18, 312), (512, 89, 45, 17, 576, 36, 600)],
)
def test_sizes_of_the_paper(size: int, pool3: int, pool4: int, score: int, up32: int, up2: int, up8: int) -> None:
    with torch.device("meta"):
        net = FCN(3, 21, 8)
        x, maps = torch.zeros(1, 3, size, size), []
        for stage in stages(net.features):
            x = stage(x)
            maps.append(x.shape[-1])
        scores = net.head(x)
        assert (maps[2], maps[3], scores.shape[-1]) == (pool3, pool4, score)
        assert Upsampling(32)(scores).shape[-1] == up32
        twice = Upsampling(2)(scores)
        assert twice.shape[-1] == up2
        assert Upsampling(8)(Upsampling(2)(twice)).shape[-1] == up8
        assert ModifiedFCN(3).scores(torch.zeros(1, 3, size, size)).shape[-1] == size // 8


@pytest.mark.parametrize("factor", [2, 8])
def test_up_sampling_is_bilinear_but_at_the_border(factor: int) -> None:
    x = torch.randn(2, 3, 6, 7, dtype=torch.float64)
    crop = factor // 2
    found = Upsampling(factor).double()(x)[..., crop:-crop, crop:-crop]
    expected = F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
    off, inside = (found - expected).abs(), slice(factor // 2, -(factor // 2))
    assert off[..., inside, inside].max() < 1e-12
    assert off.max() > 0.1


@pytest.mark.parametrize("finest", FINEST)
def test_what_a_pixel_sees_is_centred_on_it(finest: Literal[32, 16, 8]) -> None:
    # So the offsets of the crops are right: one pixel more or less moves the mean by one.
    with torch.device("meta"):
        steps = FCN(finest=finest).steps()
    ends = np.array([seen(steps, position, position) for position in range(32)])
    assert abs(np.mean(ends.mean(axis=1) - np.arange(32))) <= 0.5


@pytest.mark.parametrize("finest", FINEST)
def test_the_halo_is_enough_and_a_stride_less_is_not(finest: Literal[32, 16, 8]) -> None:
    torch.manual_seed(0)
    net = with_skips(FCN(finest=finest, width=1))
    enough, less = tile_errors(net, 32, (224, 192))
    assert geometry(f"fcn{finest}s").halo_px == reach_px(net.steps(), 32) == 224
    assert enough < 1e-9 < 1e-6 < less


def test_the_halo_of_the_modified_net() -> None:
    torch.manual_seed(0)
    enough, less = tile_errors(ModifiedFCN(width=2), 8, (104, 96))
    assert geometry("fcn-modified").halo_px == 104
    assert enough < 1e-9 < 1e-7 < less


def test_receptive_fields() -> None:
    fields = {name: ZOO[name].receptive_field_px(ZOO[name].options()) for name in ZOO if name.startswith("fcn")}
    assert fields["fcn32s"] == 404 + 32
    assert fields["fcn-modified"] == 172 + 8


@torch.inference_mode()
def test_a_finer_net_starts_as_the_coarser_one() -> None:
    torch.manual_seed(0)
    coarse, middle, fine = nets = [FCN(finest=finest, width=2).eval() for finest in FINEST]
    heads: list[Any] = [net.head for net in nets]
    staged_from(coarse.state_dict(), middle)
    x = torch.randn(1, 1, 256, 256)
    expected = coarse(x)
    assert ((middle(x) - expected).std() / expected.std()).item() < 0.1
    assert torch.equal(heads[1].fc6.weight, heads[0].fc6.weight)
    skips: list[Any] = [net.skips["pool4"] for net in (middle, fine)]
    nn.init.constant_(skips[0].bias, 5)
    staged_from(middle.state_dict(), fine)
    assert ((fine(x) - middle(x)).std() / expected.std()).item() < 0.1
    assert torch.equal(skips[1].bias, torch.tensor([5.0]))
    with pytest.raises(ModelError, match=r"coarser FCN.*skips\.pool4\.weight does not fit"):
        staged_from(fine.state_dict(), coarse)
    with pytest.raises(ModelError, match=r"features\.0\.weight does not fit"):
        staged_from(FCN(width=1).state_dict(), middle)
    with pytest.raises(ModelError, match=r"features\.0\.weight does not fit"):
        staged_from({}, middle)


@pytest.mark.parametrize("name", ["8s", "modified"])
def test_they_learn_from_scratch(name: str) -> None:
    torch.manual_seed(0)
    found = losses(FCN(finest=8, width=4) if name == "8s" else ModifiedFCN(width=8))
    assert np.mean(found[-3:]) < 0.8 * found[0]
