"""What holds for every classic net: sizes, tiles, fields of view, training and OpenVINO."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segem.config import TrainConfig, parse
from segem.learn.models.registry import build, geometry, spec_of
from segem.learn.runtimes.choice import open_runtime
from segem.learn.sections import LabelledSection
from segem.learn.train import fit

KINDS = ("nearest", "bed_of_nails", "bilinear", "max_unpool", "transposed")
NETS: list[tuple[str, dict[str, Any]]] = [
    ("fullres", {"features": 3, "layers": 4}),
    ("patchnet", {}),
    ("unet2015", {"features": 3}),
    *(("segnet", {"features": 3, "depth": 3, "upsampling": kind}) for kind in KINDS),
]
each_net = pytest.mark.parametrize(("name", "options"), NETS, ids=[f"{n}-{o.get('upsampling', '')}" for n, o in NETS])


pytestmark = pytest.mark.usefixtures("one_thread")


def random_net(name: str, options: dict[str, Any]) -> nn.Module:
    """Return a net in double precision whose biases and batch norms are not those of the start."""
    generator = torch.Generator().manual_seed(3)
    torch.manual_seed(3)
    net = build(name, options).double().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            for tensor, low in ((module.running_mean, -0.5), (module.running_var, 0.5), (module.weight, 0.5)):
                tensor.data.copy_(low + torch.rand(tensor.shape, generator=generator))
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d)) and module.bias is not None:
            # Mostly positive, so that few ReLUs are dead.
            module.bias.data.copy_(torch.rand(module.bias.shape, generator=generator) - 0.1)
    return net


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@each_net
@pytest.mark.parametrize("size", [(1, 1), (1, 20), (33, 50)])
def test_any_size_and_context_gives_logits_of_that_size(
    name: str, options: dict[str, Any], size: tuple[int, int]
) -> None:
    net = build(name, options | {"context_sections": 3}).eval()
    with torch.inference_mode():
        assert net(torch.zeros(2, 3, *size)).shape == (2, 1, *size)


@each_net
def test_tiles_give_what_the_whole_section_gives(name: str, options: dict[str, Any]) -> None:
    net, shape = random_net(name, options), geometry(name, options)
    stride, halo = shape.stride_px, shape.halo_px
    assert halo is not None
    assert halo % stride == 0
    core = (3 * stride, 2 * stride) if stride > 1 else (16, 23)
    size = (2 * halo + core[0] + 5, halo + core[1] + 3)
    section = noise(1, 1, *size)
    with torch.inference_mode():
        whole = net(section)
        assert whole.std() > 1e-3
        # Three corners of the section and a core in its middle, all on the lattice.
        middle, end = ([(n - m) // c * c for n, c in zip(size, core, strict=True)] for m in (halo, 1))
        for y, x in ((0, 0), (0, end[1]), tuple(end), tuple(middle)):
            stop = [min(start + c, n) for start, c, n in zip((y, x), core, size, strict=True)]
            low = [max(0, start - halo) for start in (y, x)]
            high = [min(n, last + halo) for last, n in zip(stop, size, strict=True)]
            tile = net(section[..., low[0] : high[0], low[1] : high[1]])
            inner = tile[..., y - low[0] : stop[0] - low[0], x - low[1] : stop[1] - low[1]]
            assert (inner - whole[..., y : stop[0], x : stop[1]]).abs().max() < 1e-9


@pytest.mark.parametrize("over", range(16))
def test_mirrored_borders_are_seen_alike_wherever_a_section_ends(over: int) -> None:
    net, shape = random_net("unet2015", {"features": 1}), geometry("unet2015")
    assert shape.halo_px is not None
    start = shape.halo_px + 16
    section = noise(1, 1, 1, start + 1 + over)
    with torch.inference_mode():
        whole = net(section)[..., start:]
        assert (net(section[..., 16:])[..., shape.halo_px :] - whole).abs().max() < 1e-9


def measured_field_px(net: nn.Module, stride: int, reach: int) -> int:
    """Return the longest field of view on the lattice, by gradients of a net with positive weights only."""
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            module.weight.data.abs_()
        elif isinstance(module, nn.BatchNorm2d):
            module.bias.data.fill_(1)
    middle = -(-reach // stride) * stride
    x = noise(1, 1, 2 * middle + stride, 2 * middle + stride).abs().requires_grad_()
    logits = net(x)[0, 0]
    longest = 0
    for position in range(stride):
        (gradient,) = torch.autograd.grad(logits[middle + position, middle + position], x, retain_graph=True)
        seen = gradient[0, 0].abs().sum(0).nonzero().flatten()
        longest = max(longest, int(seen[-1] - seen[0] + 1))
    return longest


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fullres", {"features": 2, "layers": 5}),
        ("patchnet", {}),
        ("unet2015", {"features": 1}),
        ("unet", {"features": 1, "depth": 3}),
        *(("segnet", {"features": 2, "depth": d, "upsampling": k}) for d in (1, 3) for k in KINDS if k != "max_unpool"),
    ],
)
def test_the_field_of_view_is_what_gradients_show(
    name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The largest of four passes its gradient to one pixel only; their mean passes it to all four that were looked at.
    def mean(x: Tensor, size: int, return_indices: bool = False) -> Any:
        pooled = F.avg_pool2d(x, size)
        return (pooled, torch.zeros_like(pooled, dtype=torch.int64)) if return_indices else pooled

    monkeypatch.setattr(F, "max_pool2d", mean)
    net, spec = random_net(name, options), spec_of(name)
    shape = geometry(name, options)
    assert shape.halo_px is not None
    declared = spec.receptive_field_px(parse(spec.options, options))
    assert declared == measured_field_px(net, shape.stride_px, shape.halo_px + 2 * shape.stride_px)


def test_unpooling_sees_no_more_than_nearest() -> None:
    options = {"features": 16, "depth": 2, "upsampling": "max_unpool"}
    assert measured_field_px(random_net("segnet", options), 4, 40) <= 28


def striped(size: int = 64) -> LabelledSection:
    """Return a section whose membranes are dark rows, easy to learn."""
    truth = np.zeros((size, size), np.uint8)
    truth[::8] = truth[1::8] = truth[2::8] = 1
    return LabelledSection("v", (0.5 - 2.0 * truth).astype(np.float32)[np.newaxis], truth)


@each_net
def test_it_learns(name: str, options: dict[str, Any]) -> None:
    steps = {"patchnet": 12, "unet2015": 8}.get(name, 30)
    options = {"features": 8} | options if name == "segnet" else options
    losses: list[float] = []
    config = TrainConfig(
        model=name,
        architecture=options,
        steps=steps,
        batch=16 if name == "patchnet" else 1,
        crop_px=32,
        learning_rate=0.01,
        precision="float32",
    )
    before = build(name, options).state_dict()
    fitted = fit([striped()], [striped()], config, on_step=lambda progress: losses.append(progress.loss))
    assert np.isfinite(losses).all()
    assert 0 < fitted.validation_iou <= 1
    # Every weight has moved, so none is cut off from the loss.
    after = fitted.net.state_dict()
    assert all(not torch.equal(before[key], after[key]) for key in before if key.endswith("weight"))


@each_net
def test_openvino_gives_what_torch_gives(name: str, options: dict[str, Any]) -> None:
    net = random_net(name, options).float()
    tiles = [noise(1, *size).float().numpy() for size in ((1, 1), (17, 31), (100, 64))]
    runtime = open_runtime(net, "openvino", torch.device("cpu"), 1, 1)
    found = list(runtime.evaluate(tiles))
    runtime.close()
    with torch.inference_mode():
        for tile, probability in zip(tiles, found, strict=True):
            expected = torch.sigmoid(net(torch.from_numpy(tile)[None]))[0, 0].numpy()
            np.testing.assert_allclose(probability, expected, atol=2e-5)
