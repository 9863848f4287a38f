"""Wide convolutions come out the same with half of the multiplications, at any size, and others are left alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from segem.learn.memory import SCRATCH, WIDE_SCRATCH, activation_bytes
from segem.learn.models.registry import build
from segem.learn.runtimes.choice import open_runtime
from segem.learn.runtimes.openvino import import_openvino
from segem.learn.winograd import PAYS_FROM, halve_multiplications

openvino = import_openvino()


def converted(net: nn.Module, channels: int) -> Any:
    return openvino.convert_model(net, example_input=torch.zeros(1, channels, 16, 16))


def convolutions(model: Any) -> list[list[int]]:
    return [list(op.input_value(1).shape[2:]) for op in model.get_ops() if op.get_type_name() == "Convolution"]


@pytest.fixture(scope="module")
def rewritten() -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 4, 3, padding=1, bias=False)).eval()
    model = halve_multiplications(converted(net, 3), least=3)
    assert convolutions(model) == [[1, 3]] * 12
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    return net.double(), openvino.Core().compile_model(model, "CPU", settings)


@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 41), width=st.integers(1, 41), seed=st.integers(0, 9))
def test_any_size_gives_what_the_plain_convolution_gives(
    rewritten: tuple[nn.Module, Any], height: int, width: int, seed: int
) -> None:
    net, compiled = rewritten
    x = np.random.default_rng(seed).normal(size=(1, 3, height, width)).astype(np.float32)
    with torch.inference_mode():
        expected = net(torch.from_numpy(x).double()).numpy()
    np.testing.assert_allclose(compiled(x)[0], expected, atol=1e-5)


@pytest.mark.parametrize(
    "other",
    [
        nn.Conv2d(2, 3, 3, padding=1),
        nn.Conv2d(4, 4, 3),
        nn.Conv2d(4, 4, 3, padding=1, stride=2),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2),
        nn.Conv2d(4, 4, 3, padding=1, groups=2),
        nn.Conv2d(4, 4, 1, padding=1),
        nn.Conv2d(4, 4, 5, padding=1),
    ],
    ids=str,
)
def test_other_convolutions_are_left_alone(other: nn.Conv2d) -> None:
    model = converted(other, other.in_channels)
    before = [op.get_type_name() for op in model.get_ordered_ops()]
    assert [op.get_type_name() for op in halve_multiplications(model, least=3).get_ordered_ops()] == before


def test_probabilities_of_a_wide_net_are_those_of_torch_whatever_the_threads() -> None:
    torch.manual_seed(1)
    net = build("unet", {"features": 32, "depth": 2}).eval()
    assert [1, 3] in convolutions(halve_multiplications(converted(net, 1)))
    rng = np.random.default_rng(0)
    tiles = [rng.normal(size=(1, *size)).astype(np.float32) for size in ((31, 45), (64, 52), (1, 1), (70, 9))]
    with torch.inference_mode():
        expected = [torch.sigmoid(net(torch.from_numpy(tile)[None]))[0, 0].numpy() for tile in tiles]
    found = []
    for threads in (1, 2):
        runtime = open_runtime(net, "openvino", torch.device("cpu"), 1, threads)
        found.append(list(runtime.evaluate(tiles)))
        runtime.close()
    for one, two, plain in zip(*found, expected, strict=True):
        np.testing.assert_allclose(one, plain, atol=1e-5)
        assert np.array_equal(one, two)


class Wide(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(x)


@pytest.mark.parametrize(("channels", "maps"), [(PAYS_FROM - 1, 2), (PAYS_FROM, 2 + WIDE_SCRATCH)])
def test_what_it_costs_in_memory_is_planned_for(channels: int, maps: int) -> None:
    assert activation_bytes(Wide(channels), (channels, 8, 8)) == int(maps * channels * 8 * 8 * 4 * SCRATCH)
