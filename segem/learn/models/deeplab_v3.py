"""DeepLab version 3: a pyramid with batch norm and the mean of the image, on ResNet-50 and ResNet-101.

Chen, Papandreou, Schroff and Adam (2017), arXiv:1706.05587, as torchvision builds it: output stride 8, dilations 12, 24
and 36, a 3x3 convolution before the scores, no multi-grid. For three channels of input and 21 classes, the net on
ResNet-101 has 58,630,997 parameters (60,996,202 with the auxiliary scores, which segem leaves out), the one on
ResNet-50 39,638,869. 224 pixels give 28x28 scores, 513 give 65x65.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from segem.learn.models.coarse import padded
from segem.learn.models.deeplab_v2 import fill_resnet, start_as_identities
from segem.learn.models.spec import Geometry, ModelSpec, NetOptions

Backbone = Literal["resnet50", "resnet101"]


class DeepLabV3(nn.Module):
    """DeepLab-v3 of torchvision on grey sections of any size.

    Parameters
    ----------
    backbone : {"resnet50", "resnet101"}
        What computes the features.
    channels_in, classes : int
        Channels of the input and of the logits.

    Notes
    -----
    Inputs are padded with zeros to a multiple of 8 at the bottom and the right, and the logits cropped. The mean of the
    image is part of every pixel's logit, so no halo makes tiles exact; in a tile, the mean of the tile takes its place.

    In training with a batch of one, the mean of the image is a single value for each channel, from which batch norm has
    no variance to compute; it then takes its running statistics.

    Examples
    --------
    >>> import torch
    >>> with torch.device("meta"):
    ...     DeepLabV3("resnet50")(torch.zeros(1, 1, 30, 41)).shape
    torch.Size([1, 1, 30, 41])
    """

    def __init__(self, backbone: Backbone, channels_in: int = 1, classes: int = 1) -> None:
        # Imported here: torchvision takes more than a second, because it loads torch's compiler.
        from torchvision.models import get_model

        super().__init__()
        self.stride = 8
        self.net = get_model(
            f"deeplabv3_{backbone}", weights=None, weights_backbone=None, num_classes=classes, aux_loss=False
        )
        conv1 = nn.Conv2d(channels_in, 64, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(conv1.weight, nonlinearity="relu")
        self.net.backbone.conv1 = conv1
        start_as_identities(self.net.backbone)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, classes, H, W) of an input (B, channels_in, H, W)."""
        if self.training:
            image_pooling = self.net.classifier[0].convs[-1]
            image_pooling.train(len(x) > 1)
        logits: Tensor = self.net(padded(x, self.stride))["out"]
        return logits[..., : x.shape[-2], : x.shape[-1]]


def _entry(backbone: Backbone, weights: str) -> ModelSpec:
    return ModelSpec(
        name=f"deeplab-v3-{backbone}",
        summary=f"DeepLab-v3 on {backbone.replace('resnet', 'ResNet-')}: pyramid and image pooling, stride 8",
        source="Chen et al. 2017, arXiv:1706.05587",
        options=NetOptions,
        build=lambda o: DeepLabV3(backbone, o.context_sections),
        geometry=lambda o: Geometry(8, None, o.context_sections),
        sees_all=True,
        output_stride=8,
        learning_rate=1e-3,
        batch=2,
        encoder="net.backbone.",
        pretrained=lambda net, source: fill_resnet(net, source, weights, "net.backbone."),
    )


SPECS = (
    _entry("resnet50", "ResNet50_Weights.IMAGENET1K_V1"),
    _entry("resnet101", "ResNet101_Weights.IMAGENET1K_V1"),
)
