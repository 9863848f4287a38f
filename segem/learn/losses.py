"""Losses for membrane masks."""

from __future__ import annotations

import torch
from monai.losses import DiceLoss
from torch import Tensor, nn
from torch.nn import functional as F

# Far below one pixel of a batch that counts: only a batch in which nothing does is divided by it.
_LEAST = 1e-12


class MembraneLoss(nn.Module):
    """Weighted binary cross-entropy plus soft Dice: the first calibrates each voxel, the second resists imbalance.

    Notes
    -----
    Dice as a loss: Milletari, Navab and Ahmadi (2016), doi:10.1109/3DV.2016.79. The weights of the cross-entropy are
    those of `segem.kernels.borders.border_weights`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dice = DiceLoss(batch=True)

    def forward(self, logits: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
        """Return the loss of (B, 1, H, W) logits against truth in 0..1 and weights, both of the same shape.

        Where the weight is 0, neither logit nor truth has a part in it; 0 everywhere makes it 0.
        """
        logits = logits.float()  # Mixed precision gives bfloat16.
        counts = (weight > 0).to(logits.dtype)
        cross_entropy = F.binary_cross_entropy_with_logits(logits, truth, weight)
        dice = self.dice(torch.sigmoid(logits) * counts, truth * counts)
        loss: Tensor = cross_entropy / weight.mean().clamp(min=_LEAST) + dice
        return loss
