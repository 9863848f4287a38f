"""A net that never leaves full resolution."""

from __future__ import annotations

from itertools import pairwise

from pydantic import Field
from torch import Tensor, nn

from segem.learn.models.spec import Geometry, ModelSpec, NetOptions


class FullResolutionOptions(NetOptions):
    """Options of the net without pooling."""

    features: int = Field(default=32, ge=1, le=512)
    layers: int = Field(default=8, ge=1, le=64)


class FullResolution(nn.Module):
    """A chain of 3x3 convolutions with batch norm and ReLU, without any pooling, and a 1x1 convolution.

    The plainest net that keeps the resolution of its input, and the reason why others pool: each layer costs as much
    as the whole image allows, and widens the field of view by 2 pixels only.

    Parameters
    ----------
    channels_in : int
        Adjacent sections the net sees at once.
    features : int
        Channels of every layer.
    layers : int
        3x3 convolutions.

    Examples
    --------
    >>> import torch
    >>> FullResolution(features=4, layers=2)(torch.zeros(1, 1, 5, 7)).shape
    torch.Size([1, 1, 5, 7])
    """

    def __init__(self, channels_in: int = 1, features: int = 32, layers: int = 8) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for before, after in pairwise([channels_in, *[features] * layers]):
            convolution = nn.Conv2d(before, after, 3, padding=1, bias=False)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            parts += [convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        self.chain = nn.Sequential(*parts, nn.Conv2d(features, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, 1, H, W) of (B, channels_in, H, W)."""
        logits: Tensor = self.chain(x)
        return logits


SPECS = (
    ModelSpec(
        name="fullres",
        summary="3x3 convolutions at full resolution, no pooling",
        source="the plain net that Long et al. 2015, arXiv:1411.4038, and others improve on",
        options=FullResolutionOptions,
        build=lambda o: FullResolution(o.context_sections, o.features, o.layers),
        geometry=lambda o: Geometry(1, o.layers, o.context_sections),
        receptive_field_px=lambda o: 1 + 2 * o.layers,
    ),
)
