"""VGG16, and the same net made fully convolutional: the base of FCN and of the first two DeepLabs.

Simonyan and Zisserman (2015), arXiv:1409.1556. Thirteen 3x3 convolutions in five stages, each ended by a pooling
(14,714,688 parameters for three channels), then three fully connected layers (fc6, fc7, fc8): 138,357,544 parameters
with 1000 classes. Layers have the names and the order of torchvision's ``vgg16``, so its weights fit.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from segem.errors import ModelError
from segem.learn.models.coarse import CoarseNet, entry, he_initialised
from segem.learn.models.pretrained import Source, filled, torchvision_weights
from segem.learn.models.spec import NetOptions

CONVOLUTIONS = (2, 2, 3, 3, 3)
"""Convolutions of each stage."""
WIDTHS = (1, 2, 4, 8, 8)
"""Channels of each stage, as a multiple of those of the first."""


class VGGOptions(NetOptions):
    """Options of the nets built on VGG16.

    They have no batch norm, so the zoo trains them at a lower learning rate than nets with it.
    """

    width: int = Field(default=64, ge=1, le=64)
    """Channels of the first stage, which sets those of all others; 64 in the paper and for pretrained weights."""


def vgg16_features(
    channels_in: int,
    width: int = 64,
    pools: Sequence[nn.Module] | None = None,
    *,
    first_padding: int = 1,
    last_dilation: int = 1,
) -> nn.Sequential:
    """Return the thirteen convolutions of VGG16 and their poolings.

    Parameters
    ----------
    channels_in : int
        Channels of the input.
    width : int
        Channels of the first stage.
    pools : sequence of 5 modules, optional
        What ends each stage; 2x2 max-poolings of stride 2 when absent.
    first_padding : int
        Padding of conv1_1.
    last_dilation : int
        Dilation of the convolutions of the fifth stage.

    Examples
    --------
    >>> sum(p.numel() for p in vgg16_features(3, width=4).parameters())
    57828
    """
    layers: list[nn.Module] = []
    for stage, (count, times) in enumerate(zip(CONVOLUTIONS, WIDTHS, strict=True)):
        dilation = last_dilation if stage == 4 else 1
        for _ in range(count):
            # A 3x3 convolution keeps the size of the map where its padding is its dilation.
            padding = dilation if layers else first_padding
            layers += [nn.Conv2d(channels_in, times * width, 3, padding=padding, dilation=dilation)]
            layers += [nn.ReLU(inplace=True)]
            channels_in = times * width
        layers.append(pools[stage] if pools is not None else nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def stages(features: nn.Sequential) -> tuple[nn.Sequential, ...]:
    """Return the five stages of VGG16, each with its pooling."""
    # Each convolution has a ReLU, and each stage ends with a pooling.
    ends = [sum(2 * n + 1 for n in CONVOLUTIONS[: stage + 1]) for stage in range(5)]
    return tuple(features[start:end] for start, end in zip([0, *ends], ends, strict=False))


class VGGHead(nn.Sequential):
    """The fully connected layers of VGG16 as convolutions: fc6 of any kernel and dilation, fc7, and the scores.

    Parameters
    ----------
    channels_in, hidden : int
        Channels of the last pooling, and of fc6 and fc7; 512 and 4096 in VGG16.
    classes : int or None
        Scores; None leaves them to another layer.
    kernel, dilation, padding : int
        Of fc6.
    """

    def __init__(
        self, channels_in: int, hidden: int, classes: int | None, kernel: int, dilation: int = 1, padding: int = 0
    ) -> None:
        layers: dict[str, nn.Module] = {
            "fc6": nn.Conv2d(channels_in, hidden, kernel, padding=padding, dilation=dilation),
            "relu6": nn.ReLU(inplace=True),
            "drop6": nn.Dropout(0.5),
            "fc7": nn.Conv2d(hidden, hidden, 1),
            "relu7": nn.ReLU(inplace=True),
            "drop7": nn.Dropout(0.5),
        }
        if classes is not None:
            layers["score"] = nn.Conv2d(hidden, classes, 1)
        super().__init__(OrderedDict(layers))


class VGG16FCN(CoarseNet):
    """VGG16 with its fully connected layers as convolutions, so that it takes any image.

    Parameters
    ----------
    channels_in, classes : int
        Channels of the input and of the logits.
    width : int
        Channels of the first stage; fc6 and fc7 have 64 times as many.

    Notes
    -----
    Output stride 32. `scores` is the classifier itself at 224x224 pixels (1x1 scores); 288 give 3x3 and 512 give 10x10.
    A larger image does not give what windows cut from it give, because the convolutions pad with zeros at its edge and
    not at those of the windows. Only the valid 7x7 convolution is the fully connected layer; with a padding of 3 it
    gives 7x7 scores at 224, of which only the middle one is the classifier's.

    In the zoo the image gets a margin of zeros, three cells (96 pixels) wide, instead of a padding of fc6: every cell
    gets a score, centred on the cell, and fc6 sees features of VGG and no artificial zeros. The 32-fold up-sampling is
    fixed.

    Examples
    --------
    >>> net = VGG16FCN(channels_in=3, classes=5, width=1)
    >>> net.scores(torch.zeros(1, 3, 288, 288)).shape
    torch.Size([1, 5, 3, 3])
    >>> net(torch.zeros(1, 3, 30, 41)).shape
    torch.Size([1, 5, 30, 41])
    """

    def __init__(self, channels_in: int = 1, classes: int = 1, width: int = 64) -> None:
        # Half of a 7x7 kernel is 3 cells of 32 pixels.
        super().__init__(zoom=32, margin_px=96)
        self.features = vgg16_features(channels_in, width)
        self.head = VGGHead(8 * width, 64 * width, classes, 7)
        he_initialised(self)


def convolutional(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of torchvision's ``vgg16`` for a `VGG16FCN` with the same channels and classes.

    A fully connected layer on flattened maps (C, 7, 7) is a valid 7x7 convolution with the same numbers in the same
    order; those after it are 1x1 convolutions.

    Examples
    --------
    >>> fc7 = {"classifier.3.weight": torch.zeros(4096, 4096)}
    >>> {name: tuple(value.shape) for name, value in convolutional(fc7).items()}
    {'head.fc7.weight': (4096, 4096, 1, 1)}
    """
    names = {"classifier.0": "fc6", "classifier.3": "fc7", "classifier.6": "score"}
    found = {}
    for key, value in state.items():
        layer, _, kind = key.rpartition(".")
        if layer in names:
            edge = 7 if layer == "classifier.0" else 1
            key = f"head.{names[layer]}.{kind}"
            # torch flattens maps as (C, H, W), the order of a kernel: a reshape moves no number to another place.
            value = value.reshape(len(value), -1, edge, edge) if kind == "weight" else value
        found[key] = value
    return found


def fill_vgg16(net: nn.Module, source: Source) -> None:
    """Fill a net built on VGG16 with the ImageNet weights of the classifier.

    All convolutions are filled, the first one adapted to grey images. So are fc6 and fc7: unchanged where the net has
    the 7x7 kernel and the 4096 channels of the paper; elsewhere with evenly spaced taps and channels of theirs, an
    approximation (Chen et al. 2017, arXiv:1606.00915, take random channels). Scores, and layers that VGG16 lacks, keep
    their random start.

    Raises
    ------
    ModelError
        When the weights cannot be obtained or do not fit, or the net is narrower than VGG16.
    """
    own = net.state_dict()
    if own["features.0.weight"].shape[0] != 64:
        raise ModelError(
            "pretrained weights fit VGG16 at its full width only",
            expected="width 64",
            found=own["features.0.weight"].shape[0],
            fix="leave out width, or train from scratch",
        )
    state = convolutional(torchvision_weights(source, "VGG16_Weights.IMAGENET1K_V1"))
    found = {key: value for key, value in state.items() if key.startswith("features.")}
    for name, part in net.named_modules():
        if isinstance(part, VGGHead):
            for layer in (f"{fc}.{kind}" for fc in ("fc6", "fc7") for kind in ("weight", "bias")):
                if f"head.{layer}" in state:
                    found[f"{name}.{layer}"] = thinned(state[f"head.{layer}"], own[f"{name}.{layer}"].shape)
    filled(net, found, ("features.", "head"), source, "features.0.weight", left_out=("score.",))


def thinned(value: Tensor, shape: Sequence[int]) -> Tensor:
    """Return evenly spaced entries along every axis, the first and the last among them.

    Examples
    --------
    >>> thinned(torch.arange(7), (3,)).tolist(), thinned(torch.arange(7), (4,)).tolist()
    ([0, 3, 6], [0, 2, 4, 6])
    """
    for axis, (have, want) in enumerate(zip(value.shape, shape, strict=True)):
        if want < have:
            value = value.index_select(axis, torch.linspace(0, have - 1, want).round().long())
    return value


SPECS = (
    entry(
        "vgg16-fcn",
        "VGG16 with its fully connected layers as convolutions, up-sampled 32 times",
        "Simonyan and Zisserman 2015, arXiv:1409.1556",
        VGGOptions,
        lambda o: VGG16FCN(o.context_sections, 1, o.width),
        32,
        fill_vgg16,
    ),
)
