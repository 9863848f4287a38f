"""What the zoo knows of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, field_validator
from torch import nn

from segem.config import Config


class NetOptions(Config):
    """Options that every net has; the text below an option is what ``segem models show`` says of it."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    context_sections: int = Field(default=1, ge=1, le=31)
    """Adjacent sections seen at once; odd, 1 = a single section."""

    @field_validator("context_sections")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError(
                f"give an odd number such as {value - 1} or {value + 1}: a section and as many on either side"
            )
        return value


@dataclass(frozen=True)
class Geometry:
    """What a planner must know of a net.

    Parameters
    ----------
    stride_px : int
        Tiles must start on multiples of this.
    halo_px : int or None
        Context for exact output; None where the net sees the whole section.
    context_sections : int
        Sections the net takes as channels.
    """

    stride_px: int
    halo_px: int | None
    context_sections: int


@dataclass(frozen=True)
class SideOutput:
    """A level of a decoder that can be supervised in training.

    Parameters
    ----------
    module : str
        The part of the net whose output it is.
    channels : int
        Of that output.
    stride_px : int
        Input pixels to one pixel of that output.
    """

    module: str
    channels: int
    stride_px: int


@dataclass(frozen=True)
class ModelSpec:
    """One entry of the zoo.

    Parameters
    ----------
    name, summary, source : str
        How it is asked for, what it is in half a sentence, and the paper with its DOI or arXiv number.
    options : type of Config
        What can be chosen; every choice is written into the card of a trained model.
    build : callable
        Options to a net that takes (B, context_sections, H, W) float32 of any H and W and returns (B, 1, H, W) logits.
    geometry : callable
        Options to stride, halo and context.
    receptive_field_px : callable
        Options to the edge of what one output pixel sees; None where that is the whole section.
    sees_all : bool
        Whether it pools over its whole input, so that no halo is ever enough and none needs to be looked for.
    output_stride : int
        Input pixels to one pixel of the coarsest map that the scores are computed on.
    learning_rate : float
        Highest learning rate that trains it from scratch.
    batch : int
        Crops to a step, where the user does not say.
    sampling : {"crops", "patches"}
        What training draws: crops with all their labels, or patches with the label of their centre.
    slower : mapping of str to float
        What the names of weights begin with that learn at a share of the learning rate, and that share.
    encoder : str
        What the names of the weights of its contracting part begin with; empty where it has no such part.
    sides : callable
        Options to the levels that deep supervision is for; none where the net has no decoder of several levels.
    pretrained : callable, optional
        Fills a fresh net with the weights of another task, from torchvision's own loader (``"imagenet"``) or a file.
    """

    name: str
    summary: str
    source: str
    options: type[Config]
    build: Callable[[Any], nn.Module]
    geometry: Callable[[Any], Geometry]
    receptive_field_px: Callable[[Any], int | None] = lambda _: None
    sees_all: bool = False
    output_stride: int = 1
    learning_rate: float = 2e-3
    batch: int = 4
    sampling: Literal["crops", "patches"] = "crops"
    slower: Mapping[str, float] = field(default_factory=dict)
    encoder: str = ""
    sides: Callable[[Any], tuple[SideOutput, ...]] = lambda _: ()
    pretrained: Callable[[nn.Module, Path | Literal["imagenet"]], None] | None = None
