"""Augmentation of EM sections, composed from MONAI transforms."""

from __future__ import annotations

from monai.transforms import (
    Compose,
    Rand2DElasticd,
    RandAdjustContrastd,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandRotate90d,
    RandScaleIntensityd,
    RandShiftIntensityd,
)

IMAGE, LABEL = "image", "label"


def em_augmentation(crop_px: int, seed: int) -> Compose:
    """Return the transforms that make one training crop look like another section of the same tissue.

    Sections are cut at any angle, stretched by the knife and stained unevenly, so flips, rotations, smooth
    deformation, contrast and blur all yield images that the microscope could have taken.

    Parameters
    ----------
    crop_px : int
        Edge of the square crops, in pixels.
    seed : int
        Seed of all random choices.

    Returns
    -------
    Compose
        Takes and returns ``{"image": (C, H, W) float32 z-scores, "label": (1, H, W) float32 in 0..1}``.
    """
    transforms = Compose(
        [
            RandFlipd([IMAGE, LABEL], prob=0.5, spatial_axis=0),
            RandRotate90d([IMAGE, LABEL], prob=0.75, max_k=3),
            Rand2DElasticd(
                [IMAGE, LABEL],
                prob=0.5,
                spacing=(32, 32),
                magnitude_range=(0.0, 3.0),
                rotate_range=0.4,
                scale_range=(0.15, 0.15),
                spatial_size=(crop_px, crop_px),
                mode=("bilinear", "nearest"),
                padding_mode="reflection",
            ),
            RandAdjustContrastd([IMAGE], prob=0.3, gamma=(0.7, 1.4), retain_stats=True),
            RandScaleIntensityd([IMAGE], factors=0.2, prob=0.5),
            RandShiftIntensityd([IMAGE], offsets=0.3, prob=0.5),
            RandGaussianSmoothd([IMAGE], sigma_x=(0.3, 1.2), sigma_y=(0.3, 1.2), prob=0.15),
            # Sections of one stack differ up to twofold in their noise, which a net must not take for texture.
            RandGaussianNoised([IMAGE], prob=0.6, std=0.45),
        ]
    )
    transforms.set_random_state(seed)
    return transforms
