"""A net whose logits give probabilities that can be trusted."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from segem.config import Config


class FittedOn(Config):
    """Sections of one volume that a calibration was fitted on."""

    volume: str
    source_digest: str
    """sha256 of the volume's voxels."""
    sections: tuple[int, int]


class Calibration(Config):
    """The line that logits are put through, found by `segem.kernels.platt.fit_platt`, and how well it fits."""

    scale: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    bias: float = Field(default=0.0, allow_inf_nan=False)
    ece_before: float | None = None
    """Expected calibration error of the net alone on the sections it was fitted on, mean over their volumes."""
    ece_validation: float | None = None
    """The same of the calibrated net."""
    fitted_on: tuple[FittedOn, ...] = ()
    """Empty where these are the sections that validated the training."""

    @property
    def line(self) -> tuple[float, float]:
        """All that changes what the net gives: scale and bias."""
        return self.scale, self.bias


NO_CALIBRATION = Calibration()


class Calibrated(nn.Module):
    """Gives the logits of a net, calibrated.

    Parameters
    ----------
    net : Module
        (B, C, H, W) to (B, 1, H, W) logits.
    calibration : Calibration
        What becomes of each of them.

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
