"""The U-Net as it was published: valid convolutions and mirrored borders."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from segem.geometry import round_up
from segem.learn.models.mirror import mirrored
from segem.learn.models.receptive_field import Step, Transposed, Window, longest_px, reach_px, seen
from segem.learn.models.spec import Geometry, ModelSpec, NetOptions

DEPTH = 4
STRIDE = 16
LOST_PX = 92
"""Border that the valid convolutions cost on each side."""
STEPS: tuple[Step, ...] = (
    Window(1, padding=LOST_PX),
    *(Window(5), Window(2, 2)) * DEPTH,
    Window(5),
    *(Transposed(2, 2), Window(5)) * DEPTH,
)
"""The longest way from the input with its border to the logits; the two convolutions of a level see 5 pixels."""


class UNet2015Options(NetOptions):
    """Options of the original U-Net."""

    features: int = Field(default=64, ge=1, le=128)


class ValidDoubleConv(nn.Sequential):
    """Two 3x3 convolutions without padding, each followed by ReLU."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(
            nn.Conv2d(channels_in, channels_out, 3),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels_out, channels_out, 3),
            nn.ReLU(inplace=True),
        )


class ValidUNet(nn.Module):
    """The net itself: inputs of 16 k + 12 pixels, k >= 11, come out 184 pixels smaller.

    Parameters
    ----------
    channels_in, classes, features : int
        Channels of the input, the output and the first level.

    Notes
    -----
    Ronneberger, Fischer and Brox (2015), doi:10.1007/978-3-319-24574-4_28: 23 convolutions, no batch norm, skips cut to
    the middle and concatenated, weights drawn with a standard deviation of sqrt(2 / N) for N inputs of a neuron. Where
    exactly the dropout "at the end of the contracting path" sits the paper leaves open: here it follows the last level
    before, and the level at, the bottom.

    Examples
    --------
    >>> ValidUNet(features=1)(torch.zeros(1, 1, 572, 572)).shape
    torch.Size([1, 2, 388, 388])
    """

    def __init__(self, channels_in: int = 1, classes: int = 2, features: int = 64) -> None:
        super().__init__()
        widths = [features * 2**level for level in range(DEPTH + 1)]
        self.down = nn.ModuleList(ValidDoubleConv(a, b) for a, b in pairwise([channels_in, *widths]))
        self.dropout = nn.Dropout(0.5)
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in pairwise(widths))
        self.merge = nn.ModuleList(ValidDoubleConv(2 * a, a) for a in widths[:-1])
        self.head = nn.Conv2d(features, classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            elif isinstance(module, nn.ConvTranspose2d):
                # Kernels as wide as their stride do not overlap: each output sees every channel once.
                nn.init.normal_(module.weight, std=math.sqrt(2 / module.in_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, classes, H - 184, W - 184) of (B, channels_in, H, W)."""
        skips = []
        for level, block in enumerate(self.down):
            if level:
                x = F.max_pool2d(x, 2)
            x = block(x)
            if level >= DEPTH - 1:
                x = self.dropout(x)
            skips.append(x)
        skips.pop()
        lost = 4
        for up, merge, skip in zip(reversed(self.up), reversed(self.merge), reversed(skips), strict=True):
            x = merge(torch.cat([F.pad(skip, (-lost,) * 4), up(x)], dim=1))
            # Two convolutions on either side of a level cost 4 pixels more, which count twice in the next finer level.
            lost = 2 * (lost + 4)
        logits: Tensor = self.head(x)
        return logits


class UNet2015(nn.Module):
    """The original U-Net by the paper's overlap-tile strategy: mirrored borders make the output as large as the input.

    Parameters
    ----------
    channels_in, features : int
        Of the net within.

    Examples
    --------
    >>> UNet2015(features=1)(torch.zeros(1, 1, 30, 41)).shape
    torch.Size([1, 1, 30, 41])
    """

    def __init__(self, channels_in: int = 1, features: int = 64) -> None:
        super().__init__()
        self.net = ValidUNet(channels_in, 2, features)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, 1, H, W) of (B, channels_in, H, W)."""
        height, width = x.shape[-2:]
        x = mirrored(x, LOST_PX, (LOST_PX + missing_px(height), LOST_PX + missing_px(width)))
        logits: Tensor = self.net(x)[..., :height, :width]
        # The softmax of two classes is the sigmoid of their difference.
        return logits[:, 1:] - logits[:, :1]


def missing_px(size: int) -> int:
    """Return how many pixels more an axis needs, so that with 92 on each side its length is 16 k + 12.

    Examples
    --------
    >>> [missing_px(size) for size in (388, 512, 1)]
    [0, 4, 3]
    """
    return (4 - size) % STRIDE


def unet2015_halo_px() -> int:
    """Return the context needed around a core for exact output, at mirrored borders too.

    Where a section ends amid the lattice, its last pixel may see 110 mirrored pixels beyond the border, which are those
    109 before the start of its core; between cores 96 would do.

    Examples
    --------
    >>> unet2015_halo_px()
    112
    """
    at_border = max(seen(STEPS, position, position)[1] - 2 * position for position in range(STRIDE))
    return max(reach_px(STEPS, STRIDE), round_up(at_border, STRIDE))


SPECS = (
    ModelSpec(
        name="unet2015",
        summary="the original U-Net: valid convolutions, mirrored borders, 31 million weights",
        source="Ronneberger et al. 2015, doi:10.1007/978-3-319-24574-4_28",
        options=UNet2015Options,
        build=lambda o: UNet2015(o.context_sections, o.features),
        learning_rate=3e-4,
        batch=1,
        geometry=lambda o: Geometry(STRIDE, unet2015_halo_px(), o.context_sections),
        receptive_field_px=lambda _: longest_px(STEPS, STRIDE),
        encoder="net.down.",
    ),
)
