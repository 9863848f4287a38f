"""Losses for membrane masks."""

from __future__ import annotations

from monai.losses import DiceLoss
from torch import Tensor, nn
from torch.nn import functional as F


class MembraneLoss(nn.Module):
    """Weighted binary cross-entropy plus soft Dice: the first calibrates each voxel, the second resists imbalance.

    Notes
    -----
    Dice as a loss: Milletari, Navab and Ahmadi (2016), doi:10.1109/3DV.2016.79. The weights of the cross-entropy are
    those of `segem.kernels.borders.border_weights`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dice = DiceLoss(sigmoid=True, batch=True)

    def forward(self, logits: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
        """Return the loss of (B, 1, H, W) logits against truth in 0..1 and weights, both of the same shape."""
        logits = logits.float()  # Mixed precision gives bfloat16.
        cross_entropy = F.binary_cross_entropy_with_logits(logits, truth, weight)
        loss: Tensor = cross_entropy / weight.mean() + self.dice(logits, truth)
        return loss
