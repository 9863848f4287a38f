"""The net of a model for whole sections of any volume: at the scale that suits its pixels, and tile by tile."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import nn

from segem.geometry import VoxelSize
from segem.learn.artefact import Artefact
from segem.learn.pieces import in_pieces
from segem.learn.scale import AS_IS, Scale, find_scale, geometry_at, net_at


def nets_by_pixel_size(artefact: Artefact, device: torch.device) -> Callable[[VoxelSize], nn.Module]:
    """Return what gives the net of a model for volumes of a voxel size; each is made once.

    Pixels too far from those it learned at are taken as they are: here models are compared, and none is refused.

    Raises
    ------
    ModelError
        When the weights are damaged, belong to another architecture or hold NaN or infinity.
    """

    @cache
    def net_of(scale: Scale) -> nn.Module:
        return in_pieces(net_at(artefact, scale).to(device), geometry_at(artefact.card, scale))

    # The usual one at once, so that a damaged model is found before any section is read.
    net_of(AS_IS)
    return lambda voxel: net_of(find_scale(voxel, artefact.card) or AS_IS)
