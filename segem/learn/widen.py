"""Lets a net that learned from single sections see its neighbours too, without forgetting anything."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def widened(state: Mapping[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """Return weights for a net whose first convolution takes more sections than that of the weights.

    The old weights go to the middle sections and the new ones are zero, so the net gives exactly what it gave before.

    Parameters
    ----------
    state : mapping of str to Tensor
        Weights of the narrower net.
    net : Module
        The wider one, of the same architecture otherwise.

    Returns
    -------
    dict of str to Tensor
        Weights of another architecture are returned as they are, for the loader to refuse.

    Examples
    --------
    >>> wide = nn.Conv2d(3, 1, 1, bias=False)
    >>> widened({"weight": torch.full((1, 1, 1, 1), 7.0)}, wide)["weight"].flatten().tolist()
    [0.0, 7.0, 0.0]
    """
    first = next(key for key, value in net.state_dict().items() if value.dim() == 4)
    into, value = net.state_dict()[first], state.get(first)
    if value is None or value.dim() != 4:
        return dict(state)
    extra = into.shape[1] - value.shape[1]
    if extra <= 0 or extra % 2 or into.shape[0] != value.shape[0] or into.shape[2:] != value.shape[2:]:
        return dict(state)
    side = value.new_zeros(value.shape[0], extra // 2, *value.shape[2:])
    return dict(state) | {first: torch.cat([side, value, side], dim=1)}
