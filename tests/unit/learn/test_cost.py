"""What a net costs, against sums done by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from segem.learn.cost import bytes_needed, gflop_per_megapixel, parameter_count
from segem.learn.memory import activation_bytes
from segem.learn.models.registry import ZOO, build
from segem.learn.models.spec import Geometry, ModelSpec, NetOptions


class Padded(nn.Module):
    """A convolution 3x3 from 1 to 2 channels with a wide border, one that halves, and one number for all."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 2, 3, padding=100)
        self.second = nn.Conv2d(2, 1, 2, stride=2)
        self.last = nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        y = self.second(self.first(x))
        whole = self.last(y.mean(dim=(2, 3)))
        return y.repeat_interleave(2, 2).repeat_interleave(2, 3)[..., :height, :width] + whole[..., None, None]


PADDED = ModelSpec("padded", "", "", NetOptions, lambda _: Padded(), lambda _: Geometry(2, None, 1))


def test_neither_borders_nor_what_is_done_once_count() -> None:
    # For each pixel 3*3*1*2 multiplications, and 2*2*2*1 for every fourth; each with an addition.
    assert gflop_per_megapixel(PADDED, NetOptions()) == pytest.approx(2 * (18 + 8 / 4) / 1e9 * 1e6, rel=1e-12)


def test_the_unet_by_hand() -> None:
    # Multiplications for a pixel of the input at widths of 16 * 2^level, of which there is one in 4^level.
    width = [16 * 2**level for level in range(5)]
    down = sum(9 * (a * b + b * b) / 4**level for level, (a, b) in enumerate(zip([1, *width], width, strict=False)))
    up = sum((2 * a * a + 9 * (2 * a * a + a * a)) / 4**level for level, a in enumerate(width[:-1]))
    unet = ZOO["unet"]
    assert gflop_per_megapixel(unet, unet.options()) == pytest.approx(2 * (down + up + 16) / 1e3, rel=1e-12)


def test_parameters_are_those_of_the_built_net() -> None:
    unet = ZOO["unet"]
    values: dict[str, Any]
    for values in ({}, {"features": 3, "depth": 2, "context_sections": 5}):
        assert parameter_count(unet, unet.options(**values)) == sum(
            p.numel() for p in build("unet", values).parameters()
        )


def test_memory_is_that_of_the_built_net() -> None:
    options = ZOO["unet"].options.model_validate({"features": 4})
    net = build("unet", {"features": 4}).eval()
    weights = 3 * 4 * sum(p.numel() for p in net.parameters())
    assert bytes_needed(ZOO["unet"], options, 256) == weights + activation_bytes(net, (1, 256, 256))


@pytest.mark.parametrize("name", sorted(ZOO))
def test_every_net_of_the_zoo_has_costs(name: str) -> None:
    spec = ZOO[name]
    before = torch.get_default_device()
    assert parameter_count(spec, spec.options()) > 0
    assert gflop_per_megapixel(spec, spec.options()) > 0
    assert torch.get_default_device() == before
