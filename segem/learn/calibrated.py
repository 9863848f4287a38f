"""A net with calibrated logits."""

from __future__ import annotations

from torch import Tensor, nn

from segem.records.card import NO_CALIBRATION, Calibration


class Calibrated(nn.Module):
    """Gives the logits of a net, calibrated.

    Parameters
    ----------
    net : Module
        (B, C, H, W) to (B, 1, H, W) logits.
    calibration : Calibration
        The line that logits are mapped by.

    Examples
    --------
    >>> import torch
    >>> Calibrated(nn.Identity(), Calibration(scale=2, bias=1))(torch.tensor([3.0])).item()
    7.0
    """

    def __init__(self, net: nn.Module, calibration: Calibration) -> None:
        super().__init__()
        self.net = net
        self.scale, self.bias = calibration.scale, calibration.bias

    def forward(self, x: Tensor) -> Tensor:
        """Return calibrated logits."""
        logits: Tensor = self.net(x)
        return logits * self.scale + self.bias


def calibrated(net: nn.Module, calibration: Calibration) -> nn.Module:
    """Return a net with calibrated logits: the net itself where they need none."""
    return net if calibration.line == NO_CALIBRATION.line else Calibrated(net, calibration).eval()
