"""Membrane intersection over union from one pooled confusion matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from segem.errors import InputError
from segem.kernels.metrics.not_defined import NO_MEMBRANE_FOUND, NO_TRUE_MEMBRANE, NotDefined
from segem.kernels.truth import is_known, is_membrane


@dataclass(frozen=True)
class Confusion:
    """Counts of voxels by truth and prediction; add them up over sections, then take scores.

    Parameters
    ----------
    tp, fp, fn, tn : int
        True positives, false positives, false negatives and true negatives; membrane is positive.

    Examples
    --------
    >>> total = Confusion(2, 1, 1, 0) + Confusion(0, 0, 0, 4)
    >>> total.iou
    0.5
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0
    tn: int = 0

    @classmethod
    def count(cls, truth: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> Confusion:
        """Compare a truth and a mask of the same shape, where the truth is known; not 0 is membrane."""
        if truth.shape != predicted.shape:
            raise InputError(
                "masks of different shapes cannot be compared",
                expected=truth.shape,
                found=predicted.shape,
                fix="crop them to the same shape",
            )
        known = is_known(truth)
        return cls.of_masks(is_membrane(truth), (predicted != 0) & known, known)

    @classmethod
    def of_masks(cls, truth: NDArray[np.bool_], found: NDArray[np.bool_], counted: NDArray[np.bool_]) -> Confusion:
        """Compare two masks, both within what counts."""
        tp = int(np.count_nonzero(truth & found))
        fn = int(np.count_nonzero(truth)) - tp
        fp = int(np.count_nonzero(found)) - tp
        return cls(tp, fp, fn, int(np.count_nonzero(counted)) - tp - fn - fp)

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn, self.tn + other.tn)

    @property
    def voxels(self) -> int:
        """Number of voxels compared."""
        return self.tp + self.fp + self.fn + self.tn

    @cached_property
    def iou(self) -> float:
        """Membrane IoU, ``tp / (tp + fp + fn)``; 1 where neither mask holds membrane."""
        union = self.tp + self.fp + self.fn
        return self.tp / union if union else 1.0

    @property
    def precision(self) -> float | NotDefined:
        """Share of the predicted membrane that is membrane; not defined where none is predicted."""
        found = self.tp + self.fp
        return self.tp / found if found else NO_MEMBRANE_FOUND

    @property
    def recall(self) -> float | NotDefined:
        """Share of the membrane that is found; not defined where there is none."""
        present = self.tp + self.fn
        return self.tp / present if present else NO_TRUE_MEMBRANE

    @property
    def correlation(self) -> float:
        """Matthews correlation: 1 for equal masks, -1 for inverse ones, 0 where one of them holds one class only."""
        margins = (self.tp + self.fp) * (self.tp + self.fn) * (self.tn + self.fp) * (self.tn + self.fn)
        return (self.tp * self.tn - self.fp * self.fn) / math.sqrt(margins) if margins else 0.0
