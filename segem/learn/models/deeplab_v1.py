"""DeepLab version 1: VGG16 with dilated convolutions in place of its last two strides.

Chen, Papandreou, Kokkinos, Murphy and Yuille (2015), arXiv:1412.7062. Output stride 8: 224 pixels give 28x28 scores,
321 give 41x41, 512 give 64x64, 513 give 65x65. Counts of parameters for three channels of input and 21 classes:

===========================  ==================  ===========
variant                      extent of fc6       parameters
===========================  ==================  ===========
largefov, 3x3 rate 12        25                  20,505,429
7x7-r4, 7x7 rate 4           25                  134,346,581
4x4-r4, 4x4 rate 4           13                  65,140,565
4x4-r8, 4x4 rate 8           25                  65,140,565
3x3-r3, 3x3 rate 3           7                   20,505,429
multi-scale (MSC), largefov  25                  21,711,445
===========================  ==================  ===========

With 2 classes, largefov has 20,485,954. The variant 3x3-r3 is in no paper, only in courses.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from segem.learn.models.coarse import CoarseNet, entry, he_initialised
from segem.learn.models.receptive_field import Parallel, Step, windows
from segem.learn.models.vgg import WIDTHS, VGGHead, VGGOptions, fill_vgg16, stages, vgg16_features

Variant = Literal["largefov", "7x7-r4", "4x4-r4", "4x4-r8", "3x3-r3"]
FC6: dict[Variant, tuple[int, int, int]] = {
    # The extent of 7x7-r4, with a fifth of the taps and a quarter of the channels.
    "largefov": (3, 12, 16),
    "7x7-r4": (7, 4, 64),
    "4x4-r4": (4, 4, 64),
    "4x4-r8": (4, 8, 64),
    "3x3-r3": (3, 3, 16),
}
"""Kernel and dilation of fc6, and its channels as a multiple of those of the first stage."""
MULTI_SCALE = 2
"""Channels that each scale adds, as a multiple of those of the first stage: 128 in the paper."""


class DeepLabV1Options(VGGOptions):
    """Options of DeepLab version 1."""

    variant: Variant = "largefov"


def atrous_vgg16(channels_in: int, width: int) -> nn.Sequential:
    """Return VGG16 of output stride 8.

    All poolings are 3x3 with padding 1, as released, the last two of stride 1; the fifth stage is dilated by 2, so that
    its convolutions see what they saw at stride 16.
    """
    # Three strides of 2 make 8. A 3x3 pooling with padding 1 keeps the size at stride 1, as a 2x2 one would not.
    pools = [nn.MaxPool2d(3, stride=2 if stage < 3 else 1, padding=1) for stage in range(5)]
    return vgg16_features(channels_in, width, pools, last_dilation=2)


def atrous_head(width: int, classes: int | None, kernel: int, rate: int, hidden: int) -> VGGHead:
    """Return fc6, fc7 and scores on `atrous_vgg16`, with a padding that keeps the size of the map."""
    return VGGHead(8 * width, hidden * width, classes, kernel, rate, padding=rate * (kernel - 1) // 2)


class DeepLabV1(CoarseNet):
    """DeepLab-LargeFOV and its variants.

    Parameters
    ----------
    channels_in, classes : int
        Channels of the input and of the logits.
    variant : str
        What fc6 is.
    width : int
        Channels of the first stage; 64 in the paper.

    Notes
    -----
    The paper up-samples with the first score on the first pixel; here, as in all nets of the zoo, a score lies at the
    centre of its cell of 8 pixels. The released net has an average pooling of 3x3 before fc6 that is neither in the
    paper nor here. The refinement by a conditional random field is not part of the net.

    Examples
    --------
    >>> DeepLabV1(classes=2, width=1)(torch.zeros(1, 1, 30, 41)).shape
    torch.Size([1, 2, 30, 41])
    """

    def __init__(self, channels_in: int = 1, classes: int = 1, variant: Variant = "largefov", width: int = 64) -> None:
        super().__init__(zoom=8)
        self.features = atrous_vgg16(channels_in, width)
        self.head = atrous_head(width, classes, *FC6[variant])
        he_initialised(self)


class DeepLabV1MultiScale(CoarseNet):
    """DeepLab-MSc-LargeFOV: five finer maps are concatenated with the last one before the scores.

    Notes
    -----
    The input and the first four poolings each go through a 3x3 convolution of 128 channels, strided to the lattice of
    the scores, and a 1x1 of 128 (1,192,576 parameters for three channels of input); their 640 channels are concatenated
    with the 1024 of fc7. The paper trains these new layers alone, after the rest; here everything is trained together.

    Examples
    --------
    >>> DeepLabV1MultiScale(classes=2, width=1)(torch.zeros(1, 1, 30, 41)).shape
    torch.Size([1, 2, 30, 41])
    """

    def __init__(self, channels_in: int = 1, classes: int = 1, width: int = 64) -> None:
        super().__init__(zoom=8)
        self.features = atrous_vgg16(channels_in, width)
        self.head = atrous_head(width, None, *FC6["largefov"])
        added, sources = MULTI_SCALE * width, [channels_in, *(times * width for times in WIDTHS[:4])]
        self.scales = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(source, added, 3, stride=stride, padding=1),
                nn.ReLU(inplace=True),
                nn.Conv2d(added, added, 1),
                nn.ReLU(inplace=True),
            )
            # The input is at stride 1 and the poolings at 2, 4, 8 and 8: these strides bring all of them to 8.
            for source, stride in zip(sources, (8, 4, 2, 1, 1), strict=True)
        )
        self.score = nn.Conv2d(16 * width + 5 * added, classes, 1)
        he_initialised(self)

    def scores(self, x: Tensor) -> Tensor:
        """Return the scores before up-sampling, (B, classes, H / 8, W / 8)."""
        maps = []
        for scale, stage in zip(self.scales, stages(self.features), strict=True):
            # Before the stage: the input and the first four poolings are joined, not the last one.
            maps.append(scale(x))
            x = stage(x)
        scores: Tensor = self.score(torch.cat([self.head(x), *maps], dim=1))
        return scores

    def coarse_steps(self) -> tuple[Step, ...]:
        """Return what happens from the input to the scores."""
        # From the scores back to the input: at each stage, either on through the net or out through its scale.
        path: tuple[Step, ...] = windows(self.head)
        for scale, stage in zip(reversed(self.scales), reversed(stages(self.features)), strict=True):
            path = (Parallel(((*windows(stage), *path), windows(scale))),)
        return path


_SOURCE = "Chen et al. 2015, arXiv:1412.7062"
SPECS = (
    entry(
        "deeplab-v1",
        "VGG16 with dilated convolutions (LargeFOV), scores at stride 8",
        _SOURCE,
        DeepLabV1Options,
        lambda o: DeepLabV1(o.context_sections, 1, o.variant, o.width),
        8,
        fill_vgg16,
    ),
    entry(
        "deeplab-v1-msc",
        "DeepLab-LargeFOV with finer maps joined before the scores",
        _SOURCE,
        VGGOptions,
        lambda o: DeepLabV1MultiScale(o.context_sections, 1, o.width),
        8,
        fill_vgg16,
    ),
)
