"""Errors of a mask by region of a section: those that its probability expects, and those that a truth shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.kernels.expected import expect_errors
from segem.kernels.threshold import threshold_probability
from segem.kernels.tiles import tile_starts
from segem.kernels.truth import is_known, is_membrane


@dataclass(frozen=True)
class Regions:
    """How a section is cut into regions of about one size.

    Parameters
    ----------
    rows, columns : tuple of int
        Where regions begin, and the end of the last one, in pixels.

    Examples
    --------
    >>> Regions.cut((100, 40), 32)
    Regions(rows=(0, 33, 66, 100), columns=(0, 40))
    """

    rows: tuple[int, ...]
    columns: tuple[int, ...]

    @classmethod
    def cut(cls, shape: tuple[int, int], region_px: int) -> Regions:
        """Cut a section of that shape; regions are stretched or shrunk a little to be of nearly equal size."""
        rows, columns = ((*(int(n) for n in tile_starts(length, region_px)), length) for length in shape)
        return cls(rows, columns)

    @property
    def bands(self) -> tuple[slice, ...]:
        """The rows of pixels of each row of regions."""
        return tuple(map(slice, self.rows[:-1], self.rows[1:]))

    def count(self, chosen: NDArray[np.bool_] | None) -> NDArray[np.float64]:
        """Return how many of the chosen pixels lie in each region; None chooses all.

        Examples
        --------
        >>> Regions.cut((100, 40), 32).count(None).tolist()
        [[1320.0], [1320.0], [1360.0]]
        """
        if chosen is None:
            return np.outer(np.diff(self.rows), np.diff(self.columns)).astype(np.float64)
        return np.array([self.sum_band(chosen[band]) for band in self.bands])

    def sum_band(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Add up the values of one band in each of its regions."""
        return np.asarray(np.add.reduceat(values.sum(axis=0, dtype=np.float64), self.columns[:-1]), np.float64)


def expect_errors_in(
    stored: NDArray[np.uint8], threshold: float, regions: Regions, inside: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Return the share of the tissue of each region that a probability expects to be wrong in its mask.

    Parameters
    ----------
    stored : (y, x) uint8
        Probability of membrane, 255 = certain.
    threshold : float
        Probability from which a pixel is in the mask.
    regions : Regions
        Of a section of that shape.
    inside : (y, x) bool, optional
        Pixels that show tissue.

    Returns
    -------
    (rows, columns) float64
        NaN where a region has no tissue.

    Examples
    --------
    >>> stored = np.array([[255, 204, 51, 0]], np.uint8)
    >>> expect_errors_in(stored, 0.5, Regions((0, 1), (0, 2, 4))).round(2).tolist()
    [[0.1, 0.1]]
    """
    wrong = expect_errors(threshold)
    # By bands of regions, since a large section as floats would take gigabytes.
    sums = [
        regions.sum_band(wrong[stored[band]] if inside is None else wrong[stored[band]] * inside[band])
        for band in regions.bands
    ]
    return _share(np.array(sums), regions.count(inside))


def find_errors_in(
    truth: NDArray[np.uint8], stored: NDArray[np.uint8], threshold: float, regions: Regions
) -> NDArray[np.float64]:
    """Return the share of the pixels with known truth of each region that is wrong in the mask.

    Parameters
    ----------
    truth, stored : (y, x) uint8
        A truth, and the probability of membrane.
    threshold : float
        Probability from which a pixel is in the mask.
    regions : Regions
        Of a section of that shape.

    Returns
    -------
    (rows, columns) float64
        NaN where nothing is known of a region.

    Examples
    --------
    >>> truth, stored = np.array([[1, 0, 0, 0]], np.uint8), np.array([[255, 204, 51, 0]], np.uint8)
    >>> find_errors_in(truth, stored, 0.5, Regions((0, 1), (0, 2, 4))).tolist()
    [[0.5, 0.0]]
    """
    known = is_known(truth)
    wrong = known & (is_membrane(truth) != (threshold_probability(stored, threshold) != 0))
    return _share(regions.count(wrong), regions.count(known))


def share_of_errors(order_by: NDArray[np.floating], errors: NDArray[np.floating], share: float) -> float:
    """Return which part of all errors lies in the regions that come first.

    Parameters
    ----------
    order_by : (n,) float
        By which regions are ordered, the largest first; equal ones share what they hold.
    errors : (n,) float
        Errors of each region.
    share : float
        Share of the regions that is looked at, above 0.

    Returns
    -------
    float
        1 where there is no error at all.

    Examples
    --------
    >>> errors = np.array([6.0, 2.0, 1.0, 1.0])
    >>> share_of_errors(np.array([4, 3, 2, 1]), errors, 0.25), share_of_errors(np.zeros(4), errors, 0.25)
    (0.6, 0.25)
    """
    total = float(errors.sum())
    if total == 0:
        return 1.0
    values, group = np.unique(-order_by, return_inverse=True)
    sizes = np.bincount(group, minlength=values.size)
    held = np.bincount(group, errors, values.size)
    # Of a group of equals, any may come first: each holds as much as their mean.
    taken = np.clip(share * errors.size - (np.cumsum(sizes) - sizes), 0, sizes)
    return float((held * taken / sizes).sum() / total)


def _share(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return found
