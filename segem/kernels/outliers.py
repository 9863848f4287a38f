"""Values of a curve along the sections that stand out from those around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

AROUND = 5
"""Sections before, and as many after, that say what is usual."""
FEWEST = 3
"""In a volume of fewer sections, none can stand out."""


@dataclass(frozen=True)
class Bound:
    """What it takes to stand out: a difference of a least amount, and of so many robust standard deviations."""

    least: float
    spreads: float


def find_outliers(curve: Sequence[float | None], bound: Bound) -> dict[int, tuple[float, float]]:
    """Find the values of a curve that differ from those before and from those after.

    A value must lie beyond both medians, that of the values before it and that of the values after it, on the same
    side, so that neither a step nor a slope has an outlier.

    Parameters
    ----------
    curve : sequence of float or None
        A value for each section; None where there is none.
    bound : Bound
        By how much an outlier differs; the spread is that of the curve around its running median.

    Returns
    -------
    dict
        By index, the value and the nearer of the two medians.

    Examples
    --------
    >>> find_outliers([1, 1, 1, 1, 5, 1, 1, 1], Bound(1, 3))
    {4: (5.0, 1.0)}
    >>> find_outliers([1, 1, 1, 1, 5, 5, 5, 5], Bound(1, 3))
    {}
    """
    if sum(value is not None for value in curve) < FEWEST:
        return {}
    least = max(bound.least, bound.spreads * measure_scatter(curve))
    return {at: (value, value - away) for at, (value, away) in find_deviations(curve).items() if abs(away) > least}


def find_deviations(curve: Sequence[float | None]) -> dict[int, tuple[float, float]]:
    """Return each value of a curve with how far it lies beyond the nearer of two medians, see `find_outliers`.

    Examples
    --------
    >>> find_deviations([1, 1, 1, 1, 5, 4, 3, None])[4]
    (5.0, 1.5)
    """
    known = [(at, float(value)) for at, value in enumerate(curve) if value is not None]
    values = np.array([value for _, value in known])
    found = {}
    for turn, (at, value) in enumerate(known):
        away = [value - float(np.median(side)) for side in _split(values, turn) if side.size]
        between = not away or min(away) < 0 < max(away)
        found[at] = (value, 0.0 if between else min(away, key=abs))
    return found


def measure_scatter(curve: Sequence[float | None]) -> float:
    """Return the spread of a curve around its running median."""
    values = np.array([float(value) for value in curve if value is not None])
    around = (np.concatenate(_split(values, at)) for at in range(len(values)))
    return measure_spread(
        np.array([value - float(np.median(sides)) for value, sides in zip(values, around, strict=True)])
    )


def _split(values: NDArray[np.float64], at: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    before, after = values[max(0, at - AROUND) : at], values[at + 1 : at + 1 + AROUND]
    if before.size < 2 and after.size < 2:
        return before, after
    # A single value is no median: near an end, the other side alone says what is usual.
    return (before if before.size > 1 else before[:0]), (after if after.size > 1 else after[:0])


def measure_spread(residuals: NDArray[np.float64]) -> float:
    """Return the standard deviation, by the median, which outliers do not change."""
    return 1.4826 * float(np.median(np.abs(residuals)))
