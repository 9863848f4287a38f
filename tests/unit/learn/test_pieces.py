"""A section computed piece by piece is the section computed whole."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from segem.learn.models.registry import build, geometry
from segem.learn.models.spec import Geometry
from segem.learn.pieces import Pieces, in_pieces


class Largest(nn.Module):
    """Notes the largest input a net is given."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.px = net, 0

    def forward(self, x: Tensor) -> Tensor:
        """Return what the net does."""
        self.px = max(self.px, *x.shape[-2:])
        logits: Tensor = self.net(x)
        return logits


@torch.inference_mode()
@settings(max_examples=25, deadline=None)
@given(height=st.integers(1, 150), width=st.integers(1, 150))
def test_in_pieces_as_whole(height: int, width: int) -> None:
    torch.manual_seed(0)
    options = {"features": 4, "depth": 2, "context_sections": 3}
    net, shape = build("unet", options).eval(), geometry("unet", options)
    assert shape.halo_px is not None
    seen = Largest(net)
    section = torch.randn(1, 3, height, width)
    found = Pieces(seen, shape.stride_px, shape.halo_px, max_tile_px=80)(section)
    assert torch.allclose(found, net(section), atol=1e-5)
    assert seen.px <= 80


@torch.inference_mode()
def test_a_net_that_must_see_all_is_left_as_it_is() -> None:
    net = nn.Conv2d(1, 1, 3, padding=1)
    assert in_pieces(net, Geometry(8, None, 1)) is net
    assert isinstance(in_pieces(net, Geometry(1, 1, 1)), Pieces)


@pytest.mark.parametrize("px", [1472, 1500])
@torch.inference_mode()
def test_only_large_sections_are_cut(px: int) -> None:
    seen = Largest(nn.Conv2d(1, 1, 3, padding=1))
    in_pieces(seen, Geometry(16, 16, 1))(torch.zeros(1, 1, 40, px))
    assert seen.px == px if px <= 1472 else seen.px < px
