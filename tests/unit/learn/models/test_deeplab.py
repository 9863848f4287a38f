"""The DeepLabs: counts and sizes of the papers, exact tiles, image pooling, and other runtimes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import get_model

from segem.config import TrainConfig
from segem.learn.artefact import load_net, save_artefact
from segem.learn.batches import Batch
from segem.learn.fold import folded
from segem.learn.learner import Learner
from segem.learn.models.deeplab_v1 import FC6, DeepLabV1, DeepLabV1MultiScale, Variant
from segem.learn.models.deeplab_v2 import RATES, DeepLabV2ResNet, DeepLabV2VGG, three_quarters
from segem.learn.models.deeplab_v3 import DeepLabV3
from segem.learn.models.fcn import FCN, ModifiedFCN
from segem.learn.models.receptive_field import Window, reach_px, windows
from segem.learn.models.registry import ZOO, build, geometry, resolved
from segem.learn.models.vgg import VGG16FCN
from segem.learn.runtimes.openvino import OpenVinoCpu, installed
from segem.records.card import ModelCard
from tests.reach import losses, tile_errors

VARIANTS = {
    "largefov": (20_505_429, 20_485_954),
    "7x7-r4": (134_346_581, 134_268_738),
    "4x4-r4": (65_140_565, 65_062_722),
    "4x4-r8": (65_140_565, 65_062_722),
    "3x3-r3": (20_505_429, 20_485_954),
}


def small_resnet(*, multi_scale: bool = False) -> DeepLabV2ResNet:
    return DeepLabV2ResNet(multi_scale=multi_scale, blocks=(1, 1, 2, 1), width_per_group=1)


NARROW: dict[str, Callable[[], nn.Module]] = {
    "vgg16-fcn": lambda: VGG16FCN(width=4),
    "fcn8s": lambda: FCN(finest=8, width=4),
    "fcn-modified": lambda: ModifiedFCN(width=8),
    "deeplab-v1": lambda: DeepLabV1(width=8),
    "deeplab-v1-msc": lambda: DeepLabV1MultiScale(width=8),
    "deeplab-v2-vgg": lambda: DeepLabV2VGG(width=8),
    "deeplab-v2-resnet101": small_resnet,
    "deeplab-v2-resnet101 multi-scale": lambda: small_resnet(multi_scale=True),
}


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def with_statistics(net: nn.Module) -> nn.Module:
    """Give batch norms, and what starts at zero, values that are not those of the start, so that a test sees them."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.01)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return net.eval()


# Numbers of the papers.


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_parameters_of_version_1(variant: Variant) -> None:
    with torch.device("meta"):
        assert tuple(count(DeepLabV1(3, classes, variant)) for classes in (21, 2)) == VARIANTS[variant]


def test_parameters_of_multi_scale() -> None:
    with torch.device("meta"):
        net = DeepLabV1MultiScale(3, 21)
    assert count(net) == 21_711_445
    assert count(net.scales) == 1_192_576
    assert net.score.in_channels == 1024 + 640


def test_parameters_of_versions_2_and_3() -> None:
    with torch.device("meta"):
        assert count(DeepLabV2VGG(3, 21)) == count(DeepLabV2VGG(3, 21, "S")) == 37_877_652
        resnet = DeepLabV2ResNet(3, 21)
        assert (count(resnet), count(resnet.heads)) == (44_048_532, 1_548_372)
        assert count(DeepLabV3("resnet101", 3, 21)) == 58_630_997
        assert count(DeepLabV3("resnet50", 3, 21)) == 39_638_869
        with_auxiliary = get_model(
            "deeplabv3_resnet101", weights=None, weights_backbone=None, num_classes=21, aux_loss=True
        )
        assert count(with_auxiliary) == 60_996_202


@pytest.mark.parametrize(("size", "scores"), [(224, 28), (321, 41), (512, 64), (513, 65)])
def test_size_of_the_scores(size: int, scores: int) -> None:
    with torch.device("meta"):
        x = torch.zeros(1, 3, size, size)
        nets = [DeepLabV1MultiScale(3, 2), DeepLabV2VGG(3, 2), DeepLabV2ResNet(3, 2)]
        for net in [*nets, *(DeepLabV1(3, 2, variant) for variant in FC6)]:
            assert net.scores(x).shape == (1, 2, scores, scores)
        assert DeepLabV3("resnet50", 3, 2).net.backbone(x)["out"].shape[-1] == scores


@pytest.mark.parametrize(("rate", "extent"), [(2, 5), (3, 7), (6, 13), (12, 25), (18, 37), (24, 49)])
def test_extent_of_a_dilated_kernel(rate: int, extent: int) -> None:
    assert Window(3, dilation=rate).extent == extent
    # What reaches the middle of the output are the corners of that extent, and nothing further out.
    kernel = nn.Conv2d(1, 1, 3, dilation=rate, bias=False)
    x = torch.zeros(1, 1, extent, extent, requires_grad=True)
    kernel(x).sum().backward()
    assert kernel(x).shape[-2:] == (1, 1)
    assert x.grad is not None
    assert (x.grad[0, 0, 0, 0] * x.grad[0, 0, -1, -1]).item() != 0


def test_extents_of_fc6() -> None:
    with torch.device("meta"):
        nets = {variant: DeepLabV1(variant=variant) for variant in FC6}
        pyramid = [windows(head)[0].extent for head in DeepLabV2VGG().heads]
    extents = {variant: windows(net.head)[0].extent for variant, net in nets.items()}
    # The first and the 7x7 see equally far; the second needs six times the parameters.
    assert extents == {"largefov": 25, "7x7-r4": 25, "4x4-r4": 13, "4x4-r8": 25, "3x3-r3": 7}
    assert pyramid == [13, 25, 37, 49]


def test_dilations_in_place_of_strides() -> None:
    with torch.device("meta"):
        vgg, resnet = DeepLabV1(), DeepLabV2ResNet()
    assert [w.dilation for w in windows(vgg.features)] == [1] * 14 + [2, 2, 2] + [1]
    assert [w.stride for w in windows(vgg.features) if w.stride > 1] == [2, 2, 2]
    layers = resnet.backbone
    assert [block.conv2.dilation[0] for block in layers.layer3] == [1] + 22 * [2]
    assert [block.conv2.dilation[0] for block in layers.layer4] == [2, 4, 4]


# Exact tiles.

EXACT = [
    *[(f"deeplab-v1 {variant}", lambda v=variant: DeepLabV1(variant=v, width=1)) for variant in FC6],
    ("deeplab-v1-msc", lambda: DeepLabV1MultiScale(width=1)),
    *[(f"deeplab-v2-vgg {aspp}", lambda a=aspp: DeepLabV2VGG(aspp=a, width=1)) for aspp in RATES],
]


@pytest.mark.parametrize(("name", "make"), EXACT, ids=[name for name, _ in EXACT])
def test_the_halo_is_enough_and_a_stride_less_is_not(name: str, make: Callable[[], DeepLabV1]) -> None:
    torch.manual_seed(0)
    net = make()
    halo = reach_px(net.steps(), 8)
    enough, less = tile_errors(net, 8, (halo, halo - 8))
    assert enough < 1e-9 < 2e-8 < less


def test_the_halo_on_a_resnet() -> None:
    torch.manual_seed(0)
    net: Any = with_statistics(DeepLabV2ResNet(blocks=(1, 1, 1, 1), width_per_group=1))
    net.heads = net.heads[:1]  # the smallest dilation, to keep the section small
    halo = reach_px(net.steps(), 8)
    enough, less = tile_errors(net, 8, (halo, halo - 8))
    assert enough < 1e-9 < 1e-7 < less


def test_the_halo_on_three_scales() -> None:
    torch.manual_seed(0)
    net = small_resnet(multi_scale=True)
    net.backbone = nn.Sequential(
        nn.Conv2d(1, 3, 7, stride=2, padding=3),
        nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(3, 3, 3, stride=2, padding=1),
        nn.ReLU(),
    )
    net.heads = nn.ModuleList(nn.Conv2d(3, 1, 3, padding=rate, dilation=rate) for rate in (1, 2))
    halo = reach_px(net.steps(), 32)
    enough, less = tile_errors(net, 32, (halo, halo - 32))
    assert enough < 1e-9 < 1e-4 < less


def test_halos_at_full_size() -> None:
    expected = {"deeplab-v1": 224, "deeplab-v1-msc": 224, "deeplab-v2-vgg": 320, "deeplab-v2-resnet101": 688}
    assert {name: geometry(name).halo_px for name in expected} == expected
    assert geometry("deeplab-v2-resnet101", {"multi_scale": True}).halo_px == 2 * 688
    assert geometry("deeplab-v1", {"variant": "4x4-r4"}).halo_px == 176
    assert geometry("deeplab-v3-resnet50").halo_px is None
    # LargeFOV sees what the 7x7 sees; a score 404 + 15 pixels by the larger poolings, a pixel two scores.
    v1 = ZOO["deeplab-v1"]
    fields = {v: v1.receptive_field_px(v1.options.model_validate({"variant": v})) for v in FC6}
    assert fields["largefov"] == fields["7x7-r4"] == 427
    assert fields["4x4-r4"] == 427 - 8 * 12


# How they behave.


def test_three_scales_keep_the_largest_score() -> None:
    torch.manual_seed(0)
    net: Any = with_statistics(small_resnet(multi_scale=True))
    x = torch.randn(1, 1, 64, 96)
    with torch.inference_mode():
        found = net.scores(x)
        net.multi_scale = False
        parts = [net.scores(F.interpolate(x, size=size, mode="bilinear")) for size in ((64, 96), (48, 72), (32, 48))]
    expected = torch.stack([F.interpolate(part, size=(8, 12), mode="bilinear") for part in parts]).amax(dim=0)
    assert torch.allclose(found, expected, atol=1e-4)
    assert not torch.allclose(found, parts[0], atol=1e-4)


def test_three_quarters_of_an_image() -> None:
    x = torch.randn(2, 3, 12, 20, dtype=torch.float64)
    expected = F.interpolate(x, size=(9, 15), mode="bilinear", align_corners=False)
    assert torch.allclose(three_quarters(x), expected, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in NARROW if name.startswith("deeplab")])
def test_they_learn_from_scratch(name: str) -> None:
    torch.manual_seed(0)
    found = losses(NARROW[name]())
    assert np.mean(found[-3:]) < 0.8 * found[0]


@pytest.fixture(scope="module")
def v3() -> Any:
    torch.manual_seed(0)
    return build("deeplab-v3-resnet50")


def test_residual_blocks_pass_on_their_input_at_first(v3: Any) -> None:
    v2: Any = small_resnet()
    for block, channels in ((v2.backbone.layer3[1], 1024), (v3.net.backbone["layer1"][1], 256)):
        x = torch.rand(1, channels, 9, 7)
        assert torch.equal(block.train()(x), x)


def test_one_step_moves_no_score_by_more_than_one() -> None:
    # A score sums 73,728 inputs, and Adam moves the weight of each by the learning rate: at the full rate by seven.
    learner = Learner(TrainConfig(model="deeplab-v2-resnet101", steps=1), None, False, "cpu")
    crops = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    learner.step(Batch(crops, (crops > 0).float(), torch.ones_like(crops), torch.zeros(2, dtype=torch.bool)), 1, 0.03)
    with torch.no_grad():
        # A fresh net scores everything 0.
        assert 0.01 < learner.net(crops).abs().max() < 1
    assert [group["lr"] for group in learner.optimizer.param_groups] == pytest.approx([1e-3, 5e-5])


def test_image_pooling_sees_the_whole_section(v3: Any) -> None:
    x = torch.randn(1, 1, 512, 64, requires_grad=True)
    pooled = v3.eval().net.classifier[0].convs[-1]
    pooled(v3.net.backbone(x)["out"])[0, :, 0, 0].sum().backward()
    assert x.grad is not None
    assert x.grad[..., -16:, :].abs().max() > 0
    assert geometry("deeplab-v3-resnet50").halo_px is None


def test_one_crop_is_a_batch_too(v3: Any) -> None:
    norm, last = (v3.net.classifier[0].convs[-1][2], v3.net.classifier[2])
    for images, moved in ((2, True), (1, False), (2, True)):
        before = norm.running_mean.clone(), last.running_mean.clone()
        assert torch.isfinite(v3.train()(torch.randn(images, 1, 64, 64))).all()
        assert torch.equal(norm.running_mean, before[0]) is not moved
        assert not torch.equal(last.running_mean, before[1])
    v3.eval()


def test_sizes_off_the_lattice_are_padded(v3: Any) -> None:
    x = torch.randn(1, 1, 30, 41)
    with torch.inference_mode():
        assert torch.allclose(v3.eval()(x), v3(F.pad(x, (0, 7, 0, 2)))[..., :30, :41], atol=1e-6)


# Folded, saved, converted.


def test_folding_changes_nothing(v3: Any) -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 1, 40, 48)
    # torchvision's backbone holds its first convolution in no `Sequential`.
    for net, left in ((with_statistics(small_resnet()), 0), (with_statistics(v3), 1)):
        without = folded(net)
        with torch.inference_mode():
            expected = net(x)
            assert torch.allclose(without(x), expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
        assert sum(isinstance(module, nn.BatchNorm2d) for module in without.modules()) == left


def test_an_artefact_is_read_back(tmp_path: Path) -> None:
    options = {"variant": "4x4-r4", "width": 2}
    net = build("deeplab-v1", options).eval()
    card = ModelCard(name="d", architecture="deeplab-v1", options=resolved("deeplab-v1", options), threshold=0.5)
    again = load_net(save_artefact(tmp_path / "d", card, net))
    x = torch.randn(1, 1, 20, 30)
    assert torch.equal(again(x), net(x))


def converts(net: nn.Module) -> None:
    """Fail unless OpenVINO takes the net and gives, at an awkward size, what torch gives."""
    # Whether it is there is asked without importing it, which would bring in what reports to its makers.
    if not installed("openvino"):
        pytest.skip("OpenVINO is not installed")
    OpenVinoCpu(with_statistics(net), 1, 1).close()


@pytest.mark.parametrize(
    "name", ["vgg16-fcn", "fcn8s", "fcn-modified", "deeplab-v1-msc", "deeplab-v2-resnet101 multi-scale"]
)
def test_openvino_takes_it(name: str) -> None:
    torch.manual_seed(0)
    converts(NARROW[name]())


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(name for name in ZOO if name.startswith(("vgg", "fcn", "deeplab"))))
def test_openvino_takes_it_at_full_size(name: str) -> None:
    torch.manual_seed(0)
    converts(build(name))
