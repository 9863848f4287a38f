"""clDice: how well the centre lines of membranes lie within each other, whatever their width."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from segem.kernels.metrics.boundary_f1 import combine_shares
from segem.kernels.metrics.not_defined import NO_MEMBRANE_FOUND, NO_TRUE_MEMBRANE, NotDefined
from segem.kernels.metrics.section import SectionMask


@dataclass(frozen=True)
class CentrelineSums:
    """Pixels of the centre lines, and how many lie in the other's membrane; add them up, then take the scores.

    Parameters
    ----------
    truth, found : int
        Pixels of the centre lines of the true membrane and of the mask's.
    truth_covered, found_covered : int
        Those of the truth that lie in the mask's membrane, and those of the mask that lie in the true one.

    Notes
    -----
    S. Shit et al. (2021), doi:10.1109/CVPR46437.2021.01629: topology precision ``found_covered / found``, topology
    sensitivity ``truth_covered / truth``, and clDice, their harmonic mean. Centre lines are those of T. Y. Zhang and
    C. Y. Suen (1984), doi:10.1145/357994.358023, in each section, and counts are pooled over sections. It moves little
    with the width of a membrane, which moves IoU a lot.

    Examples
    --------
    A membrane drawn three times as thick as the truth, along the same line; its IoU is 0.33:

    >>> from segem.kernels.metrics.section import compare_section
    >>> truth, mask = np.zeros((2, 5, 9), np.uint8)
    >>> truth[2], mask[1:4] = 1, 1
    >>> round(CentrelineSums.count(*compare_section(truth, mask, (4, 4), 4)).cl_dice, 2)
    0.93
    """

    truth: int = 0
    found: int = 0
    truth_covered: int = 0
    found_covered: int = 0

    @classmethod
    def count(cls, truth: SectionMask, found: SectionMask) -> CentrelineSums:
        """Count one section."""
        return cls(
            int(np.count_nonzero(truth.skeleton)),
            int(np.count_nonzero(found.skeleton)),
            int(np.count_nonzero(truth.skeleton & found.membrane)),
            int(np.count_nonzero(found.skeleton & truth.membrane)),
        )

    def __add__(self, other: CentrelineSums) -> CentrelineSums:
        return CentrelineSums(
            self.truth + other.truth,
            self.found + other.found,
            self.truth_covered + other.truth_covered,
            self.found_covered + other.found_covered,
        )

    @property
    def precision(self) -> float | NotDefined:
        """Share of the mask's centre lines that lie in true membrane; not defined where the mask holds none."""
        return self.found_covered / self.found if self.found else NO_MEMBRANE_FOUND

    @property
    def sensitivity(self) -> float | NotDefined:
        """Share of the true centre lines that the mask covers; not defined where the truth holds no membrane."""
        return self.truth_covered / self.truth if self.truth else NO_TRUE_MEMBRANE

    @property
    def cl_dice(self) -> float | NotDefined:
        """Harmonic mean of both; not defined where one of them is not."""
        return combine_shares(self.precision, self.sensitivity)
