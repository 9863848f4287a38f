"""Deep supervision: during training, coarser levels of the decoder predict the membranes too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from segem.config import TrainConfig
from segem.learn.models.registry import side_outputs
from segem.learn.models.spec import SideOutput

_LEAST = 1e-6
"""Far below the share of one known pixel, so it matters only where there is none."""
Levels = Mapping[int, Tensor]
"""Logits (B, 1, H, W) by their stride in input pixels; the net's own have stride 1."""


class Supervised(nn.Module):
    """A net in training, with a 1x1 convolution on each of its side outputs.

    The heads are trained with the net and saved in checkpoints. The net itself is not changed by them.

    Parameters
    ----------
    net : Module
        (B, C, H, W) to (B, 1, H, W) logits.
    sides : sequence of SideOutput
        Where heads are attached.

    Notes
    -----
    Lee et al. (2015), Deeply-supervised nets, arXiv:1409.5185; as in nnU-Net, Isensee et al. (2021),
    doi:10.1038/s41592-020-01008-z.

    Examples
    --------
    >>> import torch
    >>> from segem.learn.models.registry import build
    >>> options = {"features": 2, "depth": 4}
    >>> learner = Supervised(build("unet", options), side_outputs("unet", options))
    >>> {stride: tuple(logits.shape[2:]) for stride, logits in learner(torch.zeros(1, 1, 64, 64)).items()}
    {1: (64, 64), 2: (32, 32), 4: (16, 16)}
    """

    def __init__(self, net: nn.Module, sides: Sequence[SideOutput]) -> None:
        super().__init__()
        self.net = net
        self.heads = nn.ModuleList(nn.Conv2d(side.channels, 1, 1) for side in sides)
        self._found: dict[int, Tensor] = {}
        # Hooks instead of a changed forward: the net keeps its code and the names of its weights, so the trained model
        # is one without heads.
        for side, head in zip(sides, self.heads, strict=True):
            net.get_submodule(side.module).register_forward_hook(partial(self._look, side.stride_px, head))

    def _look(self, stride: int, head: nn.Module, _net: nn.Module, _inputs: object, features: Tensor) -> None:
        self._found[stride] = head(features)

    def forward(self, x: Tensor) -> Levels:
        """Return the logits of the net and of each head."""
        self._found = {}
        logits = self.net(x)
        # Nothing is kept between steps: a tensor here would hold the graph of the whole step in memory.
        found, self._found = self._found, {}
        return {1: logits} | dict(sorted(found.items()))


class SupervisedLoss(nn.Module):
    """The weighted mean of the losses of all levels; each counts half as much as the next finer one.

    Parameters
    ----------
    loss : callable
        Loss of (B, 1, H, W) logits, truth and weights of one shape.

    Notes
    -----
    The weights are those of nnU-Net. There the truth of a coarse level is that of the nearest pixel; here it is the
    share of membrane in a coarse pixel, since a membrane may be thinner than one.

    Examples
    --------
    >>> import torch
    >>> distance = lambda logits, truth, weight: (logits - truth).abs().mean()
    >>> truth = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    >>> levels = {1: truth + 3, 2: torch.zeros(1, 1, 1, 1)}
    >>> SupervisedLoss(distance)(levels, truth, torch.ones_like(truth))  # (3 + 0.25 / 2) / 1.5
    tensor(2.0833)
    """

    def __init__(self, loss: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, levels: Levels, truth: Tensor, weight: Tensor) -> Tensor:
        """Return the loss of the logits of all levels against truth in 0..1 and weights of full size."""
        total, known = truth.new_zeros(()), (weight > 0).to(truth.dtype)
        for stride, logits in levels.items():
            # Unknown pixels, whose weight is 0, have no part in the truth of a coarse pixel either.
            known_here, truth_here, weight_here = (_pooled(x, stride) for x in (known, truth * known, weight))
            truth_here = truth_here / known_here.clamp(min=_LEAST)
            # A net may have padded its input to a multiple of its stride, at the bottom and the right.
            height, width = truth_here.shape[-2:]
            total = total + self.loss(logits[..., :height, :width], truth_here, weight_here) / stride
        return total / sum(1 / stride for stride in levels)


def supervise(net: nn.Module, loss: nn.Module, config: TrainConfig) -> tuple[Supervised, SupervisedLoss]:
    """Return a net with heads, to be trained in its place, and the loss of its output.

    Parameters
    ----------
    net : Module
        Of the architecture that the configuration names.
    loss : Module
        Loss of (B, 1, H, W) logits, truth and weights of one shape.
    config : TrainConfig
        Names the architecture.

    Raises
    ------
    ConfigError
        When the architecture offers no side outputs.
    """
    sides = side_outputs(config.model, config.architecture)
    return Supervised(net, sides).to(next(net.parameters()).device), SupervisedLoss(loss)


def _pooled(layer: Tensor, stride: int) -> Tensor:
    # The last row and column may be incomplete; their mean is over the pixels that exist.
    return F.avg_pool2d(layer, stride, ceil_mode=True, count_include_pad=False)
