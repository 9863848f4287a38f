"""Adapted Rand error, by the convention of scikit-image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segem.kernels.metrics.contingency import Overlaps
from segem.kernels.metrics.not_defined import NO_TRUE_CELL, NotDefined


@dataclass(frozen=True)
class AdaptedRandSums:
    """Pairs of pixels that lie together; add them up over sections, then take the error.

    Parameters
    ----------
    joint : int
        Ordered pairs of pixels in one true cell and one segment.
    truth, proposal : int
        Ordered pairs in one true cell, and in one segment.

    Notes
    -----
    1 - 2 joint / (truth + proposal), the convention of ``skimage.metrics.adapted_rand_error``: pixels outside of true
    cells are left out, a pixel is no pair with itself, and the lines of the proposal are one segment like any other. It
    differs from 1 - V_rand in the last two. The score is that of I. Arganda-Carreras et al., Front. Neuroanat. 9:142
    (2015), doi:10.3389/fnana.2015.00142. Pairs are summed over sections, so that the error of a stack is that of all
    sections with numbers of their own.

    Examples
    --------
    Two cells of two pixels, merged: 4 of 12 pairs of the segment are right, and all 4 of the truth:

    >>> table = Overlaps.count(np.array([[1, 1, 2, 2]]), np.array([[1, 1, 1, 1]]))
    >>> AdaptedRandSums.of(table).error
    0.5
    """

    joint: int = 0
    truth: int = 0
    proposal: int = 0

    @classmethod
    def of(cls, overlaps: Overlaps) -> AdaptedRandSums:
        """Sum up one section from its overlaps, 0 being outside of cells in the truth."""
        return cls(*(_count_pairs(pixels) for pixels in overlaps.sum_up(overlaps.in_cells)))

    def __add__(self, other: AdaptedRandSums) -> AdaptedRandSums:
        return AdaptedRandSums(self.joint + other.joint, self.truth + other.truth, self.proposal + other.proposal)

    @property
    def error(self) -> float | NotDefined:
        """0 to 1, less is better; not defined where the truth holds no cell, or no two pixels lie together."""
        pairs = self.truth + self.proposal
        return 1 - 2 * self.joint / pairs if pairs else NO_TRUE_CELL


def _count_pairs(pixels: NDArray[np.int64]) -> int:
    # As Python integers beyond 2**63: a section may hold more than 2**31 pixels.
    exact = pixels.astype(object) if pixels.sum() >= 2**31 else pixels
    return int((exact * (exact - 1)).sum())
