"""DeepLab version 2: atrous spatial pyramid pooling (ASPP), on VGG16 and on ResNet-101.

Chen, Papandreou, Kokkinos, Murphy and Yuille (2017), arXiv:1606.00915, doi:10.1109/TPAMI.2017.2699184. Output stride 8:
224 pixels give 28x28 scores, 321 give 41x41, 512 give 64x64. For three channels of input and 21 classes, the net on
VGG16 has 37,877,652 parameters and the one on ResNet-101 44,048,532, of which 1,548,372 are its pyramid.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segem.learn.models.coarse import CoarseNet, entry, he_initialised
from segem.learn.models.deeplab_v1 import atrous_head, atrous_vgg16
from segem.learn.models.pretrained import Source, filled, torchvision_weights
from segem.learn.models.receptive_field import Parallel, Resampled, Step, Window, windows
from segem.learn.models.spec import NetOptions
from segem.learn.models.vgg import VGGOptions, fill_vgg16

Pyramid = Literal["L", "S"]
RATES: dict[Pyramid, tuple[int, ...]] = {"L": (6, 12, 18, 24), "S": (2, 4, 8, 12)}
RESNET_101 = (3, 4, 23, 3)
"""Residual blocks of each stage."""


class DeepLabV2VGGOptions(VGGOptions):
    """Options of DeepLab version 2 on VGG16."""

    aspp: Pyramid = "L"
    """Dilations of the pyramid: 6, 12, 18 and 24 (L), or 2, 4, 8 and 12 (S)."""


class DeepLabV2ResNetOptions(NetOptions):
    """Options of DeepLab version 2 on ResNet-101."""

    multi_scale: bool = False
    """Whether to score the input at 0.5, 0.75 and 1 times its size and to keep the largest score of each cell."""


class DeepLabV2VGG(CoarseNet):
    """DeepLab-ASPP on VGG16: four LargeFOV heads of different dilation, whose scores are summed.

    Examples
    --------
    >>> DeepLabV2VGG(classes=2, width=1)(torch.zeros(1, 1, 30, 41)).shape
    torch.Size([1, 2, 30, 41])
    """

    def __init__(self, channels_in: int = 1, classes: int = 1, aspp: Pyramid = "L", width: int = 64) -> None:
        super().__init__(zoom=8)
        self.features = atrous_vgg16(channels_in, width)
        self.heads = nn.ModuleList(atrous_head(width, classes, 3, rate, 16) for rate in RATES[aspp])
        he_initialised(self)

    def scores(self, x: Tensor) -> Tensor:
        """Return the scores before up-sampling, (B, classes, H / 8, W / 8)."""
        return _summed(self.heads, self.features(x))

    def coarse_steps(self) -> tuple[Step, ...]:
        """Return what happens from the input to the scores."""
        return (*windows(self.features), Parallel(tuple(windows(head) for head in self.heads)))


class DeepLabV2ResNet(CoarseNet):
    """DeepLab-v2 on ResNet-101: four dilated 3x3 convolutions straight to scores, which are summed.

    Parameters
    ----------
    channels_in, classes : int
        Channels of the input and of the logits.
    multi_scale : bool
        Whether the input is scored at 0.5, 0.75 and 1 times its size and the largest score of each cell kept. Tiles
        then start on multiples of 32, where the cells of all three scales meet.
    blocks, width_per_group : 4 int, int
        Residual blocks of each stage and channels inside those of the first, as torchvision's ResNet takes them.

    Notes
    -----
    The third stage is dilated by 2 and the fourth by 4 in place of their strides. The first block of each keeps the
    dilation before it, because in torchvision's ResNet, whose weights fit, it is the 3x3 convolution of that block that
    has the stride. The pyramid starts at zero and learns at a twentieth of the rate: its scores sum 73,728 inputs.
    From the paper's normal distribution of deviation 0.01, meant for a trained backbone and SGD, each step of Adam
    would throw them about. Inputs are normalised and batch norm is trained as in all nets of the zoo; the paper keeps
    it frozen.

    Examples
    --------
    >>> DeepLabV2ResNet(classes=2, blocks=(1, 1, 1, 1), width_per_group=1)(torch.zeros(2, 1, 30, 41)).shape
    torch.Size([2, 2, 30, 41])
    """

    def __init__(
        self,
        channels_in: int = 1,
        classes: int = 1,
        *,
        multi_scale: bool = False,
        blocks: Sequence[int] = RESNET_101,
        width_per_group: int = 64,
    ) -> None:
        # Imported here: torchvision takes more than a second, because it loads torch's compiler.
        from torchvision.models.resnet import Bottleneck, ResNet

        super().__init__(zoom=8, stride=32 if multi_scale else 8)
        self.multi_scale = multi_scale
        resnet = ResNet(
            Bottleneck,
            list(blocks),
            width_per_group=width_per_group,
            replace_stride_with_dilation=[False, True, True],
        )
        # Grey sections instead of three colours. The other layers keep torchvision's names, so its weights fit.
        layers: dict[str, nn.Module] = {"conv1": nn.Conv2d(channels_in, 64, 7, stride=2, padding=3, bias=False)}
        for name in ("bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"):
            layers[name] = getattr(resnet, name)
        self.backbone = nn.Sequential(OrderedDict(layers))
        he_initialised(self)
        start_as_identities(self.backbone)
        self.heads = nn.ModuleList(nn.Conv2d(2048, classes, 3, padding=rate, dilation=rate) for rate in RATES["L"])
        for head in self.heads:
            # A fresh net is sure of nothing.
            nn.init.zeros_(head.weight)  # type: ignore[arg-type]
            nn.init.zeros_(head.bias)  # type: ignore[arg-type]

    def scores(self, x: Tensor) -> Tensor:
        """Return the scores before up-sampling, (B, classes, H / 8, W / 8)."""
        scores = _summed(self.heads, self.backbone(x))
        if not self.multi_scale:
            return scores
        for smaller, factor in ((three_quarters(x), 4 / 3), (F.avg_pool2d(x, 2), 2.0)):
            coarse = _summed(self.heads, self.backbone(smaller))
            scores = scores.maximum(F.interpolate(coarse, scale_factor=factor, mode="bilinear", align_corners=False))
        return scores

    def coarse_steps(self) -> tuple[Step, ...]:
        """Return what happens from the input to the scores."""
        path: tuple[Step, ...] = (*windows(self.backbone), Parallel(tuple(windows(head) for head in self.heads)))
        if not self.multi_scale:
            return path
        return (Parallel((path, (Resampled(3, 4), *path, Resampled(4, 3)), (Window(2, 2), *path, Resampled(2)))),)


def three_quarters(x: Tensor) -> Tensor:
    """Return an input at three quarters of its size, by the bilinear interpolation of half-pixel centres.

    Every 4 pixels become 3 by the same weights, so the same tile anywhere in a section gives the same numbers; with
    coordinates in single precision it would not.

    Examples
    --------
    >>> x = torch.arange(64.0).reshape(1, 1, 8, 8)
    >>> expected = F.interpolate(x, size=(6, 6), mode="bilinear", align_corners=False)
    >>> torch.allclose(three_quarters(x), expected, atol=1e-4)
    True
    """
    # Pixel j of the three lies at (j + 1/2) 4/3 - 1/2 of the four: 1/6, 3/2 and 17/6.
    weights = x.new_tensor([[5, 1, 0, 0], [0, 3, 3, 0], [0, 0, 1, 5]]) / 6
    (images, channels, height, width) = x.shape
    x = torch.einsum("bcypw,qp->bcyqw", x.reshape(images, channels, -1, 4, width), weights).flatten(2, 3)
    return torch.einsum("bchxp,qp->bchxq", x.reshape(images, channels, 3 * height // 4, -1, 4), weights).flatten(3, 4)


def _summed(heads: nn.ModuleList, features: Tensor) -> Tensor:
    scores: Tensor = heads[0](features)
    for head in heads[1:]:
        scores = scores + head(features)
    return scores


def start_as_identities(resnet: nn.Module) -> None:
    """Let every residual block of a ResNet pass on its input at first.

    A fresh ResNet-101 is otherwise the sum of 33 random branches, and nearly all of a short training goes by until they
    no longer hide the section.

    Goyal et al. 2017, arXiv:1706.02677, section 5.1.
    """
    from torchvision.models.resnet import Bottleneck

    for module in resnet.modules():
        if isinstance(module, Bottleneck):
            nn.init.zeros_(module.bn3.weight)


def fill_resnet(net: nn.Module, source: Source, weights: str, prefix: str) -> None:
    """Fill the part of a net under a prefix with the ImageNet weights of a ResNet, with conv1 adapted to grey images.

    Raises
    ------
    ModelError
        When the weights cannot be obtained or do not fit.
    """
    state = {f"{prefix}{key}": value for key, value in torchvision_weights(source, weights).items()}
    filled(net, state, (prefix,), source, f"{prefix}conv1.weight")


_SOURCE = "Chen et al. 2017, doi:10.1109/TPAMI.2017.2699184"
SPECS = (
    entry(
        "deeplab-v2-vgg",
        "VGG16 with a pyramid of four dilations, scores at stride 8",
        _SOURCE,
        DeepLabV2VGGOptions,
        lambda o: DeepLabV2VGG(o.context_sections, 1, o.aspp, o.width),
        8,
        fill_vgg16,
    ),
    replace(
        entry(
            "deeplab-v2-resnet101",
            "dilated ResNet-101 with a pyramid of four dilations, scores at stride 8",
            _SOURCE,
            DeepLabV2ResNetOptions,
            lambda o: DeepLabV2ResNet(o.context_sections, 1, multi_scale=o.multi_scale),
            8,
            lambda net, source: fill_resnet(net, source, "ResNet101_Weights.IMAGENET1K_V1", "backbone."),
            encoder="backbone.",
        ),
        # With batch norm, as version 3.
        learning_rate=1e-3,
        # A score sums 4 x 9 x 2048 inputs, and a step of Adam moves every weight alike: at the full rate one step would
        # move a score by more than ten.
        slower={"heads.": 0.05},
    ),
)
