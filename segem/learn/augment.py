"""Augmentation of EM sections, composed from MONAI transforms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from numpy.typing import NDArray

from segem.kernels.truth import UNKNOWN
from segem.learn.appearance import RandAppearanced

IMAGE, LABEL, WEIGHT = "image", "label", "weight"

Section = NDArray[np.float32]


def build_augmentation(crop_px: int, seed: int, defects: float, appearance: float = 0.0) -> Compose:
    """Return the transforms that make one training crop look like another section of the same tissue.

    Sections are cut at any angle, stretched by the knife and stained unevenly, so flips, rotations, smooth
    deformation, contrast and blur all yield images that the microscope could have taken. Some sections have defects,
    neighbouring sections used as context may be misaligned or missing, and tissue may end within a crop.

    Parameters
    ----------
    crop_px : int
        Edge of the square crops, in pixels.
    seed : int
        Seed of all random choices.
    defects : float
        Share of the crops that get a defect, and of those that lie partly outside the tissue.
    appearance : float
        Share of the crops that are made to look like another tissue.

    Returns
    -------
    Compose
        Takes and returns ``{"image": (C, H, W) float32 z-scores, "label": (1, H, W) float32 of 0, 1
        and, where nothing is known, 2, "weight": (1, H, W) float32, 0 there}``. Labels and weights are resampled by the
        nearest pixel.
    """
    moved = [IMAGE, LABEL, WEIGHT]
    transforms = Compose(
        [
            # Defects come before flips and turns, which give cuts and shifts their other directions.
            RandSectionDefectsd([IMAGE], moved=[LABEL, WEIGHT], prob=defects),
            RandNeighbourDefectsd([IMAGE]),
            # One flip, and 0 to 3 quarter turns of equal probability (1/4 none, 3/4 one of the others): all eight
            # orientations are equally likely.
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
                # The label 2 means unknown, so a mean of two labels would be another label.
                mode=("bilinear", "nearest", "nearest"),
                padding_mode="reflection",
            ),
            RandAppearanced([IMAGE], prob=appearance),
            # Gamma keeps mean and spread; scale and shift, which follow, change those on their own.
            RandAdjustContrastd([IMAGE], prob=0.3, gamma=(0.7, 1.4), retain_stats=True),
            RandScaleIntensityd([IMAGE], factors=0.2, prob=0.5),
            RandShiftIntensityd([IMAGE], offsets=0.3, prob=0.5),
            RandGaussianSmoothd([IMAGE], sigma_x=(0.3, 1.2), sigma_y=(0.3, 1.2), prob=0.15),
            # Noise differs up to twofold between sections of one stack, and a net must not mistake it for texture.
            RandGaussianNoised([IMAGE], prob=0.6, std=0.45),
            # Last, for a run shows what lies outside as exactly the mean.
            RandOutsided([IMAGE], LABEL, WEIGHT, prob=defects),
        ]
    )
    # numpy's old generator, which MONAI draws from, takes 32 bits of a seed.
    transforms.set_random_state(seed % 2**32)
    return transforms


class RandNeighbourDefectsd(Randomizable, MapTransform):
    """Shifts or drops sections around the middle one, as in stacks with imperfect alignment or lost sections.

    The middle channel, to which the truth belongs, is never touched. A lost section is replaced by the next one
    towards the middle, just as the engine repeats the last section at the end of a stack.

    Parameters
    ----------
    keys : sequence of str
        Entries that hold (C, H, W) arrays of adjacent sections, C odd.
    lost, shifted : float
        Probability that a neighbour is lost, and that it is shifted instead.
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
            # From the middle outwards, so that two lost sections in a row are both replaced by one that is not lost.
            for z in sorted((z for z in range(len(sections)) if z != middle), key=lambda z: abs(z - middle)):
                chance = self.R.random()
                if chance < self.lost:
                    sections[z] = sections[z + (1 if z < middle else -1)]
                elif chance < self.lost + self.shifted:
                    dy, dx = self.R.randint(-self.max_px, self.max_px + 1, 2)
                    sections[z] = _shifted(sections[z], dy, dx)
            out[key] = np.stack(sections)
        return out


class RandSectionDefectsd(Randomizable, MapTransform):
    """Adds one defect to the section that the truth belongs to, like those of cutting, staining and imaging.

    The truth stays as it is, so that a net learns to continue membranes through a defect; where a part of the section
    is moved, its truth moves with it. Neighbouring sections are never changed.

    Parameters
    ----------
    keys : sequence of str
        Entries that hold (C, H, W) z-scores of adjacent sections, C odd.
    moved : sequence of str
        Entries that hold (1, H, W) truth or weights of the middle one.
    prob : float
        Probability of a defect.
    kinds : sequence of str
        Defects to choose from: ``dark``, ``pale`` (of low contrast), ``dirt`` (a blot of one grey), ``fold`` (a dark
        line) and ``misaligned`` (a part that is shifted along a straight cut).

    Notes
    -----
    After the defects of Funke et al. (2019), doi:10.1109/TPAMI.2018.2835450, and the misalignment of Lee et al. (2017),
    arXiv:1706.00120.

    Examples
    --------
    >>> truth = np.eye(64, dtype=np.float32)[np.newaxis]
    >>> cut = RandSectionDefectsd(["image"], moved=["label"], prob=1.0, kinds=["misaligned"])
    >>> out = cut({"image": 5 * truth, "label": truth})
    >>> bool((out["image"] == 5 * out["label"]).all()), bool((out["label"] == truth).all())
    (True, False)
    """

    def __init__(
        self, keys: Sequence[str], moved: Sequence[str], prob: float = 0.05, kinds: Sequence[str] | None = None
    ) -> None:
        MapTransform.__init__(self, keys)
        self.moved, self.prob, self.kinds = tuple(moved), prob, tuple(kinds or DEFECTS)

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Return the data, with a defect or without."""
        out = dict(data)
        if self.R.random() >= self.prob:
            return out
        kind, seed = self.kinds[self.R.randint(len(self.kinds))], self.R.randint(2**31)
        for key in (*self.keys, *(self.moved if kind == "misaligned" else ())):
            sections = np.array(out[key])
            middle = len(sections) // 2
            # The same seed for each entry, so that the truth moves exactly as its section does.
            sections[middle] = DEFECTS[kind](sections[middle], np.random.default_rng(seed))
            out[key] = sections
        return out


class RandOutsided(Randomizable, MapTransform):
    """Lets the tissue end along a straight line, beyond which a run shows the mean: a z-score of 0.

    Parameters
    ----------
    keys : sequence of str
        Entries that hold (C, H, W) z-scores.
    label, weight : str
        Entries of (1, H, W) truth and weights; beyond the line the truth is unknown and the weight 0.
    prob : float
        Probability of such a line. It lies at any angle, at least a quarter of the smaller edge away from the centre.

    Examples
    --------
    >>> end = RandOutsided(["image"], "label", "weight", prob=1.0).set_random_state(0)
    >>> ones = np.ones((1, 64, 64), np.float32)
    >>> out = end({"image": ones, "label": ones, "weight": ones})
    >>> bool(((out["image"] == 0) == (out["label"] == UNKNOWN)).all())
    True
    >>> bool(0 < (out["weight"] == 0).mean() < 0.5)
    True
    """

    def __init__(self, keys: Sequence[str], label: str, weight: str, prob: float) -> None:
        MapTransform.__init__(self, keys)
        self.label, self.weight, self.prob = label, weight, prob

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Return the data, whole or partly outside."""
        out = dict(data)
        if self.R.random() >= self.prob:
            return out
        height, width = np.asarray(out[self.label]).shape[1:]
        angle, away = self.R.uniform(0, 2 * np.pi), self.R.uniform(0.25, 0.45) * min(height, width)
        y, x = np.arange(height)[:, np.newaxis] - (height - 1) / 2, np.arange(width) - (width - 1) / 2
        outside = y * np.sin(angle) + x * np.cos(angle) > away
        for key, beyond in {**dict.fromkeys(self.keys, 0), self.label: UNKNOWN, self.weight: 0}.items():
            out[key] = np.where(outside, np.float32(beyond), np.asarray(out[key]))
        return out


def _dark(section: Section, rng: np.random.Generator) -> Section:
    return section - np.float32(rng.uniform(0.5, 2.0))


def _pale(section: Section, rng: np.random.Generator) -> Section:
    share = np.float32(rng.uniform(0.1, 0.5))
    return section * share + np.float32(section.mean()) * (1 - share)


def _dirt(section: Section, rng: np.random.Generator) -> Section:
    """Dust is a black spot, a hole in the section a white one."""
    y, x = (np.arange(size) - rng.uniform(0, size) for size in section.shape)
    radius = rng.uniform(0.02, 0.12) * min(section.shape)
    blot = (y / rng.uniform(0.5, 1.0))[:, np.newaxis] ** 2 + x**2 <= max(radius, 2.0) ** 2
    return np.where(blot, np.float32(rng.choice([-3.0, 3.0])), section)


def _fold(section: Section, rng: np.random.Generator) -> Section:
    """Where a section is folded, electrons pass it twice: a dark line."""
    y, x = (np.arange(size) - rng.uniform(0, size) for size in section.shape)
    angle = rng.uniform(0, np.pi)
    distance = np.abs(y[:, np.newaxis] * np.cos(angle) + x * np.sin(angle))
    return np.where(distance <= rng.uniform(1.0, 6.0), np.minimum(section - 2, np.float32(-2.0)), section)


def _misaligned(section: Section, rng: np.random.Generator) -> Section:
    """Shift all rows below a cut sideways; flips and rotations give the other directions."""
    cut, dx = rng.integers(1, len(section)), rng.integers(1, 17) * rng.choice([-1, 1])
    return np.concatenate([section[:cut], _shifted(section[cut:], 0, dx)])


DEFECTS: dict[str, Callable[[Section, np.random.Generator], Section]] = {
    "dark": _dark,
    "pale": _pale,
    "dirt": _dirt,
    "fold": _fold,
    "misaligned": _misaligned,
}


def _shifted(section: Section, dy: int, dx: int) -> Section:
    """Return a section shifted up by `dy` and left by `dx` pixels, mirrored beyond its borders."""
    height, width = section.shape
    padded: Section = np.pad(section, [(abs(dy), abs(dy)), (abs(dx), abs(dx))], mode="symmetric")
    return padded[abs(dy) + dy :, abs(dx) + dx :][:height, :width]
