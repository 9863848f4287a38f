"""Pixel error of the ISBI 2012 challenge: 1 minus the best F1 score of cell pixels over thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.kernels.metrics.not_defined import NO_TRUE_CELL, NotDefined
from segem.kernels.metrics.segmentation import THRESHOLDS, require_match
from segem.kernels.truth import is_known, is_membrane


@dataclass(frozen=True)
class PixelErrorSums:
    """Pixels taken for cell at each threshold; add them up over sections, then take the error.

    Parameters
    ----------
    cells : int
        Pixels in true cells.
    right, wrong : ndarray of int64, shape (11,)
        For each threshold, the pixels taken for cell that are one, and those that are membrane.

    Notes
    -----
    The original pixel error of the challenge (I. Arganda-Carreras et al., Front. Neuroanat. 9:142 (2015),
    doi:10.3389/fnana.2015.00142), which V_rand replaced: 1 minus the largest F1 score over `THRESHOLDS` of "this pixel
    lies in a cell", with true and false positives and false negatives summed over all sections. It is not the share of
    wrong pixels.

    Examples
    --------
    Of four cell pixels one is taken for membrane, and of two membrane pixels one for cell: F1 = 6 / (6 + 1 + 1).

    >>> truth, mask = np.array([[0, 0, 0, 0, 1, 1]], np.uint8), np.array([[0, 0, 0, 255, 255, 0]], np.uint8)
    >>> PixelErrorSums.count(truth, mask).error
    0.25
    """

    cells: int
    right: NDArray[np.int64]
    wrong: NDArray[np.int64]

    @classmethod
    def nothing(cls) -> PixelErrorSums:
        """Return the sums over no section."""
        return cls(0, np.zeros(len(THRESHOLDS), np.int64), np.zeros(len(THRESHOLDS), np.int64))

    @classmethod
    def count(cls, truth: NDArray[Any], probability: NDArray[np.uint8]) -> PixelErrorSums:
        """Count the pixels of one section whose truth is known.

        Parameters
        ----------
        truth : ndarray, shape (y, x)
            Nonzero on true membrane, `segem.kernels.truth.UNKNOWN` where it is unknown.
        probability : ndarray of uint8, shape (y, x)
            Membrane probability, 255 = certain; a mask of 0 and 255 has the same error at every threshold.

        Raises
        ------
        InputError
            When the shapes differ or the probability is not uint8.
        """
        require_match(truth, probability)
        membrane = np.bincount(probability[is_membrane(truth)], minlength=256)
        cell = np.bincount(probability[is_known(truth)], minlength=256) - membrane
        p_cell = 1 - np.arange(256) / 255
        right, wrong = (np.array([kind[p_cell > t].sum() for t in THRESHOLDS]) for kind in (cell, membrane))
        return cls(int(cell.sum()), right, wrong)

    def __add__(self, other: PixelErrorSums) -> PixelErrorSums:
        return PixelErrorSums(self.cells + other.cells, self.right + other.right, self.wrong + other.wrong)

    @property
    def error(self) -> float | NotDefined:
        """0 to 1, less is better; not defined where the truth holds no cell."""
        if self.cells == 0:
            return NO_TRUE_CELL
        # 2 tp / (2 tp + fp + fn), with fn = cells - tp.
        return 1 - float((2 * self.right / (self.right + self.wrong + self.cells)).max())
