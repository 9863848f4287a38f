"""Losses for membrane masks."""

from __future__ import annotations

import torch
from monai.losses import DiceLoss
from torch import Tensor, nn
from torch.nn import functional as F

# Far below the mean weight of a batch with one known pixel, so it matters only where there is none.
_LEAST = 1e-12


class MembraneLoss(nn.Module):
    """Weighted binary cross-entropy plus soft Dice: the first scores each pixel, the second resists class imbalance.

    Notes
    -----
    Dice as a loss: Milletari, Navab and Ahmadi (2016), doi:10.1109/3DV.2016.79. The weights of the cross-entropy are
    those of `segem.kernels.borders.border_weights`.
    """

    def __init__(self) -> None:
        super().__init__()
        # Over the whole batch: in a crop without membrane, Dice would rest on its smoothing term alone.
        self.dice = DiceLoss(batch=True)

    def forward(self, logits: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
        """Return the loss of (B, 1, H, W) logits against truth in 0..1 and weights, both of the same shape.

        Where the weight is 0, neither logit nor truth has a part in it; 0 everywhere makes it 0.
        """
        # In mixed precision logits are bfloat16, whose 8 significant bits are too few for sums over a batch.
        logits = logits.float()
        counts = (weight > 0).to(logits.dtype)
        cross_entropy = F.binary_cross_entropy_with_logits(logits, truth, weight)
        dice = self.dice(torch.sigmoid(logits) * counts, truth * counts)
        # A weighted mean: otherwise unlabelled pixels would dilute a batch, and many borders would inflate it.
        loss: Tensor = cross_entropy / weight.mean().clamp(min=_LEAST) + dice
        return loss
