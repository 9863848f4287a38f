"""Wraps a net so that it takes a large section tile by tile."""

from __future__ import annotations

from torch import Tensor, nn

from segem.geometry import Halo
from segem.learn.models.spec import Geometry
from segem.plan import MAX_TILE_PX, Plan, crop_tiling


class Pieces(nn.Module):
    """Gives the logits of a net, computed tile by tile where a section is large.

    A whole section of 8192 x 8192 pixels takes tens of gigabytes to compute at once. Each tile has the halo that the
    net needs, so its logits are those of the whole section except for rounding.

    Parameters
    ----------
    net : Module
        (B, C, H, W) to (B, 1, H, W) logits.
    stride_px, halo_px : int
        Lattice of its poolings, and the context it needs around a core.
    max_tile_px : int
        Longest edge of a tile in pixels; at least one stride with its halo on both sides.

    Examples
    --------
    >>> import torch
    >>> blur = nn.AvgPool2d(3, stride=1, padding=1)
    >>> section = torch.rand(1, 1, 40, 50)
    >>> torch.allclose(Pieces(blur, 1, 1, max_tile_px=16)(section), blur(section))
    True
    """

    def __init__(self, net: nn.Module, stride_px: int, halo_px: int, max_tile_px: int = MAX_TILE_PX) -> None:
        super().__init__()
        self.net = net
        self.stride_px, self.halo, self.max_tile_px = stride_px, Halo(0, halo_px, halo_px), max_tile_px

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        height, width = x.shape[-2:]
        section = (1, height, width)
        tiling = crop_tiling(section, section, self.halo, self.stride_px, max_tile_px=self.max_tile_px)
        (block,) = Plan(section, section, tiling).blocks()
        # Most sections fit: no copy then, and the bytes of a plain call.
        if len(block.tiles) == 1:
            whole: Tensor = self.net(x)
            return whole
        logits = x.new_empty((x.shape[0], 1, height, width))
        for tile in block.tiles:
            _, rows, columns = tile.read.slices
            _, *core = tile.write.relative_to(tile.read.start).slices
            logits[(..., *tile.write.slices[1:])] = self.net(x[..., rows, columns])[(..., *core)]
        return logits


def in_pieces(net: nn.Module, geometry: Geometry) -> nn.Module:
    """Return a net that takes large sections tile by tile: the net itself where it has to see the whole section."""
    return net if geometry.halo_px is None else Pieces(net, geometry.stride_px, geometry.halo_px).eval()
