"""Errors planted into a mask to learn whether a reviewer sees them: a gap in a membrane, or a false membrane."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segem.kernels.lines import widen_lines

PlantKind = Literal["gap", "spur"]

_MARGIN_PX = 20
"""From the edge of a region: nobody is to be asked for what lies half in another one."""
_SMALLEST_CELL_PX = 300
_DEEPEST_PX = 8
_SPUR_PX = (20, 90)
_TRIES = 200
_CLEAR = 0.25
"""A place is clear where the probability is that far from 0 or 1 at most: nobody could take the error for the truth."""


def plant_gap(
    mask: NDArray[np.bool_], probability: NDArray[np.uint8] | None, rng: np.random.Generator
) -> NDArray[np.bool_] | None:
    """Erase a piece of a membrane that parts two cells, so that they become one.

    Parameters
    ----------
    mask : (y, x) bool
        Of a region, True = membrane.
    probability : (y, x) uint8, optional
        Of membrane, 255 = certain: only what it is sure of is erased.
    rng : numpy.random.Generator
        Chooses among the places.

    Returns
    -------
    (y, x) bool or None
        The pixels that change; None where no place is good enough.

    Examples
    --------
    >>> mask = np.zeros((60, 60), bool)
    >>> mask[:, 29:32] = True
    >>> flips = plant_gap(mask, None, np.random.default_rng(0))
    >>> bool((flips & mask).any()), bool((flips & ~mask).any())
    (True, False)
    """
    if mask.all() or not mask.any():
        return None
    depth = ndimage.distance_transform_edt(mask)
    ridge = (depth == ndimage.maximum_filter(depth, 3)) & mask & (depth <= _DEEPEST_PX) & _inner(mask.shape)
    if probability is not None:
        ridge &= probability >= 255 * (1 - _CLEAR)
    cells, _ = ndimage.label(~mask)
    sizes = np.bincount(cells.ravel())
    for y, x in _draw(ridge, rng):
        radius = 1.5 * depth[y, x] + 2
        box, near = _disc(mask.shape, y, x, radius)
        beside = np.unique(cells[box][near])
        # Two cells, and no third one: where three meet, a gap is no clear mistake.
        if np.count_nonzero(sizes[beside[beside != 0]] >= _SMALLEST_CELL_PX) == 2 and np.count_nonzero(beside) == 2:
            flips = np.zeros(mask.shape, bool)
            flips[box] = near & mask[box]
            return flips
    return None


def plant_spur(
    mask: NDArray[np.bool_], probability: NDArray[np.uint8] | None, rng: np.random.Generator
) -> NDArray[np.bool_] | None:
    """Draw a membrane through the middle of a cell, as wide as membranes are here.

    Parameters
    ----------
    mask, probability, rng
        See `plant_gap`: only where the probability is sure that there is none.

    Returns
    -------
    (y, x) bool or None
        The pixels that change; None where no place is good enough.

    Examples
    --------
    >>> mask = np.zeros((90, 90), bool)
    >>> mask[:, [5, 6, 65, 66]] = True
    >>> flips = plant_spur(mask, None, np.random.default_rng(0))
    >>> cells = [ndimage.label(~one)[1] for one in (mask, mask ^ flips)]
    >>> cells
    [3, 4]
    """
    if mask.all() or not mask.any():
        return None
    depth = ndimage.distance_transform_edt(mask)
    ridge = (depth == ndimage.maximum_filter(depth, 3)) & mask
    width_px = 2 * round(float(np.median(depth[ridge]))) + 1
    room = ndimage.distance_transform_edt(~mask)
    for y, x in _draw((room >= _SPUR_PX[0] / 2) & _inner(mask.shape), rng):
        angle = float(rng.uniform(0, math.pi))
        ends = [_walk(mask, (y, x), (sign * math.sin(angle), sign * math.cos(angle))) for sign in (1, -1)]
        one, other = ends
        if one is None or other is None or not _SPUR_PX[0] <= math.dist(one, other) <= _SPUR_PX[1]:
            continue
        line = np.zeros(mask.shape, bool)
        line[_bend(one, other, float(rng.uniform(-0.12, 0.12)), mask.shape)] = True
        flips: NDArray[np.bool_] = (widen_lines(line, width_px) == 1) & ~mask
        middle = line & (room > width_px)
        sure = probability is None or bool((probability[middle] <= 255 * _CLEAR).all())
        if sure and ndimage.label(~(mask | flips))[1] > ndimage.label(~mask)[1]:
            return flips
    return None


def disguise(probability: NDArray[np.uint8], flips: NDArray[np.bool_], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return the probability that a mask with planted pixels could have been cut from.

    Where a gap is planted, the probability fades as it does at a true gap; where a membrane is, one appears. Without
    this, a look at the probability would tell the planted errors from those of the model.

    Parameters
    ----------
    probability : (y, x) uint8
        As it is.
    flips : (y, x) bool
        Planted pixels.
    mask : (y, x) bool
        The mask as it is without them.

    Returns
    -------
    (y, x) uint8
        The same where nothing is planted nearby. No pixel that is not planted crosses the threshold.

    Examples
    --------
    >>> probability = np.array([[0, 0, 250, 250, 0]], np.uint8)
    >>> disguise(probability, np.array([[False, False, True, True, False]]), probability > 127).max() < 128
    np.True_
    """
    if not flips.any():
        return probability
    low = int(probability[mask].min()) if mask.any() else 128
    high = int(probability[~mask].max()) if not mask.all() else 127
    weight = ndimage.gaussian_filter(flips.astype(np.float64), 1.5)
    weight = np.clip(weight / max(float(np.median(weight[flips])), 1e-9), 0, 1)
    # A gap is as dark as half of what is just no membrane, and a false membrane as bright as those around it.
    aim = np.where(mask, high * 0.5, low + 0.6 * (255 - low))
    near = flips | (ndimage.maximum_filter(flips, 9) & (mask == _side(flips, mask)))
    found = np.where(near, probability + (aim - probability) * weight, probability)
    seen = mask ^ flips
    # Each pixel on its own side of the threshold, which lies between the two.
    found = np.where(seen, np.maximum(found, low), np.minimum(found, high))
    changed: NDArray[np.uint8] = np.where(near, np.rint(found), probability).astype(np.uint8)
    return changed


def _side(flips: NDArray[np.bool_], mask: NDArray[np.bool_]) -> bool:
    """Return what the mask says where pixels are planted: membrane for a gap."""
    return bool(mask[flips].mean() > 0.5)


def _inner(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    inner = np.zeros(shape, bool)
    inner[_MARGIN_PX : shape[0] - _MARGIN_PX, _MARGIN_PX : shape[1] - _MARGIN_PX] = True
    return inner


def _draw(places: NDArray[np.bool_], rng: np.random.Generator) -> list[tuple[int, int]]:
    found = np.argwhere(places)
    return [(int(y), int(x)) for y, x in rng.permutation(found)[:_TRIES]]


def _disc(shape: tuple[int, ...], y: int, x: int, radius: float) -> tuple[tuple[slice, slice], NDArray[np.bool_]]:
    reach = math.ceil(radius)
    y0, y1, x0, x1 = max(0, y - reach), min(shape[0], y + reach + 1), max(0, x - reach), min(shape[1], x + reach + 1)
    rows, columns = np.ogrid[y0:y1, x0:x1]
    near: NDArray[np.bool_] = (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
    return (slice(y0, y1), slice(x0, x1)), near


def _walk(mask: NDArray[np.bool_], start: tuple[int, int], step: tuple[float, float]) -> tuple[int, int] | None:
    """Return the first pixel of membrane in a direction; None where the region ends before, or it is far."""
    for length in range(1, _SPUR_PX[1]):
        y, x = round(start[0] + length * step[0]), round(start[1] + length * step[1])
        if not (0 <= y < mask.shape[0] and 0 <= x < mask.shape[1]):
            return None
        if mask[y, x]:
            return y, x
    return None


def _bend(
    one: tuple[int, int], other: tuple[int, int], bulge: float, shape: tuple[int, ...]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the pixels of a slightly bent line, since membranes are seldom straight."""
    a, b = np.array(one, float), np.array(other, float)
    t = np.linspace(0, 1, 2 * max(2, round(math.dist(one, other))))[:, None]
    across = np.array([-(b - a)[1], (b - a)[0]])
    path = np.rint(a + t * (b - a) + 4 * t * (1 - t) * bulge * across).astype(np.intp)
    rows, columns = np.clip(path, 0, np.array(shape) - 1).T
    return rows, columns
