"""MONAI's tutorial of 2-D segmentation: `2d_segmentation/torch/unet_training_dict.py` of Project-MONAI/tutorials."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from segem.io.layers import read_section
from segem.io.volume import Volume
from trainers.course import Course, Part, Predict

ABOUT = (
    "tutorial `unet_training_dict.py`: UNet of 16 to 256 channels, Dice, Adam 1e-3, 8 crops of 96 a step; "
    "best validation Dice"
)
CROP_PX, IMAGES, CROPS = 96, 2, 4
KEYS = ["img", "seg"]
VALIDATED_FOR_LEARNED = (20 * 128**2) / (2 * 80 * CROP_PX**2)
"""Pixels that the tutorial validates for each that it has learned from: 20 images of 128 for 2 epochs of 80 crops."""


def train(course: Course) -> Predict:
    """Train and keep the weights with the best Dice on the validation sections."""
    from monai.data import DataLoader, Dataset, list_data_collate
    from monai.losses import DiceLoss
    from monai.networks.nets import UNet
    from monai.transforms import (
        Compose,
        EnsureChannelFirstd,
        RandCropByPosNegLabeld,
        RandRotate90d,
        ScaleIntensity,
        ScaleIntensityd,
    )
    from monai.utils import set_determinism

    set_determinism(course.seed)
    plain = [EnsureChannelFirstd(keys=KEYS, channel_dim="no_channel"), ScaleIntensityd(keys=KEYS)]
    crops = RandCropByPosNegLabeld(
        keys=KEYS, label_key="seg", spatial_size=[CROP_PX, CROP_PX], pos=1, neg=1, num_samples=CROPS
    )
    turned = RandRotate90d(keys=KEYS, prob=0.5, spatial_axes=[0, 1])
    loader = DataLoader(
        Dataset(_items(course, "train"), Compose([*plain, crops, turned])),
        batch_size=IMAGES,
        shuffle=True,
        num_workers=1,
        persistent_workers=True,
        collate_fn=list_data_collate,
    )
    validation = DataLoader(Dataset(_items(course, "validation"), Compose(plain)), batch_size=1)
    net = UNet(
        spatial_dims=2,
        in_channels=1,
        out_channels=1,
        channels=(16, 32, 64, 128, 256),
        strides=(2, 2, 2, 2),
        num_res_units=2,
    )
    loss_of, optimizer = DiceLoss(sigmoid=True), torch.optim.Adam(net.parameters(), 1e-3)
    pixels = sum(batch["img"].numel() for batch in validation)
    best, kept, learned, time_left = -1.0, course.folder / "best.pt", 0, True
    course.budget.start()
    while time_left:
        net.train()
        for batch in loader:
            optimizer.zero_grad()
            loss_of(net(batch["img"]), batch["seg"]).backward()
            optimizer.step()
            learned += batch["img"].numel()
            time_left = course.budget.step()
            if not time_left:
                break
        if learned * VALIDATED_FOR_LEARNED >= pixels or not time_left:
            learned, dice = 0, _dice(net, validation)
            if dice > best:
                best = dice
                torch.save(net.state_dict(), kept)
    net.load_state_dict(torch.load(kept, weights_only=True))
    scaled = ScaleIntensity()

    def predict(volume: Volume, z: int) -> NDArray[np.float32]:
        image = torch.as_tensor(scaled(read_section(volume.raw, z)[np.newaxis]))
        probability: NDArray[np.float32] = torch.sigmoid(_logits(net, image[None]))[0, 0].numpy()
        return probability

    return predict


def _items(course: Course, part: Part) -> list[dict[str, NDArray[np.uint8]]]:
    return [
        {"img": image, "seg": label}
        for _, images, truth in course.stacks(part)
        for image, label in zip(images, truth, strict=True)
    ]


def _dice(net: nn.Module, validation: Any) -> float:
    from monai.metrics import DiceMetric

    metric = DiceMetric(include_background=True, reduction="mean")
    for batch in validation:
        metric(y_pred=(torch.sigmoid(_logits(net, batch["img"])) >= 0.5).float(), y=batch["seg"])
    return float(metric.aggregate().item())


@torch.no_grad()
def _logits(net: nn.Module, image: Tensor) -> Tensor:
    from monai.inferers import sliding_window_inference

    logits: Tensor = sliding_window_inference(image, (CROP_PX, CROP_PX), 4, net.eval())
    return logits
