"""Augmentation of EM sections, composed from MONAI transforms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from monai.transforms import (
    Compose,
    MapTransform,
    Rand2DElasticd,
    RandAdjustContrastd,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    Randomizable,
    RandRotate90d,
    RandScaleIntensityd,
    RandShiftIntensityd,
)

IMAGE, LABEL, WEIGHT = "image", "label", "weight"


def em_augmentation(crop_px: int, seed: int) -> Compose:
    """Return the transforms that make one training crop look like another section of the same tissue.

    Sections are cut at any angle, stretched by the knife and stained unevenly, so flips, rotations, smooth
    deformation, contrast and blur all yield images that the microscope could have taken. Neighbouring sections that
    serve as context may be out of place or lost.

    Parameters
    ----------
    crop_px : int
        Edge of the square crops, in pixels.
    seed : int
        Seed of all random choices.

    Returns
    -------
    Compose
        Takes and returns ``{"image": (C, H, W) float32 z-scores, "label": (1, H, W) float32 of 0, 1
        and, where nothing is known, 2, "weight": (1, H, W) float32, 0 there}``. Both are moved without being mixed.
    """
    moved = [IMAGE, LABEL, WEIGHT]
    transforms = Compose(
        [
            RandNeighbourDefectsd([IMAGE]),
            RandFlipd(moved, prob=0.5, spatial_axis=0),
            RandRotate90d(moved, prob=0.75, max_k=3),
            Rand2DElasticd(
                moved,
                prob=0.5,
                spacing=(32, 32),
                magnitude_range=(0.0, 3.0),
                rotate_range=0.4,
                scale_range=(0.15, 0.15),
                spatial_size=(crop_px, crop_px),
                mode=("bilinear", "nearest", "nearest"),
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


class RandNeighbourDefectsd(Randomizable, MapTransform):
    """Shifts or loses the sections around the middle one, as imperfect alignment and lost sections do.

    The middle channel, to which the truth belongs, is never touched. A lost section is replaced by the next one
    towards the middle, just as the engine repeats the last section at the end of a stack.

    Parameters
    ----------
    keys : sequence of str
        Entries that hold (C, H, W) arrays of adjacent sections, C odd.
    lost, shifted : float
        Probabilities of a neighbour to be lost, or else to be shifted.
    max_px : int
        Largest shift along each axis, in pixels.

    Examples
    --------
    >>> lose_all = RandNeighbourDefectsd(["image"], lost=1.0)
    >>> lose_all({"image": np.array([[[1]], [[2]], [[3]]])})["image"].ravel()
    array([2, 2, 2])
    """

    def __init__(self, keys: list[str], lost: float = 0.1, shifted: float = 0.3, max_px: int = 6) -> None:
        MapTransform.__init__(self, keys)
        self.lost, self.shifted, self.max_px = lost, shifted, max_px

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Return the data with its neighbouring sections disturbed."""
        out = dict(data)
        for key in self.keys:
            sections = list(np.asarray(out[key]))
            middle = len(sections) // 2
            # From the middle outwards, so that what replaces a lost section is what stands there by now.
            for z in sorted((z for z in range(len(sections)) if z != middle), key=lambda z: abs(z - middle)):
                chance = self.R.random()
                if chance < self.lost:
                    sections[z] = sections[z + (1 if z < middle else -1)]
                elif chance < self.lost + self.shifted:
                    dy, dx = self.R.randint(-self.max_px, self.max_px + 1, 2)
                    padded = np.pad(sections[z], self.max_px, mode="symmetric")
                    height, width = sections[z].shape
                    y, x = self.max_px + dy, self.max_px + dx
                    sections[z] = padded[y : y + height, x : x + width]
            out[key] = np.stack(sections)
        return out
