"""Variation of information, in bits, as a share of splits and a share of mergers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segem.kernels.metrics.contingency import Overlaps
from segem.kernels.metrics.not_defined import NO_TRUE_CELL, NotDefined


@dataclass(frozen=True)
class VariationSums:
    """Bits of both halves, over all pixels of true cells; add them up over sections, then take the means.

    Parameters
    ----------
    pixels : int
        Pixels in true cells.
    split_bits, merge_bits : float
        Over all of these pixels together: what is left unknown of the segment where the cell is known, and of the cell
        where the segment is known.

    Notes
    -----
    VOI = H(S | T) + H(T | S), M. Meilă (2007), doi:10.1016/j.jmva.2006.11.013, with logarithms to base 2, so in bits a
    pixel. The first term grows with splits, the second with mergers. As ``skimage.metrics.variation_of_information``
    has it with ``ignore_labels=(0,)``, pixels outside of true cells are left out, and the lines of the proposal are one
    segment like any other. Unlike V_info it is not normalised: two cells of equal size that are merged cost one bit.
    The value of a stack is that of all sections with numbers of their own.

    Examples
    --------
    >>> found = VariationSums.of(Overlaps.count(np.array([[1, 1, 2, 2]]), np.array([[1, 1, 1, 1]])))
    >>> found.split, found.merge
    (0.0, 1.0)
    """

    pixels: int = 0
    split_bits: float = 0.0
    merge_bits: float = 0.0

    @classmethod
    def of(cls, overlaps: Overlaps) -> VariationSums:
        """Sum up one section from its overlaps, 0 being outside of cells in the truth."""
        joint, truth, proposal = overlaps.sum_up(overlaps.in_cells)
        together = _weigh(joint)
        # Rounding may leave a little less than nothing.
        return cls(int(joint.sum()), max(0.0, _weigh(truth) - together), max(0.0, _weigh(proposal) - together))

    def __add__(self, other: VariationSums) -> VariationSums:
        return VariationSums(
            self.pixels + other.pixels, self.split_bits + other.split_bits, self.merge_bits + other.merge_bits
        )

    @property
    def split(self) -> float | NotDefined:
        """Bits a pixel that splits cost, 0 or more; not defined where the truth holds no cell."""
        return self.split_bits / self.pixels if self.pixels else NO_TRUE_CELL

    @property
    def merge(self) -> float | NotDefined:
        """Bits a pixel that mergers cost, 0 or more; not defined where the truth holds no cell."""
        return self.merge_bits / self.pixels if self.pixels else NO_TRUE_CELL


def _weigh(pixels: NDArray[np.int64]) -> float:
    return float((pixels * np.log2(pixels)).sum())
