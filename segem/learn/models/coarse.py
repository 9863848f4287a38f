"""What nets with scores on a coarse lattice share: padding, up-sampling, and their entries in the zoo."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segem.config import Config
from segem.learn.models.receptive_field import Resampled, Step, Window, longest_px, reach_px, windows
from segem.learn.models.spec import Geometry, ModelSpec


class CoarseNet(nn.Module):
    """A net that gives one score for each cell of a lattice, up-sampled bilinearly to logits at input size.

    A subclass sets `features` and the `head` that scores them; one that computes scores differently overrides `scores`
    and `coarse_steps` together.

    The input is padded with zeros, the mean of z-scores, to a multiple of the stride at the bottom and the right, and
    the logits are cropped. Up-sampling places a score at the centre of its cell (``align_corners=False``).

    Parameters
    ----------
    zoom : int
        Input pixels to one score.
    margin_px : int
        Zeros added on all four sides, for nets whose scores need more than the cell; a multiple of the stride.
    stride : int, optional
        Lattice on which tiles start, a multiple of the zoom; the zoom itself when absent.
    """

    features: nn.Sequential
    head: nn.Sequential

    def __init__(self, zoom: int, margin_px: int = 0, stride: int | None = None) -> None:
        super().__init__()
        self.zoom, self.margin_px, self.stride = zoom, margin_px, stride or zoom

    def scores(self, x: Tensor) -> Tensor:
        """Return the scores before up-sampling, (B, classes, H / zoom, W / zoom), of an input with its margin."""
        scores: Tensor = self.head(self.features(x))
        return scores

    def coarse_steps(self) -> tuple[Step, ...]:
        """Return what happens from the input with its margin to the scores."""
        return windows(self.features, self.head)

    def steps(self) -> tuple[Step, ...]:
        """Return what happens from the input to the logits."""
        return (Window(1, padding=self.margin_px), *self.coarse_steps(), Resampled(self.zoom))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, classes, H, W) of an input (B, channels_in, H, W)."""
        scores = self.scores(padded(x, self.stride, self.margin_px))
        logits = F.interpolate(scores, scale_factor=float(self.zoom), mode="bilinear", align_corners=False)
        return logits[..., : x.shape[-2], : x.shape[-1]]


def padded(x: Tensor, stride: int, margin: int = 0) -> Tensor:
    """Return an input padded with zeros to a multiple of the stride, and with a margin of zeros around that."""
    height, width = x.shape[-2:]
    return F.pad(x, (margin, margin + -width % stride, margin, margin + -height % stride))


def he_initialised(net: nn.Module) -> None:
    """Draw all convolutions from He's distribution, which keeps activations at one scale through a net without norms.

    Layers called ``score`` start near zero, as in the papers of FCN and DeepLab: a fresh net is sure of nothing.

    He et al. 2015, doi:10.1109/ICCV.2015.123.
    """
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d):
            # He's scale suits layers before a ReLU; the scores have none behind them.
            if name.endswith("score"):
                nn.init.normal_(module.weight, std=0.01)
            else:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class Traceable(Protocol):
    """A net whose halo follows from its layers."""

    stride: int

    def steps(self) -> tuple[Step, ...]:
        """Return what happens from the input to the logits."""
        ...


def entry(
    name: str,
    summary: str,
    source: str,
    options: type[Config],
    build: Callable[[Any], nn.Module],
    output_stride: int,
    pretrained: Callable[[nn.Module, Path | Literal["imagenet"]], None],
    encoder: str = "features.",
) -> ModelSpec:
    """Return the entry of a net whose halo and receptive field are derived from its own layers."""

    @cache
    def traced(chosen: Config) -> tuple[int, int, int]:
        # On the meta device a net has layers but no weights, so it is built in milliseconds.
        with torch.device("meta"):
            net = cast(Traceable, build(chosen))
        steps = net.steps()
        return net.stride, reach_px(steps, net.stride), longest_px(steps, net.stride)

    return ModelSpec(
        name=name,
        summary=summary,
        source=source,
        options=options,
        build=build,
        geometry=lambda o: Geometry(*traced(o)[:2], o.context_sections),
        receptive_field_px=lambda o: traced(o)[2],
        output_stride=output_stride,
        # Lower than the zoo's default: most of these nets have no batch norm.
        learning_rate=3e-4,
        batch=2,
        encoder=encoder,
        pretrained=pretrained,
    )
