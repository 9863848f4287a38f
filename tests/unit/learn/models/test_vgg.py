"""VGG16 as a fully convolutional net, and nets that start from the weights of a classifier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from torchvision.models import resnet50, resnet101, vgg16

from segem.config import TrainConfig
from segem.errors import ModelError
from segem.learn.models.pretrained import torchvision_weights
from segem.learn.models.receptive_field import longest_px, reach_px, seen
from segem.learn.models.registry import ZOO, build, geometry, pretrain
from segem.learn.models.vgg import VGG16FCN, VGGHead, convolutional, thinned, vgg16_features
from segem.learn.sections import LabelledSection
from segem.learn.train import fit
from tests.reach import losses, tile_errors

CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
"""Where torchvision has the convolutions of VGG16."""


def count(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


# The same net as the classifier.


def test_parameters_are_those_of_the_classifier() -> None:
    with torch.device("meta"):
        assert count(VGG16FCN(3, 1000)) == count(vgg16()) == 138_357_544
        assert count(vgg16_features(3)) == 14_714_688


@pytest.mark.parametrize(("size", "scores"), [(224, 1), (288, 3), (512, 10)])
def test_size_of_the_scores(size: int, scores: int) -> None:
    with torch.device("meta"):
        assert VGG16FCN(3, 1000).scores(torch.zeros(1, 3, size, size)).shape == (1, 1000, scores, scores)


@pytest.mark.slow
@torch.inference_mode()
def test_it_is_the_classifier_at_224_pixels() -> None:
    torch.manual_seed(0)
    classifier = vgg16(weights=None).eval()
    with torch.device("meta"):
        net = VGG16FCN(3, 1000).eval()
    x = torch.randn(1, 3, 224, 224)
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-12)):
        # Both nets share one copy of the weights.
        net.load_state_dict(convolutional(classifier.to(dtype).state_dict()), assign=True)
        expected, features = classifier(x.to(dtype)), net.features(x.to(dtype))
        assert expected.abs().max() > 0.01
        assert (net.head(features)[..., 0, 0] - expected).abs().max() <= tolerance
    # With a padding of 3 there are 7x7 values of fc6, and only the middle one is the classifier's.
    fc6: Any = net.head.fc6
    padded = F.conv2d(features, fc6.weight, fc6.bias, padding=3)
    off = (padded - fc6(features)).abs().amax(dim=(0, 1))
    assert off.shape == (7, 7)
    assert off[3, 3] < 1e-12
    off[3, 3] = 1
    assert off.min() > 1e-3


@torch.inference_mode()
def test_windows_of_a_larger_image_are_not_what_the_net_sees() -> None:
    torch.manual_seed(0)
    net = VGG16FCN(3, 10, width=4).eval()
    x = torch.randn(1, 3, 288, 288)
    window = net.scores(x[..., :224, :224])[..., 0, 0]
    assert (net.scores(x)[..., 0, 0] - window).abs().max() > 1e-3


# As a net of the zoo.


@pytest.mark.parametrize("name", sorted(set(ZOO) - {"unet"}))
def test_every_entry_takes_any_size_and_context(name: str) -> None:
    context = 3 if "context_sections" in ZOO[name].options.model_fields else 1
    with torch.device("meta"):
        net = build(name, {"context_sections": context}).eval()
        for size in ((1, 1), (17, 31), (64, 5), (96, 128)):
            assert net(torch.zeros(2, context, *size)).shape == (2, 1, *size), size
    assert geometry(name, {"context_sections": context}).context_sections == context


def test_the_halo_is_enough_and_a_stride_less_is_not() -> None:
    torch.manual_seed(0)
    net = VGG16FCN(width=1)
    enough, less = tile_errors(net, 32, (224, 192))
    assert geometry("vgg16-fcn").halo_px == reach_px(net.steps(), 32) == 224
    assert enough < 1e-9 < 1e-6 < less


def test_receptive_field() -> None:
    with torch.device("meta"):
        net = VGG16FCN()
    first, last = seen(net.coarse_steps(), 0, 0)
    assert last - first + 1 == 404  # 212 at pool5 and 6 * 32 more through fc6
    # A pixel between two scores sees both.
    assert longest_px(net.steps(), 32) == ZOO["vgg16-fcn"].receptive_field_px(ZOO["vgg16-fcn"].options()) == 404 + 32


def test_it_learns_from_scratch() -> None:
    torch.manual_seed(0)
    found = losses(VGG16FCN(width=8))
    assert np.mean(found[-3:]) < 0.8 * found[0]


def test_constant_scores_stay_constant() -> None:
    net: Any = VGG16FCN(width=1).eval()
    nn.init.zeros_(net.head.score.weight)
    nn.init.constant_(net.head.score.bias, 3)
    assert torch.allclose(net(torch.randn(1, 1, 70, 45)), torch.tensor(3.0))


# Weights of a classifier.


def classifier_state() -> dict[str, torch.Tensor]:
    """Weights in torchvision's names and shapes; those of fc6 and fc7 tell their row, and take no room."""
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in vgg16().state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    rows = torch.arange(4096.0) / 1e6
    return {
        key: rows[:, None].expand(shape)
        if key in {"classifier.0.weight", "classifier.3.weight"}
        else 0.05 * torch.randn(shape, generator=generator)
        for key, shape in shapes.items()
    }


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "vgg16.pth"
    torch.save(classifier_state(), path)
    return path


@torch.inference_mode()
def test_a_grey_image_gives_what_three_equal_channels_give(weights: Path) -> None:
    state = classifier_state()
    rgb: Any = vgg16_features(3)
    rgb.load_state_dict({key.removeprefix("features."): v for key, v in state.items() if "features" in key})
    net: Any = build("deeplab-v1", {"context_sections": 3})
    score = net.head.score.weight.clone()
    pretrain("deeplab-v1", net, str(weights))
    x = torch.randn(1, 1, 40, 40)
    around = torch.cat([torch.randn_like(x), x, torch.randn_like(x)], dim=1)
    expected = rgb[:4](x.repeat(1, 3, 1, 1))
    assert expected.std() > 0
    assert torch.allclose(net.features[:4](around), expected, atol=1e-5)
    for index in CONVOLUTIONS[1:]:
        assert torch.equal(net.features[index].weight, rgb[index].weight)
    # Evenly spaced rows of fc6 and fc7, its scores as they were.
    rows = torch.linspace(0, 4095, 1024).round() / 1e6
    assert torch.equal(net.head.fc6.weight, rows[:, None, None, None].expand(1024, 512, 3, 3))
    assert torch.equal(net.head.fc7.weight[:, 0, 0, 0], rows)
    assert torch.equal(net.head.score.weight, score)


def test_fc6_is_taken_whole_where_it_fits(weights: Path) -> None:
    with torch.device("meta"):
        net: Any = build("fcn8s")
    net = net.to_empty(device="cpu")
    pretrain("fcn8s", net, str(weights))
    state = classifier_state()
    assert torch.equal(net.head.fc6.weight, state["classifier.0.weight"].reshape(4096, 512, 7, 7))
    assert torch.equal(net.head.fc7.bias, state["classifier.3.bias"])
    assert torch.equal(net.features[0].weight, state["features.0.weight"].sum(dim=1, keepdim=True))


def test_taps_are_spread_over_the_kernel() -> None:
    kernel = torch.arange(49).reshape(7, 7)
    assert thinned(kernel, (3, 3)).tolist() == [[0, 3, 6], [21, 24, 27], [42, 45, 48]]
    assert thinned(kernel, (7, 7)) is kernel


@pytest.mark.parametrize(
    ("name", "classifier"),
    [("deeplab-v3-resnet50", resnet50), ("deeplab-v2-resnet101", resnet101), ("deeplab-v3-resnet101", resnet101)],
)
def test_a_resnet_is_filled(name: str, classifier: type[nn.Module], tmp_path: Path) -> None:
    with torch.device("meta"):
        shapes, net = classifier().state_dict(), build(name)
    state = {
        key: torch.tensor(0.5 + i / 1000).expand(value.shape) if value.is_floating_point() else torch.tensor(7)
        for i, (key, value) in enumerate(shapes.items())
    }
    torch.save(state, tmp_path / "resnet.pth")
    net = net.to_empty(device="cpu")
    for tensor in net.state_dict().values():
        tensor.zero_()
    pretrain(name, net, str(tmp_path / "resnet.pth"))
    found = net.state_dict()
    own = {key: key.split("backbone.")[1] for key in found if "backbone." in key}
    assert set(own.values()) == {key for key in state if not key.startswith("fc.")}
    for key, theirs in own.items():
        expected = state[theirs].sum(dim=1, keepdim=True) if theirs == "conv1.weight" else state[theirs]
        assert torch.equal(found[key], expected), key
    assert all((found[key] == 0).all() for key in found if key not in own)


def test_safetensors_are_read(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "w.safetensors")
    found = torchvision_weights(tmp_path / "w.safetensors", "VGG16_Weights.IMAGENET1K_V1")
    assert found["a"].tolist() == [1, 1]


class Marker:
    """Would leave a trace if it were unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("unpickled"),))


def test_bad_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    net = VGGHead(1, 1, 1, 1)

    def refused(name: str, match: str) -> None:
        with pytest.raises(ModelError, match=match):
            torchvision_weights(tmp_path / name, "VGG16_Weights.IMAGENET1K_V1")

    refused("missing.pth", "no such file")
    (tmp_path / "noise.pth").write_bytes(b"\x00\x01 no weights")
    refused("noise.pth", "not a file of weights")
    (tmp_path / "noise.safetensors").write_bytes(b"\x00\x01 no weights")
    refused("noise.safetensors", "not a file of weights")
    torch.save({"a": Marker()}, tmp_path / "code.pth")
    refused("code.pth", "not a file of weights")
    assert not (tmp_path / "unpickled").exists()
    torch.save([1, 2], tmp_path / "list.pth")
    refused("list.pth", "not a file of weights.*found list")
    torch.save({"a": torch.tensor([1.0, torch.nan])}, tmp_path / "nan.pth")
    refused("nan.pth", "not finite.*in a")
    torch.save(net.state_dict(), tmp_path / "other.pth")
    with torch.device("meta"):
        vgg = build("deeplab-v1")
    with pytest.raises(ModelError, match=r"do not fit.*features.0.weight .*found nothing"):
        pretrain("deeplab-v1", vgg, str(tmp_path / "other.pth"))


def test_without_a_network_the_error_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with torch.device("meta"):
        net = build("deeplab-v1")
    with pytest.raises(ModelError, match=r"vgg16-397923af\.pth: the ImageNet weights cannot be fetched.*--pretrained"):
        pretrain("deeplab-v1", net, "imagenet")


def test_nets_that_share_nothing_with_the_classifier_say_so() -> None:
    with pytest.raises(ModelError, match=r"unet: this architecture takes no pretrained weights.*deeplab-v1"):
        pretrain("unet", build("unet"), "imagenet")
    with pytest.raises(ModelError, match=r"full width only; expected width 64, found 4"):
        pretrain("fcn32s", build("fcn32s", {"width": 4}), "imagenet")


def test_training_starts_from_the_weights(weights: Path) -> None:
    rng = np.random.default_rng(0)
    section = LabelledSection(
        "v", rng.normal(size=(1, 40, 40)).astype(np.float32), (rng.random((40, 40)) < 0.3).astype(np.uint8)
    )
    config = TrainConfig(model="deeplab-v1", pretrained=str(weights), steps=1, batch=1, crop_px=32, learning_rate=1e-6)
    found = fit([section], [section], config).net.state_dict()["features.2.weight"]
    assert torch.allclose(found, classifier_state()["features.2.weight"], atol=1e-5)
