"""Predicts one section with a net, as a whole."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


@torch.inference_mode()
def predict_section(
    net: nn.Module,
    image: NDArray[np.float32],
    device: torch.device | str = "cpu",
    of_logits: Callable[[Tensor], Tensor] = torch.sigmoid,
) -> NDArray[np.float32]:
    """Return the membrane probability (H, W) of a whole section, given as (C, H, W) z-scores."""
    x = torch.from_numpy(np.ascontiguousarray(image))[None].to(device)
    probability: NDArray[np.float32] = of_logits(net(x))[0, 0].float().cpu().numpy()
    return probability
