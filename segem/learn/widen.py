"""Lets a net that was trained on single sections see neighbouring ones too, without changing its output."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def widened(state: Mapping[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """Return weights for a net whose convolutions on the input take more sections than those of the weights.

    The old weights go to the middle sections and the new ones are zero, so the output is exactly what it was.

    Parameters
    ----------
    state : mapping of str to Tensor
        Weights of the narrower net.
    net : Module
        The wider one, of the same architecture otherwise.

    Returns
    -------
    dict of str to Tensor
        Weights of another architecture are returned unchanged, for the loader to refuse.

    Examples
    --------
    >>> wide = nn.Conv2d(3, 1, 1, bias=False)
    >>> widened({"weight": torch.full((1, 1, 1, 1), 7.0)}, wide)["weight"].flatten().tolist()
    [0.0, 7.0, 0.0]
    """
    own = net.state_dict()
    # The first weights of four dimensions are the first convolution: its inputs are the sections.
    first = next(key for key, value in own.items() if value.dim() == 4)
    if first not in state or state[first].dim() != 4:
        return dict(state)
    before, after = state[first].shape[1], own[first].shape[1]
    extra = after - before
    # An odd number of new sections would leave the old ones off the middle.
    if extra <= 0 or extra % 2:
        return dict(state)
    wider = dict(state)
    for key, value in state.items():
        # Some nets have a second convolution on the input, further on (deeplab-v1-msc).
        if value.dim() != 4:
            continue
        outputs, inputs, *kernel = value.shape
        if inputs == before and key in own and own[key].shape == (outputs, after, *kernel):
            side = value.new_zeros(outputs, extra // 2, *kernel)
            wider[key] = torch.cat([side, value, side], dim=1)
    return wider
