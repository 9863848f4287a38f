"""The scores of a probability at every threshold, from one pass over its voxels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from segem.errors import InputError
from segem.kernels.metrics.iou import Confusion
from segem.kernels.truth import is_known, is_membrane

_EVERY = 5
"""Levels from one point of the curve to the next: 255 is a multiple of it."""


@dataclass(frozen=True)
class LevelCounts:
    """How many voxels of membrane and of background have each of the 256 levels of a probability; add them up.

    Parameters
    ----------
    voxels : ndarray of int64, shape (2, 256)
        Background, then membrane, where the truth is known.

    Examples
    --------
    >>> counts = LevelCounts.count(np.array([1, 1, 0, 2], np.uint8), np.array([255, 100, 100, 0], np.uint8))
    >>> counts.at(100).iou, counts.at(255).iou
    (0.6666666666666666, 0.5)
    """

    voxels: NDArray[np.int64] = field(default_factory=lambda: np.zeros((2, 256), np.int64))

    @classmethod
    def count(cls, truth: NDArray[np.uint8], probability: NDArray[np.uint8]) -> LevelCounts:
        """Count the voxels of one section.

        Raises
        ------
        InputError
            When the shapes differ.
        """
        if truth.shape != probability.shape:
            raise InputError(
                "truth and probability must have one shape",
                expected=truth.shape,
                found=probability.shape,
                fix="crop them to the same shape",
            )
        known, membrane = is_known(truth), is_membrane(truth)
        kinds = (known & ~membrane, membrane)
        return cls(np.stack([np.bincount(probability[kind], minlength=256) for kind in kinds]).astype(np.int64))

    def __add__(self, other: LevelCounts) -> LevelCounts:
        return LevelCounts(self.voxels + other.voxels)

    def at(self, level: int) -> Confusion:
        """Return the counts of the mask that is membrane from this level on."""
        below, reached = self.voxels[:, :level].sum(axis=1), self.voxels[:, level:].sum(axis=1)
        return Confusion(tp=int(reached[1]), fp=int(reached[0]), fn=int(below[1]), tn=int(below[0]))

    def curve(self) -> Iterator[tuple[float, Confusion]]:
        """Yield 51 thresholds from near 0 to 1, and the counts of the mask that each of them cuts."""
        for level in range(_EVERY, 256, _EVERY):
            yield level / 255, self.at(level)
