"""What a net holds while it evaluates a tile, by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from segem.learn.memory import SCRATCH, activation_bytes


class Doubles(nn.Module):
    """Holds its input, a copy of it and the sum of both."""

    def forward(self, x: Tensor) -> Tensor:
        return x + (x + 1)


class Views(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, ::2, ::2].view(1, 1, -1)[:, :, 1:]


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
