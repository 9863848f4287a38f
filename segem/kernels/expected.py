"""Scores that a mask can be expected to have, from the probability it was cut from and without any truth."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log

import numpy as np
from numpy.typing import NDArray

from segem.kernels.threshold import threshold_probability

_LEVELS = np.arange(256) / 255


@dataclass(frozen=True)
class ExpectedConfusion:
    """Counts of voxels by truth and mask as the probability expects them; add them up, then take the IoU.

    Of voxels with a probability of 0.8, four in five are membrane where the probability is calibrated. So those of
    them in the mask are 0.8 of a true positive each and 0.2 of a false one.

    Parameters
    ----------
    tp, fp, fn : float
        Expected true positives, false positives and false negatives; membrane is positive.

    Examples
    --------
    >>> round(ExpectedConfusion.count(np.array([[255, 204, 51, 0]], np.uint8), 0.5).iou, 4)
    0.8182
    """

    tp: float = 0.0
    fp: float = 0.0
    fn: float = 0.0

    @classmethod
    def count(
        cls, stored: NDArray[np.uint8], threshold: float, inside: NDArray[np.bool_] | None = None
    ) -> ExpectedConfusion:
        """Add up the probabilities of a section.

        Parameters
        ----------
        stored : (y, x) uint8
            Probability of membrane, 255 = certain.
        threshold : float
            Probability from which a voxel is in the mask.
        inside : (y, x) bool, optional
            Voxels that show tissue; others do not count.

        Returns
        -------
        ExpectedConfusion
        """
        return cls.of_histogram(
            np.bincount((stored if inside is None else stored[inside]).ravel(), minlength=256), threshold
        )

    @classmethod
    def of_histogram(cls, voxels: NDArray[np.integer], threshold: float) -> ExpectedConfusion:
        """Return the counts for so many voxels of each of the 256 probabilities that are stored."""
        chosen = threshold_probability(np.arange(256, dtype=np.uint8), threshold) != 0
        membrane = voxels * _LEVELS
        found = float(membrane[chosen].sum())
        return cls(found, float(voxels[chosen].sum()) - found, float(membrane[~chosen].sum()))

    def __add__(self, other: ExpectedConfusion) -> ExpectedConfusion:
        return ExpectedConfusion(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)

    @property
    def union(self) -> float:
        """Expected number of voxels that are membrane in the mask or in the truth."""
        return self.tp + self.fp + self.fn

    @property
    def iou(self) -> float:
        """Membrane IoU of the expected counts; 1 where no membrane is expected, as for measured ones."""
        return self.tp / self.union if self.union > 0 else 1.0


def expect_errors(threshold: float) -> NDArray[np.float32]:
    """Return the probability that a voxel of the mask, or outside it, is wrong, for each probability that is stored.

    Examples
    --------
    >>> [round(float(share), 2) for share in expect_errors(0.5)[[0, 51, 204, 255]]]
    [0.0, 0.2, 0.2, 0.0]
    """
    chosen = threshold_probability(np.arange(256, dtype=np.uint8), threshold) != 0
    return np.where(chosen, 1 - _LEVELS, _LEVELS).astype(np.float32)


def log_odds(score: float) -> float:
    """Return the log odds of a score in 0..1, which may be 0 or 1.

    Examples
    --------
    >>> round(log_odds(0.75), 3), round(log_odds(1.0), 3)
    (1.099, 6.907)
    """
    score = min(max(score, 0.001), 0.999)
    return log(score / (1 - score))


def from_log_odds(value: float) -> float:
    """Return the score of log odds.

    Examples
    --------
    >>> round(from_log_odds(log_odds(0.75)), 3)
    0.75
    """
    return 1 / (1 + exp(-value))
