"""What a net holds while it evaluates a tile, by hand."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from segem.learn import memory
from segem.learn.fold import folded
from segem.learn.memory import SCRATCH, activation_bytes
from segem.learn.models.registry import ZOO, build


class Doubles(nn.Module):
    """Holds its input, a copy of it and the sum of both."""

    def forward(self, x: Tensor) -> Tensor:
        return x + (x + 1)


class Splits(nn.Module):
    """Makes four smaller images of one, as max-pooling fragments do, and joins them again."""

    def forward(self, x: Tensor) -> Tensor:
        images = torch.cat([x[..., y::2, z::2] for y in (0, 1) for z in (0, 1)])
        return torch.nn.functional.pixel_shuffle(torch.cat(images.chunk(4), dim=1), 2)


def test_what_is_alive_at_the_same_time_is_added_up() -> None:
    assert activation_bytes(Doubles(), (1, 16, 16)) == int(3 * 16 * 16 * 4 * SCRATCH)


def test_a_chain_frees_what_it_no_longer_needs() -> None:
    chain = nn.Sequential(*(nn.Conv2d(1, 1, 3, padding=1, bias=False) for _ in range(5)))
    assert activation_bytes(chain, (1, 16, 16)) <= int(3 * 16 * 16 * 4 * SCRATCH)


def test_large_tiles_take_no_memory_to_be_asked_about() -> None:
    wide = activation_bytes(Doubles(), (2, 2**20, 2**20))
    assert wide == int(3 * 2 * 2**40 * 4 * SCRATCH)


def test_a_border_that_a_net_adds_counts_as_much_as_the_tile_is_small() -> None:
    bordered = nn.ReflectionPad2d(8)
    assert activation_bytes(bordered, (1, 16, 16)) == int((16**2 + 32**2) * 4 * SCRATCH)
    assert activation_bytes(bordered, (1, 160, 160)) == int((160**2 + 176**2) * 4 * SCRATCH)


@pytest.mark.parametrize("channels", [8, 16])
def test_memory_grows_with_the_channels(channels: int) -> None:
    net = nn.Sequential(nn.Conv2d(1, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, 1, 1))
    with torch.inference_mode():
        found = activation_bytes(net, (1, 64, 64)) / (64 * 64 * 4 * SCRATCH)
    assert channels < found <= 2 * channels + 1


OPTIONS = [
    *((name, {}) for name in ZOO),
    ("unet", {"shuffle_px": 2}),
    ("unet", {"shuffle_px": 4}),
    ("deeplab-v2-resnet101", {"multi_scale": True}),
]


@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_a_batch_of_none_is_followed_as_a_batch_of_one_would_be(name: str, options: dict[str, int]) -> None:
    net = folded(build(name, options))
    found = activation_bytes(net, (1, 96, 96))
    one = memory._follow(net.to("meta"), torch.zeros(1, 1, 96, 96, device="meta"))
    assert found == int(max(one.peak + one.widest / 2, one.peak_wide) * SCRATCH)


def test_images_that_a_net_makes_along_the_batch_count_too() -> None:
    # The input, the images, and what is joined of them before and after it is shuffled.
    assert activation_bytes(Splits(), (1, 16, 16)) == int(4 * 16 * 16 * 4 * SCRATCH)


def test_asking_loads_no_compiler() -> None:
    code = (
        "import sys, torch\n"
        "from segem.learn.memory import activation_bytes\n"
        "from segem.learn.models.registry import build\n"
        "activation_bytes(build('unet').eval(), (1, 512, 512))\n"
        "sys.exit('torch._dynamo' in sys.modules or 'sympy' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
