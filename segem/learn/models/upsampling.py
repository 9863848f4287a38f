"""The ways to enlarge a map: nearest, bed of nails, bilinear, max-unpooling and transposed convolution.

The examples are the usual textbook ones, worked by hand.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segem.learn.models.receptive_field import Resampled, Step, Transposed

Kind = Literal["nearest", "bed_of_nails", "bilinear", "max_unpool", "transposed"]
STEPS: dict[Kind, Step] = {
    "nearest": Transposed(2, 2),
    "bed_of_nails": Transposed(1, 2),
    "bilinear": Resampled(2),
    # A remembered index never leaves its 2x2 square, so a pixel sees no more than with nearest.
    "max_unpool": Transposed(2, 2),
    "transposed": Transposed(2, 2),
}
"""What one output pixel of each sees, when a map is enlarged twofold."""


def nearest(x: Tensor, factor: int = 2) -> Tensor:
    """Return maps in which every value fills a square.

    Parameters
    ----------
    x : Tensor, (B, C, H, W)
    factor : int
        Edge of the square.

    Returns
    -------
    Tensor, (B, C, factor * H, factor * W)

    Examples
    --------
    >>> nearest(torch.tensor([[[[4.0, 2.0], [1.0, 5.0]]]]))[0, 0].int().tolist()
    [[4, 4, 2, 2], [4, 4, 2, 2], [1, 1, 5, 5], [1, 1, 5, 5]]
    """
    return F.interpolate(x, scale_factor=float(factor), mode="nearest")


def bed_of_nails(x: Tensor, factor: int = 2) -> Tensor:
    """Return maps in which every value stands at the upper left of a square of zeros; sizes are those of `nearest`.

    Examples
    --------
    >>> bed_of_nails(torch.tensor([[[[4.0, 2.0], [1.0, 5.0]]]]))[0, 0].int().tolist()
    [[4, 0, 2, 0], [0, 0, 0, 0], [1, 0, 5, 0], [0, 0, 0, 0]]
    """
    wide = torch.stack([x, *[torch.zeros_like(x)] * (factor - 1)], dim=-1).flatten(-2)
    return torch.stack([wide, *[torch.zeros_like(wide)] * (factor - 1)], dim=-2).flatten(-3, -2)


def bilinear(x: Tensor, factor: int = 2) -> Tensor:
    """Return maps whose values are weighted by their distances to the four nearest ones.

    Between the upper values V1, V2 and the lower ones V3, V4 lies q = q1 d4 + q2 d3 with q1 = V1 d2 + V2 d1 and
    q2 = V3 d2 + V4 d1, where d1 + d2 = d3 + d4 = 1 are the distances to the left, right, upper and lower neighbours.

    Notes
    -----
    Sizes are those of `nearest`. Values stand at the centres of their squares, so the first pixel of a map twice as
    large lies a quarter of a pixel before the first value, and the border repeats what is outermost.

    Examples
    --------
    >>> bilinear(torch.tensor([[[[0.0, 16.0], [32.0, 64.0]]]]))[0, 0].int().tolist()
    [[0, 4, 12, 16], [8, 13, 23, 28], [24, 31, 45, 52], [32, 40, 56, 64]]

    By the formula, with d1 = d3 = 1/4:

    >>> q1, q2 = 0 * 3 / 4 + 16 / 4, 32 * 3 / 4 + 64 / 4
    >>> q1 * 3 / 4 + q2 / 4
    13.0
    """
    return F.interpolate(x, scale_factor=float(factor), mode="bilinear", align_corners=False)


def max_pool(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest value of each 2x2 square, and where it stood.

    Parameters
    ----------
    x : Tensor, (B, C, H, W)
        Of even height and width.

    Returns
    -------
    values : Tensor, (B, C, H / 2, W / 2)
    indices : Tensor of int64, (B, C, H / 2, W / 2)
        Position in the map, counted row by row.

    Examples
    --------
    >>> x = torch.tensor([[[[3.0, 8, 1, 5], [7, 5, 6, 0], [7, 0, 4, 2], [8, 9, 6, 4]]]])
    >>> values, indices = max_pool(x)
    >>> values[0, 0].int().tolist(), indices[0, 0].tolist()
    ([[8, 6], [9, 6]], [[1, 6], [13, 14]])
    """
    values, indices = F.max_pool2d(x, 2, return_indices=True)
    return values, indices


def max_unpool(x: Tensor, indices: Tensor) -> Tensor:
    """Return maps of zeros with every value where `max_pool` found the largest one.

    Parameters
    ----------
    x : Tensor, (B, C, H, W)
    indices : Tensor of int64, (B, C, H, W)
        Positions in the larger map, counted row by row.

    Returns
    -------
    Tensor, (B, C, 2 * H, 2 * W)

    Notes
    -----
    Badrinarayanan, Kendall and Cipolla (2017), doi:10.1109/TPAMI.2016.2644615. It equals
    `torch.nn.functional.max_unpool2d`, which OpenVINO cannot convert.

    Examples
    --------
    >>> indices = torch.tensor([[[[1, 6], [13, 14]]]])
    >>> max_unpool(torch.tensor([[[[4.0, 2.0], [1.0, 5.0]]]]), indices)[0, 0].int().tolist()
    [[0, 4, 0, 0], [0, 0, 2, 0], [0, 0, 0, 0], [0, 1, 5, 0]]
    """
    batch, channels, height, width = x.shape
    flat = x.new_zeros((batch, channels, 4 * height * width)).scatter(2, indices.flatten(2), x.flatten(2))
    return flat.view(batch, channels, 2 * height, 2 * width)


def transposed(channels_in: int, channels_out: int, kernel: int = 2, factor: int = 2) -> nn.ConvTranspose2d:
    """Return a transposed convolution: every value lays down the kernel times itself, and what overlaps is summed.

    Parameters
    ----------
    channels_in, channels_out : int
    kernel : int
        Edge of the kernel, `factor` or an even number of pixels more.
    factor : int
        Step between kernels, and how many times larger the output is.

    Returns
    -------
    ConvTranspose2d

    Examples
    --------
    A convolution of stride 2, and the transposed one of its result by the same kernel:

    >>> kernel = torch.eye(2)[None, None]
    >>> x = torch.tensor([[[[2.0, 8, 1, 5], [7, 2, 6, 1], [1, 0, 3, 2], [8, 0, 6, 2]]]])
    >>> small = F.conv2d(x, kernel, stride=2)
    >>> small[0, 0].int().tolist()
    [[4, 2], [1, 5]]
    >>> up = transposed(1, 1)
    >>> up.weight.data, up.bias.data = kernel, torch.zeros(1)
    >>> up(small)[0, 0].int().tolist()
    [[4, 0, 2, 0], [0, 4, 0, 2], [1, 0, 5, 0], [0, 1, 0, 5]]
    """
    # This padding makes the output exactly `factor` times as large.
    return nn.ConvTranspose2d(channels_in, channels_out, kernel, stride=factor, padding=(kernel - factor) // 2)


class Upsampling(nn.Module):
    """Makes maps twice as large in one of the ways of this module.

    Parameters
    ----------
    kind : {"nearest", "bed_of_nails", "bilinear", "max_unpool", "transposed"}
    channels : int
        Of the maps; only a transposed convolution has weights.

    Examples
    --------
    >>> Upsampling("nearest", 3)(torch.zeros(1, 3, 5, 7), torch.zeros(0)).shape
    torch.Size([1, 3, 10, 14])
    """

    def __init__(self, kind: Kind, channels: int) -> None:
        super().__init__()
        self.kind = kind
        self.learned = transposed(channels, channels) if kind == "transposed" else None

    def forward(self, x: Tensor, indices: Tensor) -> Tensor:
        """Return larger maps; `indices` are those of the pooling that is undone, used by max-unpooling only."""
        if self.learned is not None:
            larger: Tensor = self.learned(x)
            return larger
        if self.kind == "max_unpool":
            return max_unpool(x, indices)
        return {"nearest": nearest, "bed_of_nails": bed_of_nails, "bilinear": bilinear}[self.kind](x)
