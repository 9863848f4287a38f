"""Boundary F1: how many border pixels of membrane have a counterpart within a tolerance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from segem.kernels.metrics.not_defined import NotDefined
from segem.kernels.metrics.section import SectionMask


@dataclass(frozen=True)
class BoundarySums:
    """Border pixels of truth and mask, and how many of them have a counterpart; add them up, then take the scores.

    Parameters
    ----------
    truth, found : int
        Border pixels of the true membrane, and of the mask's: membrane with a 4-neighbour in the background.
    truth_met, found_met : int
        Those within the tolerance of a border pixel of the other, from centre to centre.

    Notes
    -----
    Precision is ``found_met / found``, recall ``truth_met / truth``, and the score their harmonic mean, after
    G. Csurka, D. Larlus and F. Perronnin (2013), doi:10.5244/C.27.32. As there, one border pixel may be the counterpart
    of several. Unlike there, counts are pooled over sections and the tolerance is a length. The edge of a section, and
    of what is labelled, is no border.

    Examples
    --------
    A line of membrane that is one pixel off, with pixels of 4 nm:

    >>> from segem.kernels.metrics.section import compare_section
    >>> truth, mask = np.array([[0, 1, 0, 0]], np.uint8), np.array([[0, 0, 1, 0]], np.uint8)
    >>> [BoundarySums.count(*compare_section(truth, mask, (4, 4), nm)).f1 for nm in (2, 4)]
    [0.0, 1.0]
    """

    truth: int = 0
    found: int = 0
    truth_met: int = 0
    found_met: int = 0

    @classmethod
    def count(cls, truth: SectionMask, found: SectionMask) -> BoundarySums:
        """Count one section."""
        return cls(
            int(np.count_nonzero(truth.border)),
            int(np.count_nonzero(found.border)),
            int(np.count_nonzero(truth.border & found.near_border)),
            int(np.count_nonzero(found.border & truth.near_border)),
        )

    def __add__(self, other: BoundarySums) -> BoundarySums:
        return BoundarySums(
            self.truth + other.truth,
            self.found + other.found,
            self.truth_met + other.truth_met,
            self.found_met + other.found_met,
        )

    @property
    def precision(self) -> float | NotDefined:
        """Share of the mask's border that is true; not defined where the mask has none."""
        return self.found_met / self.found if self.found else NotDefined("the membrane of the mask has no border")

    @property
    def recall(self) -> float | NotDefined:
        """Share of the true border that is found; not defined where the truth has none."""
        return self.truth_met / self.truth if self.truth else NotDefined("the membrane of the truth has no border")

    @property
    def f1(self) -> float | NotDefined:
        """Harmonic mean of both; not defined where one of them is not."""
        return combine_shares(self.precision, self.recall)


def combine_shares(precision: float | NotDefined, recall: float | NotDefined) -> float | NotDefined:
    """Return the harmonic mean of precision and recall; not defined where one of them is not.

    Examples
    --------
    >>> combine_shares(0.5, 1.0), combine_shares(0.0, 0.0), combine_shares(1.0, NotDefined("nothing there"))
    (0.6666666666666666, 0.0, NotDefined(why='nothing there'))
    """
    if isinstance(recall, NotDefined):
        return recall
    if isinstance(precision, NotDefined):
        return precision
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
