"""Calibration: how far probabilities are from observed frequencies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segem.errors import InputError
from segem.kernels.truth import is_known, is_membrane

BINS = 15


@dataclass(frozen=True)
class CalibrationBins:
    """Sums over the voxels of each of 15 bins of probability; add them up over sections, then take the error.

    Parameters
    ----------
    voxels, promised, found : tuple of 15 numbers
        Voxels of the bin, the sum of their probabilities, and how many of them are membrane.

    Notes
    -----
    Expected calibration error of Guo, Pleiss, Sun and Weinberger (2017), arXiv:1706.04599, equation 3, of the
    probability of membrane: bins of equal width, the m-th of them from (m - 1) / 15, exclusive, to m / 15.

    Examples
    --------
    Of four voxels that are membrane with a probability of 0.5 each, one is:

    >>> CalibrationBins.count(np.array([1, 0, 0, 0], np.uint8), np.full(4, 0.5)).error
    0.25
    """

    voxels: tuple[float, ...] = (0.0,) * BINS
    promised: tuple[float, ...] = (0.0,) * BINS
    found: tuple[float, ...] = (0.0,) * BINS

    @classmethod
    def count(cls, truth: NDArray[np.uint8], probability: NDArray[np.floating]) -> CalibrationBins:
        """Sort the voxels whose truth is known into bins.

        Raises
        ------
        InputError
            When the shapes differ or a probability is not in 0..1.
        """
        if truth.shape != probability.shape:
            raise InputError(
                "truth and probability must have one shape",
                expected=truth.shape,
                found=probability.shape,
                fix="crop them to the same shape",
            )
        if not ((probability >= 0) & (probability <= 1)).all():
            raise InputError("not probabilities", expected="0 to 1", found="others, or NaN", fix="give probabilities")
        known = is_known(truth)
        p = probability[known].astype(np.float64)
        bins = np.maximum(np.ceil(p * BINS).astype(np.intp) - 1, 0)
        sums = [np.bincount(bins, weight, BINS) for weight in (None, p, is_membrane(truth)[known])]
        return cls(*(tuple(map(float, values)) for values in sums))

    def __add__(self, other: CalibrationBins) -> CalibrationBins:
        pairs = ((self.voxels, other.voxels), (self.promised, other.promised), (self.found, other.found))
        return CalibrationBins(*(tuple(a + b for a, b in zip(*pair, strict=True)) for pair in pairs))

    @property
    def error(self) -> float:
        """Mean over voxels of the gap between mean probability and share of membrane in their bin; 0 without voxels."""
        different = sum(abs(promised - found) for promised, found in zip(self.promised, self.found, strict=True))
        return different / (sum(self.voxels) or 1.0)
