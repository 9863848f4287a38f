"""Losses for membrane masks."""

from __future__ import annotations

from monai.losses import DiceLoss
from torch import Tensor, nn


class MembraneLoss(nn.Module):
    """Binary cross-entropy plus soft Dice: the first calibrates each voxel, the second resists class imbalance.

    Notes
    -----
    Dice as a loss: Milletari, Navab and Ahmadi (2016), doi:10.1109/3DV.2016.79.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cross_entropy = nn.BCEWithLogitsLoss()
        self.dice = DiceLoss(sigmoid=True, batch=True)

    def forward(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Return the loss of (B, 1, H, W) logits against truth of the same shape in 0..1."""
        loss: Tensor = self.cross_entropy(logits, truth) + self.dice(logits, truth)
        return loss
