"""Which sections of a stack lie elsewhere than those around them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Extent = Literal["alone", "first", "last", "lasting"]
"""The section alone, among others, as the first or as the last one; or it and all after it."""

LEAST_PX, SPREADS = 5.0, 2.5
"""It takes a displacement of so many pixels, and of so many standard deviations of those of the stack itself."""
_BESIDE = 2
"""Sections before, and as many after, that say where one should lie: with two, no single one decides."""
_GAP = 3
"""Between two runs of sections of which it is known how they lie to each other, so that none reaches into the next."""


@dataclass(frozen=True)
class Displacement:
    """Where a section lies, in pixels from where it should."""

    y_px: float
    x_px: float
    extent: Extent


def find_displaced(steps: Mapping[int, NDArray[np.float64]]) -> dict[int, Displacement]:
    """Find sections that lie elsewhere than those around them, or than those before.

    The steps from section to section add up to a path. A section should lie at the median of the two before it and the
    two after it, so that neither what a stack drifts nor one section beside it makes a difference. What lies furthest
    away is put in its place, and the next one is looked for.

    Parameters
    ----------
    steps : mapping
        How far a section lies down and to the right of the one before, in pixels, by its index. Where one is missing,
        nothing is known of how those before it lie to those after it.

    Returns
    -------
    dict
        By index.

    Examples
    --------
    >>> still, there = np.zeros(2), np.array([12.0, 0.0])
    >>> find_displaced(dict(enumerate([still, still, there, -there, still, still, still], 1)))
    {3: Displacement(y_px=12.0, x_px=0.0, extent='alone')}
    >>> find_displaced(dict(enumerate([still, still, there, still, still, still, still], 1)))
    {3: Displacement(y_px=12.0, x_px=0.0, extent='lasting')}
    """
    if not steps:
        return {}
    usual = np.median(list(steps.values()), axis=0)
    sections, path = _lay_out({z: step - usual for z, step in steps.items()})
    alone = _find_away(path)
    lengths = np.hypot(*alone.T)
    known = lengths[np.isfinite(lengths)]
    least = max(LEAST_PX, SPREADS * _measure_scatter(known)) if known.size else LEAST_PX
    found: dict[int, Displacement] = {}
    while len(found) < len(sections):
        alone, lasting = _find_away(path), _find_lasting(path)
        # Of a lasting step, both ends vary.
        scores = np.stack([np.hypot(*alone.T), np.hypot(*lasting.T) / sqrt(2)]) / least
        scores[~np.isfinite(scores)] = 0
        kind, at = (int(n) for n in np.unravel_index(int(scores.argmax()), scores.shape))
        if scores[kind, at] <= 1:
            break
        away = (lasting if kind else alone)[at].copy()
        until = at + int(np.isnan(path[at:, 0]).argmax()) if kind else at + 1
        extent: Extent = "lasting" if kind else _name_extent(path, at)
        path[at:until] -= away
        found.setdefault(int(sections[at]), Displacement(float(away[0]), float(away[1]), extent))
    return found


def _lay_out(steps: Mapping[int, NDArray[np.float64]]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the sections and their places: runs of them, with a gap of NaN after each."""
    sections: list[int] = []
    path: list[NDArray[np.float64]] = []
    nowhere = np.full(2, np.nan)
    for z in sorted(steps):
        if not sections or sections[-1] != z - 1:
            gap = _GAP if sections else 0
            sections += [-1] * gap + [z - 1]
            path += [nowhere] * gap + [np.zeros(2)]
        sections.append(z)
        path.append(path[-1] + steps[z])
    return np.array(sections + [-1] * _GAP), np.stack(path + [nowhere] * _GAP)


def _find_away(path: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far each section lies from those around it, NaN where there is but one."""
    beside = np.stack([_move(path, by) for by in range(-_BESIDE, _BESIDE + 1) if by])
    return path - _find_medians(beside)


def _find_lasting(path: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far each section and those after it lie from those before it.

    That is the step to the section, or the one from the three before it to the three from it on, whichever is shorter:
    a section that lies elsewhere alone makes a step, and a drift a long way, but neither makes both.
    """
    after = np.stack([_move(path, by) for by in range(_GAP)])
    before = np.stack([_move(path, by) for by in range(-_GAP, 0)])
    step, change = path - before[-1], _find_medians(after) - _find_medians(before)
    shorter = np.hypot(*step.T) < np.hypot(*change.T)
    return np.where(np.isnan(change), np.nan, np.where(shorter[:, None], step, change))


def _find_medians(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the medians along the first axis of what is no NaN; NaN where that is a single value."""
    ordered = np.sort(values, axis=0)
    known = np.isfinite(values).sum(axis=0)
    low, high = (
        np.take_along_axis(ordered, np.maximum(at, 0)[None], axis=0)[0] for at in ((known - 1) // 2, known // 2)
    )
    return np.where(known < 2, np.nan, (low + high) / 2)


def _move(path: NDArray[np.float64], by: int) -> NDArray[np.float64]:
    """Return for each place the one so many later."""
    moved = np.full_like(path, np.nan)
    source = path[max(by, 0) : len(path) + min(by, 0)]
    moved[max(-by, 0) : max(-by, 0) + len(source)] = source
    return moved


def _measure_scatter(lengths: NDArray[np.float64]) -> float:
    """Return the standard deviation of the parts of vectors, by the median of their lengths or by the upper quartile.

    Of normally distributed parts, both tell the same. Where some sections lie further away than the median lets expect,
    the quartile tells more, and no quarter of the sections stands out.
    """
    middle, upper = np.percentile(lengths, (50, 75))
    return float(max(middle / 1.177, upper / 1.665))


def _name_extent(path: NDArray[np.float64], at: int) -> Extent:
    if at == 0 or np.isnan(path[at - 1, 0]):
        return "first"
    return "last" if np.isnan(path[at + 1, 0]) else "alone"
