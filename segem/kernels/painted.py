"""How much of an image is areas of one value, as in labels, and not in what a microscope has recorded."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_PAINTED = 0.8
"""Share of equal neighbours from which on an image looks painted: labels have .87 and more, stacks of seven data sets
.05 and less."""

_COUNTED = 2**20
"""How many pixels of a section are counted at least, if it has that many: in rows spread over it."""


class PaintedTally:
    """Counts neighbours in a row that are equal, but for those of the commonest value, which may be padding."""

    def __init__(self) -> None:
        self._equal = self._pairs = 0

    def add(self, section: NDArray[Any]) -> None:
        """Count one more section, or a band of it.

        Parameters
        ----------
        section : (y, x) array
            Intensities of any type; what is no number counts as unequal.
        """
        rows = section[:: max(1, section.size // _COUNTED)]
        left, right = rows[:, :-1], rows[:, 1:]
        values, counts = np.unique(left, return_counts=True)
        if len(values) < 2:
            return
        counted = left != values[counts.argmax()]
        self._pairs += int(np.count_nonzero(counted))
        self._equal += int(np.count_nonzero(counted & (left == right)))

    @property
    def share(self) -> float:
        """Share of the counted neighbours that are equal, 0 to 1.

        Examples
        --------
        >>> tally = PaintedTally()
        >>> tally.add(np.array([[0, 0, 0, 0, 0, 7, 7, 7, 8, 8]]))
        >>> tally.share
        0.75
        """
        return self._equal / self._pairs if self._pairs else 0.0

    @property
    def looks_painted(self) -> bool:
        """Whether an image is rather labels than what a microscope has recorded."""
        return self.share >= _PAINTED
