"""Whether tile borders show in a probability map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class SeamSums:
    """Absolute differences of neighbouring pixels, across seams and elsewhere; add them up, then take the ratio.

    Parameters
    ----------
    across, across_pairs : int
        Sum and number of the differences across a seam.
    elsewhere, elsewhere_pairs : int
        Sum and number of all others in the same direction.

    Examples
    --------
    >>> section = np.array([[0, 1, 5, 6]], np.uint8)
    >>> (SeamSums.count(section, [], [2]) + SeamSums.count(section, [], [2])).ratio
    4.0
    """

    across: int = 0
    across_pairs: int = 0
    elsewhere: int = 0
    elsewhere_pairs: int = 0

    @classmethod
    def count(cls, section: NDArray[np.uint8], rows: Sequence[int], columns: Sequence[int]) -> SeamSums:
        """Sum up one section.

        Parameters
        ----------
        section : ndarray of uint8, shape (y, x)
            Probability map.
        rows, columns : sequence of int
            First row below, and first column right of, each seam; those outside the section are left out.
        """
        across_y, pairs_y, all_y, count_y = _differences(section, rows)
        across_x, pairs_x, all_x, count_x = _differences(section.T, columns)
        across, pairs = across_y + across_x, pairs_y + pairs_x
        return cls(across, pairs, all_y + all_x - across, count_y + count_x - pairs)

    def __add__(self, other: SeamSums) -> SeamSums:
        return SeamSums(
            self.across + other.across,
            self.across_pairs + other.across_pairs,
            self.elsewhere + other.elsewhere,
            self.elsewhere_pairs + other.elsewhere_pairs,
        )

    @property
    def ratio(self) -> float | None:
        """Mean difference across seams over the mean elsewhere; 1 shows no seam, None where there are no seams."""
        if self.across_pairs == 0 or self.elsewhere_pairs == 0:
            return None
        if self.across == 0 and self.elsewhere == 0:
            return 1.0
        # One grey level in total is the smallest difference that can be measured; it keeps the ratio finite.
        return (self.across / self.across_pairs) / (max(self.elsewhere, 1) / self.elsewhere_pairs)


def seam_ratio(section: NDArray[np.uint8], rows: Sequence[int], columns: Sequence[int]) -> float | None:
    """Return the mean absolute gradient of a section across its seams over the mean elsewhere.

    Parameters
    ----------
    section : ndarray of uint8, shape (y, x)
        Probability map.
    rows, columns : sequence of int
        First row below, and first column right of, each seam.

    Returns
    -------
    float or None
        About 1 where seams cannot be seen; None when there is no seam.

    Examples
    --------
    >>> ramp = np.tile(np.arange(8, dtype=np.uint8), (8, 1))
    >>> seam_ratio(ramp, [], [4]), seam_ratio(ramp, [], [])
    (1.0, None)
    """
    return SeamSums.count(section, rows, columns).ratio


def _differences(section: NDArray[np.uint8], seams: Sequence[int]) -> tuple[int, int, int, int]:
    height, width = section.shape
    per_row = np.abs(np.diff(section.astype(np.int16), axis=0)).sum(axis=1, dtype=np.int64)
    inside = [row - 1 for row in sorted(set(seams)) if 0 < row < height]
    if not inside:
        # Gradients may differ by direction: only those along which there are seams are compared.
        return 0, 0, 0, 0
    return int(per_row[inside].sum()), len(inside) * width, int(per_row.sum()), per_row.size * width
