"""The figures of nets, with the sizes and channels of their own maps."""

from __future__ import annotations

from typing import Any

import torch
from sheet import BLUE, GREEN, GREY, ORANGE, PALE, PURPLE, RED, SKY, Sheet, mixed
from torch import Tensor, nn

from segem.learn.models.deeplab_v2 import DeepLabV2VGG
from segem.learn.models.deeplab_v3 import DeepLabV3
from segem.learn.models.fcn import FCN, FINAL_CROP, FUSION_CROP
from segem.learn.models.unet2015 import ValidUNet
from segem.learn.models.vgg import VGG16FCN, stages


def shapes(net: nn.Module, x: Tensor, kinds: tuple[type[nn.Module], ...]) -> list[tuple[int, ...]]:
    """Return the shapes (C, H, W) that layers of these kinds give, in the order in which they are computed."""
    found: list[tuple[int, ...]] = []

    def note(_layer: nn.Module, _inputs: Any, out: Tensor) -> None:
        found.append(tuple(out.shape[1:]))

    hooks = [layer.register_forward_hook(note) for layer in net.modules() if isinstance(layer, kinds)]
    net(x)
    for hook in hooks:
        hook.remove()
    return found


def unet() -> Sheet:
    """Draw the original U-Net with the sizes and channels of its own maps."""
    with torch.device("meta"):
        net, x = ValidUNet(), torch.zeros(1, 1, 572, 572)
        found = shapes(net, x, (nn.Conv2d, nn.ConvTranspose2d))
    down, up, head = found[:10], found[10:22], found[22]
    s = Sheet(900, 500, "U-Net of 2015")
    s.text(450, 24, "below a box: channels (bold) and pixels of its edge", 12, fill=GREY)

    def bar(x: float, y: float, height: float, shape: tuple[int, ...], colour: str, width: float = 24) -> None:
        s.box(x, y, width, height, mixed(colour, 0.6))
        for row, number in enumerate(shape[:2]):
            s.text(x + width / 2, y + height + 13 + 13 * row, number, 11, bold=row == 0)

    for level in range(5):
        top, height, left, right = 50 + 88 * level, 44 - 6 * level, 100 + 62 * level, 760 - 62 * level
        middle = top + height / 2
        for i in range(2):
            bar(left + 46 * i, top, height, down[2 * level + i], BLUE)
        s.arrow((left + 25, middle), (left + 45, middle))
        if level == 4:
            s.arrow((left + 58, top), (left + 58, top - 9), (right + 22, top - 9), (right + 22, top - 88 + height + 7))
            continue
        s.arrow((left + 70, middle), (left + 78, middle), (left + 78, top + 87))
        s.arrow((left + 71, top + 7), (right - 60, top + 7), dashed=True)
        grown, *merged = up[3 * (3 - level) : 3 * (4 - level)]
        s.box(right - 58, top, 12, height)
        s.box(right - 46, top, 12, height, mixed(ORANGE, 0.8))
        s.text(right - 47, top + height + 13, f"{grown[0]} + {grown[0]}", 11, "end", bold=True)
        s.text(right - 47, top + height + 26, grown[1], 11, "end")
        for i, shape in enumerate(merged):
            bar(right - 8 + 42 * i, top, height, shape, BLUE, 22)
        s.arrow((right - 33, middle), (right - 9, middle))
        s.arrow((right + 14, middle), (right + 33, middle))
        if level:
            s.arrow(
                (right + 45, top), (right + 45, top - 9), (right + 22, top - 9), (right + 22, top - 88 + height + 7)
            )
    s.box(20, 50, 16, 44, PALE)
    s.text(28, 107, x.shape[1], 11, bold=True)
    s.text(28, 120, x.shape[-1], 11)
    s.arrow((37, 72), (98, 72))
    s.arrow((817, 72), (841, 72))
    bar(844, 50, 44, head, GREEN, 16)
    s.text(20, 400, "right: 3x3 convolution, valid, ReLU", 12, "start")
    s.text(20, 418, "down: 2x2 max-pooling", 12, "start")
    s.text(20, 436, "up: 2x2 transposed convolution", 12, "start")
    s.text(20, 454, "dashed: cut to the middle, concatenated", 12, "start")
    s.text(20, 472, "last: 1x1 convolution to 2 scores", 12, "start")
    return s


def fcn() -> Sheet:
    """Draw FCN-8s: scores of three depths, cut and summed."""
    with torch.device("meta"):
        net, x = FCN(3, 21, 8), torch.zeros(1, 3, 224, 224)
        maps = []
        for stage in stages(net.features):
            x = stage(x)
            maps.append((x.shape[1], x.shape[-1]))
        score = net.head(x).shape[-1]
        twice = net.twice(torch.zeros(1, 1, score, score)).shape[-1]
        four = net.twice(torch.zeros(1, 1, twice, twice)).shape[-1]
        last = net.last(torch.zeros(1, 1, four, four)).shape[-1]
    s = Sheet(900, 390, "FCN-8s")
    s.text(450, 24, "sizes for an image of 224 x 224 pixels, padded by 100 in the first convolution", 12, fill=GREY)
    s.label(15, 45, 80, 44, "image", "224")
    for i, (channels, edge) in enumerate(maps):
        left = 120 + 120 * i
        s.arrow((left - 25, 67), (left - 3, 67))
        s.label(left, 45, 95, 44, f"pool{i + 1}", f"{edge}, {channels} ch.", fill=mixed(BLUE, 0.35))
    s.arrow((695, 67), (717, 67))
    s.label(720, 45, 150, 44, "fc6 7x7, fc7, score", f"{score}", fill=mixed(PURPLE, 0.4))
    for number, left, top, size in ((4, 480, 170, twice), (3, 360, 255, four)):
        s.arrow((left + 47, 90), (left + 47, top - 53))
        s.label(
            left - 22, top - 50, 138, 38, "score 1x1", f"cut from {FUSION_CROP[number]} on", fill=mixed(ORANGE, 0.5)
        )
        s.arrow((left + 47, top - 12), (left + 47, top + 3))
        s.label(left + 17, top + 5, 60, 30, f"+  {size}", fill=mixed(GREEN, 0.4), size=13)
    s.arrow((795, 90), (795, 190), (561, 190))
    s.text(680, 183, f"x 2: {score} to {twice}", 12)
    s.arrow((527, 206), (527, 275), (441, 275))
    s.text(540, 262, f"x 2: {twice} to {four}", 12, "start")
    s.arrow((407, 291), (407, 330), (205, 330))
    s.text(305, 322, f"x 8: {four} to {last}", 12)
    s.label(45, 306, 158, 48, "logits 224", f"cut from {FINAL_CROP[8]} on", fill=mixed(GREEN, 0.4))
    s.text(600, 326, "FCN-32s takes the scores of fc7 alone, x 32;", 12, "start", GREY)
    s.text(600, 344, "FCN-16s stops at the first sum, x 16.", 12, "start", GREY)
    return s


def convolutional() -> Sheet:
    """Draw the fully connected layers of VGG16 as convolutions: one score at 224 pixels, a map of them beyond."""
    s = Sheet(880, 290, "Fully connected layers as convolutions")
    for row, size in enumerate((224, 512)):
        with torch.device("meta"):
            net = VGG16FCN(3, 1000)
            features = net.features(torch.zeros(1, 3, size, size))
            edge = net.head(features).shape[-1]
        top = 50 + 120 * row
        s.label(20, top, 110, 70, f"{size} x {size}", "x 3")
        s.arrow((130, top + 35), (166, top + 35))
        s.label(170, top, 120, 70, f"{features.shape[-1]} x {features.shape[-1]}", "x 512", fill=mixed(BLUE, 0.35))
        s.arrow((290, top + 35), (422, top + 35))
        s.text(356, top + 27, "fc6 as 7x7, valid", 12)
        for i, (channels, name) in enumerate(((4096, "fc7 as 1x1"), (4096, "fc8 as 1x1"), (1000, ""))):
            left = 425 + 165 * i
            s.label(left, top, 95, 70, f"{edge} x {edge}", f"x {channels}", fill=mixed(PURPLE if i < 2 else GREEN, 0.4))
            if name:
                s.arrow((left + 95, top + 35), (left + 162, top + 35))
                s.text(left + 128, top + 27, name, 10.5)
    s.text(150, 30, "thirteen 3x3 convolutions, five poolings", 13)
    s.text(590, 30, "what was fully connected", 13)
    s.text(
        440,
        272,
        "Above: the classifier itself. Below: the same weights on a larger image.",
        12,
        fill=GREY,
    )
    return s


def aspp() -> Sheet:
    """Draw the pyramid of DeepLab v2 on VGG16."""
    with torch.device("meta"):
        net = DeepLabV2VGG(3, 21)
    s = Sheet(880, 330, "Pyramid of DeepLab v2 on VGG16")
    s.label(15, 125, 100, 60, "image", "512 x 512 x 3")
    s.arrow((115, 155), (137, 155))
    s.label(140, 115, 130, 80, "VGG16, stride 8", "64 x 64 x 512", "conv5: r = 2", fill=mixed(BLUE, 0.35))
    for row, head in enumerate(net.heads):
        top = 22 + 72 * row
        fc6: nn.Conv2d = head.fc6  # type: ignore[assignment]
        middle = top + 25
        s.arrow((270, 155), (292, 155), (292, middle), (317, middle))
        s.label(
            320, top, 135, 50, f"fc6 3x3, r = {fc6.dilation[0]}", f"{fc6.out_channels} ch.", fill=mixed(ORANGE, 0.5)
        )
        s.arrow((455, middle), (477, middle))
        s.label(480, top, 95, 50, "fc7 1x1", f"{head.fc7.out_channels} ch.", fill=mixed(PURPLE, 0.4))  # type: ignore[union-attr]
        s.arrow((575, middle), (597, middle))
        s.label(600, top, 70, 50, "score", fill=mixed(GREEN, 0.4))
        s.arrow((670, middle), (700, middle), (700, 155), (717, 155) if row in (1, 2) else (716, 155))
    s.label(720, 130, 45, 50, "+", fill=mixed(GREEN, 0.4), size=20)
    s.arrow((765, 155), (792, 155))
    s.label(795, 130, 75, 50, "x 8,", "bilinear")
    return s


def v3_head() -> Sheet:
    """Draw the head of DeepLab v3 as it is built here."""
    with torch.device("meta"):
        pyramid = DeepLabV3("resnet101", 3, 21).net.classifier[0]  # type: ignore[index, union-attr]
    rates = [branch[0].dilation[0] for branch in pyramid.convs[1:-1]]
    joined = pyramid.project[0].in_channels
    s = Sheet(900, 380, "Head of DeepLab v3")
    s.label(15, 150, 145, 70, "ResNet, stride 8", "64 x 64 x 2048", fill=mixed(BLUE, 0.35))
    names = ["1x1", *(f"3x3, r = {rate}" for rate in rates), "mean of the image"]
    for row, name in enumerate(names):
        top = 16 + 70 * row
        middle = top + 25
        s.arrow((160, 185), (190, 185), (190, middle), (217, middle))
        pooled = row == len(names) - 1
        lines = (name, "1x1, norm, repeated") if pooled else (name, "256 ch., norm, ReLU")
        s.label(220, top, 165, 50, *lines, fill=mixed(RED if pooled else ORANGE, 0.4))
        s.arrow((385, middle), (415, middle), (415, 185), (432, 185))
    s.label(435, 155, 100, 60, "concatenate", f"{joined} ch.", fill=mixed(SKY, 0.4))
    s.arrow((535, 185), (552, 185))
    s.label(555, 155, 80, 60, "1x1", "256 ch.", fill=mixed(PURPLE, 0.4))
    s.arrow((635, 185), (652, 185))
    s.label(655, 155, 80, 60, "3x3", "256 ch.", fill=mixed(PURPLE, 0.4))
    s.arrow((735, 185), (752, 185))
    s.label(755, 155, 60, 60, "score", fill=mixed(GREEN, 0.4))
    s.arrow((815, 185), (832, 185))
    s.label(835, 155, 55, 60, "x 8")
    s.text(695, 240, "torchvision's;", 12, fill=GREY)
    s.text(695, 256, "not in the paper", 12, fill=GREY)
    return s
