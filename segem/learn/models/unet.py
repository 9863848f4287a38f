"""The practical U-Net: same padding, batch norm, any input size."""

from __future__ import annotations

from itertools import pairwise

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from segem.learn.models.receptive_field import Step, Transposed, Window, longest_px, reach_px
from segem.learn.models.spec import Geometry, ModelSpec, NetOptions, SideOutput


class UNetOptions(NetOptions):
    """Options of the practical U-Net."""

    features: int = Field(default=16, ge=1, le=256)
    depth: int = Field(default=4, ge=1, le=7)
    shuffle_px: int = Field(default=1, ge=1, le=4)
    """Edge of the squares of pixels that become channels of one; with 2 the net is about four times as fast."""


class DoubleConv(nn.Sequential):
    """Two 3x3 convolutions, each followed by batch norm and ReLU."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(
            # No bias: batch norm would subtract it again.
            nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels_out),
            nn.ReLU(inplace=True),
        )


class UNet(nn.Module):
    """U-Net whose output has the size of its input.

    Parameters
    ----------
    channels_in : int
        Adjacent sections the net sees at once (2.5-D when more than 1).
    classes : int
        Output channels; 1 = membrane.
    features : int
        Channels of the first level; each deeper level doubles them.
    depth : int
        Number of poolings; the output stride lattice is ``shuffle_px * 2 ** depth``.
    shuffle_px : int
        Edge of the squares of pixels that become channels of one pixel before the first level, and again pixels after
        the last.

    Notes
    -----
    Ronneberger, Fischer and Brox (2015), doi:10.1007/978-3-319-24574-4_28, with three changes that have since become
    usual: padded convolutions, so that no border is lost; batch norm, which folds into the convolutions for inference;
    and one logit for two classes. The last layer of a net with `shuffle_px` is the sub-pixel convolution of Shi et al.
    (2016), doi:10.1109/CVPR.2016.207, and its first the reverse. Inputs are padded with zeros to a multiple of the
    stride at the bottom and the right and the logits cut back, so any size of at least one pixel is accepted.

    Examples
    --------
    >>> net = UNet(features=4, depth=2)
    >>> net(torch.zeros(1, 1, 30, 41)).shape
    torch.Size([1, 1, 30, 41])
    """

    def __init__(
        self, channels_in: int = 1, classes: int = 1, features: int = 32, depth: int = 4, shuffle_px: int = 1
    ) -> None:
        super().__init__()
        self.stride, self.shuffle_px = shuffle_px * 2**depth, shuffle_px
        channels_in, classes = channels_in * shuffle_px**2, classes * shuffle_px**2
        widths = [features * 2**level for level in range(depth + 1)]
        # Each pooling keeps a quarter of the pixels, so double the channels cost each level about as much as the last.
        self.down = nn.ModuleList(DoubleConv(a, b) for a, b in zip([channels_in, *widths[:-1]], widths, strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in pairwise(widths))
        self.merge = nn.ModuleList(DoubleConv(2 * a, a) for a in widths[:-1])
        self.head = nn.Conv2d(features, classes, 1)
        for module in self.modules():
            # He's scale keeps activations of one size through ReLUs, from the first step on.
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Return logits.

        Parameters
        ----------
        x : Tensor, (B, channels_in, H, W) float32

        Returns
        -------
        Tensor, (B, classes, H, W) float32
        """
        height, width = x.shape[-2:]
        # At the bottom and the right only, so that the lattice of the poolings starts at the first pixel. Zero is the
        # mean of z-scores.
        x = F.pad(x, (0, -width % self.stride, 0, -height % self.stride))
        if self.shuffle_px > 1:
            x = F.pixel_unshuffle(x, self.shuffle_px)
        skips = []
        for level, block in enumerate(self.down):
            if level:
                x = F.max_pool2d(x, 2)
            x = block(x)
            skips.append(x)
        # The deepest map is what the decoder starts from, not a skip.
        skips.pop()
        for up, merge, skip in zip(reversed(self.up), reversed(self.merge), reversed(skips), strict=True):
            x = merge(torch.cat([skip, up(x)], dim=1))
        logits: Tensor = self.head(x)
        if self.shuffle_px > 1:
            logits = F.pixel_shuffle(logits, self.shuffle_px)
        return logits[..., :height, :width]


def unet_steps(depth: int, shuffle_px: int = 1) -> tuple[Step, ...]:
    """Return the longest path from the input to the logits of a `UNet`; two 3x3 convolutions together see 5 pixels."""
    level = Window(5, padding=2)
    levels = (level, Window(2, 2)) * depth + (level,) + (Transposed(2, 2), level) * depth
    return (Window(shuffle_px, shuffle_px), *levels, Transposed(shuffle_px, shuffle_px))


def unet_halo_px(depth: int, shuffle_px: int = 1) -> int:
    """Return the context a `UNet` needs around a core for exact output, rounded up to its stride.

    This holds for cores and tiles that start on the lattice of the stride.

    Examples
    --------
    >>> [unet_halo_px(depth) for depth in (1, 2, 3, 4)]
    [8, 24, 48, 96]
    >>> unet_halo_px(3, shuffle_px=2)
    96
    """
    return reach_px(unet_steps(depth, shuffle_px), shuffle_px * 2**depth)


def unet_sides(features: int, depth: int, shuffle_px: int = 1) -> tuple[SideOutput, ...]:
    """Return the levels of a `UNet` that are supervised: all of the decoder but the two coarsest, as in nnU-Net.

    Examples
    --------
    >>> unet_sides(features=16, depth=3)
    (SideOutput(module='merge.1', channels=32, stride_px=2),)
    """
    return tuple(
        SideOutput(f"merge.{level}", features * 2**level, shuffle_px * 2**level) for level in range(1, depth - 1)
    )


SPECS = (
    ModelSpec(
        name="unet",
        summary="same-padding U-Net with batch norm, any input size",
        source="Ronneberger et al. 2015, doi:10.1007/978-3-319-24574-4_28",
        options=UNetOptions,
        build=lambda o: UNet(o.context_sections, 1, o.features, o.depth, o.shuffle_px),
        geometry=lambda o: Geometry(o.shuffle_px * 2**o.depth, unet_halo_px(o.depth, o.shuffle_px), o.context_sections),
        receptive_field_px=lambda o: longest_px(unet_steps(o.depth, o.shuffle_px), o.shuffle_px * 2**o.depth),
        encoder="down.",
        sides=lambda o: unet_sides(o.features, o.depth, o.shuffle_px),
    ),
)
