"""Fully convolutional networks: FCN-32s, FCN-16s and FCN-8s, and a modified FCN of output stride 8.

Long, Shelhamer and Darrell (2015), arXiv:1411.4038, as released by the authors. Counts of parameters for three channels
of input and without the fixed up-sampling:

============  ==========================  ==========================
net           21 classes                  2 classes
============  ==========================  ==========================
FCN-32s       134,346,581                 134,268,738
FCN-16s       134,357,354                 134,269,764
FCN-8s        134,362,751                 134,270,278
modified      20,505,429                  20,485,954
============  ==========================  ==========================
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segem.errors import ModelError
from segem.learn.models.coarse import CoarseNet, entry, he_initialised, padded
from segem.learn.models.receptive_field import Parallel, Step, Transposed, Window, windows
from segem.learn.models.vgg import VGGHead, VGGOptions, fill_vgg16, stages, vgg16_features

# Offsets follow from where pixel x of the image lies in each map: a convolution moves it by padding - (k - 1) / 2, a
# pooling to x / 2 - 1 / 4, a transposed convolution to s x + (k - 1) / 2. All offsets come out whole.
FINAL_CROP = {32: 19, 16: 27, 8: 31}
"""Where the logits of the image start in the last up-sampling, by its factor."""
FUSION_CROP = {4: 5, 3: 9}
"""Where the scores of a pooling are cropped to match the deeper scores, by the stage of the pooling."""


def bilinear_kernel(factor: int) -> Tensor:
    """Return the kernel of a transposed convolution that interpolates bilinearly, (2 factor, 2 factor).

    Examples
    --------
    >>> bilinear_kernel(2)[0]
    tensor([0.0625, 0.1875, 0.1875, 0.0625])
    """
    line = 1 - (torch.arange(2 * factor) - (factor - 0.5)).abs() / factor
    return line[:, None] * line[None, :]


class Upsampling(nn.Module):
    """A fixed bilinear transposed convolution of each class by itself, kernel 2 f and stride f.

    It equals bilinear interpolation except within one input pixel of the border, where it fades towards zero.
    """

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor
        # Fixed, so it is neither trained nor saved.
        self.register_buffer("kernel", bilinear_kernel(factor), persistent=False)
        self.kernel: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, (H + 1) f, (W + 1) f) of an input (B, C, H, W)."""
        classes = x.shape[1]
        kernel = self.kernel.expand(classes, 1, -1, -1)
        return F.conv_transpose2d(x, kernel, stride=self.factor, groups=classes)


class FCN(nn.Module):
    """FCN-32s, FCN-16s or FCN-8s.

    Parameters
    ----------
    channels_in, classes : int
        Channels of the input and of the logits.
    finest : {32, 16, 8}
        Output stride: scores of fc7 alone, summed with those of pool4, and with those of pool3 too.
    width : int
        Channels of the first stage; 64 in the paper.

    Notes
    -----
    The first convolution pads by 100 pixels, and fc6 is the valid 7x7 convolution of VGG16: 224 pixels give 8x8 scores,
    512 give 17x17. Poolings round up. The padding shifts all maps, so a map is cut from offset 5 (pool4) or 9 (pool3)
    before it is added to the deeper scores, up-sampled twice, and the logits start at offset 19, 27 or 31 of the last
    up-sampling. Inputs are padded with zeros to a multiple of 32 first, as by all nets of the zoo.

    The scores of a pooling start at zero, so a finer net starts as the coarser one it was `staged_from`.

    Examples
    --------
    >>> FCN(classes=2, finest=8, width=1)(torch.zeros(1, 1, 30, 41)).shape
    torch.Size([1, 2, 30, 41])
    """

    def __init__(
        self, channels_in: int = 1, classes: int = 1, finest: Literal[32, 16, 8] = 32, width: int = 64
    ) -> None:
        super().__init__()
        self.stride, self.finest = 32, finest
        # Caffe, in which the net was released, rounds the size of a pooling up.
        pools = [nn.MaxPool2d(2, ceil_mode=True) for _ in range(5)]
        self.features = vgg16_features(channels_in, width, pools, first_padding=100)
        self.head = VGGHead(8 * width, 64 * width, classes, 7)
        he_initialised(self)
        self.fused = {32: (), 16: (4,), 8: (4, 3)}[finest]
        skips = {4: 8 * width, 3: 4 * width}
        self.skips = nn.ModuleDict({f"pool{stage}": nn.Conv2d(skips[stage], classes, 1) for stage in self.fused})
        # At zero, a finer net starts as the coarser one that it is trained from.
        for parameter in self.skips.parameters():
            nn.init.zeros_(parameter)
        self.twice, self.last = Upsampling(2), Upsampling(finest)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, classes, H, W) of an input (B, channels_in, H, W)."""
        height, width = x.shape[-2:]
        x = padded(x, self.stride)
        pools = {}
        for number, stage in enumerate(stages(self.features), start=1):
            x = pools[number] = stage(x)
        scores = self.head(x)
        for number in self.fused:
            deeper = self.twice(scores)
            added = self.skips[f"pool{number}"](pools[number])
            scores = deeper + _cut(added, FUSION_CROP[number], *deeper.shape[-2:])
        # Up-sampling fades within one score of the border; the padding of 100 keeps that outside the image.
        return _cut(self.last(scores), FINAL_CROP[self.finest], height, width)

    def steps(self) -> tuple[Step, ...]:
        """Return what happens from the input to the logits."""
        by_stage = [windows(stage) for stage in stages(self.features)]
        path: tuple[Step, ...] = (*by_stage.pop(), *windows(self.head))
        for number in self.fused:
            skip = Window(1, padding=-FUSION_CROP[number])
            path = (*by_stage.pop(), Parallel(((*path, Transposed(4, 2)), (skip,))))
        path = (*(step for stage in by_stage for step in stage), *path)
        return (*path, Transposed(2 * self.finest, self.finest, FINAL_CROP[self.finest]))


def _cut(x: Tensor, offset: int, height: int, width: int) -> Tensor:
    return x[..., offset : offset + height, offset : offset + width]


def staged_from(state: Mapping[str, Tensor], net: FCN) -> None:
    """Start a finer FCN from the weights of a coarser one, as the authors trained 32s, 16s and 8s in turn.

    Parameters
    ----------
    state : mapping of str to Tensor
        Weights of an FCN-32s or FCN-16s.
    net : FCN
        A fresh net of the same channels, classes and width; layers that the coarser one lacks stay zero.

    Raises
    ------
    ModelError
        When a weight does not belong or has another shape, or anything but the scores of poolings is missing.
    """
    own = net.state_dict()
    wrong = [key for key, value in state.items() if key not in own or own[key].shape != value.shape]
    wrong += [key for key in own if key not in state and not key.startswith("skips.")]
    if wrong:
        raise ModelError(
            "these are no weights of a coarser FCN",
            found=f"{wrong[0]} does not fit",
            fix="go from fcn32s to fcn16s to fcn8s, with the same options",
        )
    net.load_state_dict(dict(state), strict=False)


class ModifiedFCN(CoarseNet):
    """An FCN of output stride 8 and 20.5 million parameters, known from courses.

    Notes
    -----
    VGG16 whose fourth and fifth poolings have stride 1, fc6 of 3x3 and fc7 of 1x1 with 1024 channels: 28x28 scores for
    224 pixels and 64x64 for 512. A 2x2 pooling of stride 1 keeps the size only with padding, here a row and a column of
    zeros at the end, which never win because the features are not negative. No dilation makes up for the removed
    strides, so a score sees 172 pixels where one of VGG16 sees 404; DeepLab corrects that.

    Examples
    --------
    >>> ModifiedFCN(classes=2, width=1)(torch.zeros(1, 1, 30, 41)).shape
    torch.Size([1, 2, 30, 41])
    """

    def __init__(self, channels_in: int = 1, classes: int = 1, width: int = 64) -> None:
        super().__init__(zoom=8)
        kept = [nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(2, stride=1)) for _ in range(2)]
        self.features = vgg16_features(channels_in, width, [*(nn.MaxPool2d(2) for _ in range(3)), *kept])
        self.head = VGGHead(8 * width, 16 * width, classes, 3, padding=1)
        he_initialised(self)


_SOURCE = "Long et al. 2015, arXiv:1411.4038"
SPECS = (
    entry(
        "fcn32s",
        "VGG16 as FCN-32s: scores at stride 32",
        _SOURCE,
        VGGOptions,
        lambda o: FCN(o.context_sections, 1, 32, o.width),
        32,
        fill_vgg16,
    ),
    entry(
        "fcn16s",
        "FCN-16s: scores of pool4 added",
        _SOURCE,
        VGGOptions,
        lambda o: FCN(o.context_sections, 1, 16, o.width),
        16,
        fill_vgg16,
    ),
    entry(
        "fcn8s",
        "FCN-8s: scores of pool4 and pool3 added",
        _SOURCE,
        VGGOptions,
        lambda o: FCN(o.context_sections, 1, 8, o.width),
        8,
        fill_vgg16,
    ),
    entry(
        "fcn-modified",
        "VGG16 with two strides removed and a small fc6, scores at stride 8",
        _SOURCE,
        VGGOptions,
        lambda o: ModifiedFCN(o.context_sections, 1, o.width),
        8,
        fill_vgg16,
    ),
)
