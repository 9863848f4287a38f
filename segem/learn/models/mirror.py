"""The border that a net without padding loses, filled with the mirrored section."""

from __future__ import annotations

import torch
from torch import Tensor


def mirrored(x: Tensor, before: int, after: tuple[int, int]) -> Tensor:
    """Return images with a mirrored border, which may be wider than the image itself.

    Parameters
    ----------
    x : Tensor, (B, C, H, W)
        Images of at least one pixel.
    before : int
        Pixels to add at the top and at the left.
    after : tuple of int
        Pixels to add at the bottom and at the right.

    Returns
    -------
    Tensor, (B, C, before + H + after[0], before + W + after[1])

    Notes
    -----
    The outermost row is not repeated. `torch.nn.functional.pad` does the same but refuses borders as wide as the image.

    Examples
    --------
    >>> mirrored(torch.arange(3)[None, None, None], 0, (0, 6))[0, 0, 0].tolist()
    [0, 1, 2, 1, 0, 1, 2, 1, 0]
    """
    for axis, more in zip((-2, -1), after, strict=True):
        x = x.index_select(axis, _indices(x.shape[axis], before, more, x.device))
    return x


def _indices(size: int, before: int, after: int, device: torch.device) -> Tensor:
    # 1 // size is 1 for a single pixel only, whose period would be 0. Without a branch, a traced net keeps all sizes.
    period = 2 * size - 2 + 1 // size
    positions = torch.arange(-before, size + after, device=device)
    return size - 1 - (torch.remainder(positions, period) - (size - 1)).abs()
