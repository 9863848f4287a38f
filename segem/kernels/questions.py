"""Questions about a mask, "is there a membrane here?": where they are worth asking, and what an answer changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segem.kernels.divided_section import DividedSection
from segem.kernels.lines import widen_lines

Ridge = Sequence[tuple[int, int]]
"""Pixels (y, x) of a line of one pixel between two cells."""

ERRING = 0.1
"""Share of answers that are taken to be wrong: where the mask is wrong less often than that, nobody is asked."""
_STEEPNESS = 0.08
"""How far from the limit, in mean probability, about three borders in four are what they seem."""


def expect_membrane(strength: NDArray[np.float64], limit: float) -> NDArray[np.float64]:
    """Return the chance that a border is a membrane, from its mean probability.

    Parameters
    ----------
    strength : array of float64
        Mean probability of borders, 0 to 1.
    limit : float
        The strength at which it is as likely as not: that of `segem.kernels.cells.find_cells`.

    Returns
    -------
    array of float64
        0 to 1.

    Examples
    --------
    >>> expect_membrane(np.array([0.5, 0.588, 0.1]), 0.5).round(2).tolist()
    [0.5, 0.75, 0.01]
    """
    chance: NDArray[np.float64] = 1 / (1 + np.exp((limit - strength) / _STEEPNESS))
    return chance


@dataclass(frozen=True, eq=False)
class Doubt:
    """A question about a section, and what an answer is worth.

    Parameters
    ----------
    has_membrane : bool
        What the mask says. Where it has one, "no" erases the ridge; where it has none, "yes" draws it.
    closeness : float
        Chance that the mask is wrong, 0 to 1.
    consequence : float
        Pairs of pixels that are wrongly parted or joined if it is: the product of the areas of the two sides, each as
        a share of the section.
    ridge : (n, 2) int64
        Pixels (y, x) of the line to be drawn or erased.
    width_px : int
        How wide.
    sides : tuple of (k,) int64
        The basins that meet there, on the two sides, by their numbers in `DividedSection.parts`.
    """

    has_membrane: bool
    closeness: float
    consequence: float
    ridge: NDArray[np.int64]
    width_px: int
    sides: tuple[NDArray[np.int64], NDArray[np.int64]]


def find_doubts(section: DividedSection, limit: float, count: int) -> list[Doubt]:
    """Return the questions about a section that are worth most, the best first.

    Parameters
    ----------
    section : DividedSection
        See there.
    limit : float
        See `expect_membrane`.
    count : int
        At most so many.

    Returns
    -------
    list of Doubt
        Ordered by (closeness - `ERRING`) * consequence: the pairs of pixels that are expected to be put right by
        somebody who errs so often. Fewer than `count` where no more are worth asking.

    Notes
    -----
    Asking where a wrong answer costs most, before where one is most in doubt, is focused proofreading: S. M. Plaza,
    arXiv:1409.1199 (2014).

    Examples
    --------
    The mask misses the line in the middle of the second cell:

    >>> probability = np.array([[0, 0, 255, 0, 0, 150, 0, 0]], np.uint8)
    >>> section = DividedSection.divide(probability, (probability > 200).astype(np.uint8), sigma_px=0)
    >>> [(one.has_membrane, round(one.closeness, 2), one.ridge.tolist()) for one in find_doubts(section, 0.5, 9)]
    [(False, 0.75, [[0, 5]])]
    """
    closeness = np.concatenate(
        [
            expect_membrane(section.tree.strength, limit),
            1 - expect_membrane(section.lines.borders.mean, limit),
        ]
    )
    areas = np.concatenate(
        [
            section.tree.pixels,
            section.segment_pixels[np.stack([section.lines.borders.one, section.lines.borders.other], axis=1)],
        ]
    )
    # As shares, since products of areas overflow.
    consequence = (areas / section.parts.size).prod(axis=1)
    worth = (closeness - ERRING) * consequence
    links = section.tree.strength.size
    found: list[Doubt] = []
    for k in np.argsort(-worth, kind="stable").tolist():
        if len(found) == count or worth[k] <= 0:
            break
        if k < links:
            ridge, width_px, sides = _find_missing(section, k)
            # Basins within the mask are linked as well: what lies in it all along parts already whatever it could part.
            if (section.depth.flat[ridge] > 0).all():
                continue
        else:
            ridge, width_px, sides = _find_surplus(section, k - links)
        if ridge.size:
            place = np.stack(np.divmod(ridge, section.parts.shape[1]), axis=1)
            found.append(Doubt(k >= links, float(closeness[k]), float(consequence[k]), place, width_px, sides))
    return found


def draw_ridge(mask: NDArray[np.uint8], ridge: Ridge, width_px: int) -> NDArray[np.uint8]:
    """Draw a line between two cells into a mask: the answer is yes, there is a membrane.

    Parameters
    ----------
    mask : (y, x) uint8
        1 = membrane.
    ridge : sequence of (int, int)
        Pixels (y, x) of the line.
    width_px : int
        Diameter of the round pen that draws it, an odd number.

    Returns
    -------
    (y, x) uint8, 0 or 1
        A new mask.

    Examples
    --------
    >>> draw_ridge(np.array([[0, 0, 0, 0, 1]], np.uint8), [(0, 1)], 1).tolist()
    [[0, 1, 0, 0, 1]]
    """
    return _paint(mask, ridge, width_px, 1)


def erase_ridge(mask: NDArray[np.uint8], ridge: Ridge, width_px: int) -> NDArray[np.uint8]:
    """Take the line between two parts of a cell out of a mask: the answer is no, there is no membrane.

    Parameters
    ----------
    mask, ridge, width_px
        See `draw_ridge`.

    Returns
    -------
    (y, x) uint8, 0 or 1
        A new mask.

    Examples
    --------
    >>> erase_ridge(np.array([[0, 1, 1, 1, 0, 1]], np.uint8), [(0, 2)], 3).tolist()
    [[0, 0, 0, 0, 0, 1]]
    """
    return _paint(mask, ridge, width_px, 0)


def _paint(mask: NDArray[np.uint8], ridge: Ridge, width_px: int, value: int) -> NDArray[np.uint8]:
    painted = mask.copy()
    if len(ridge) == 0:
        return painted
    at = np.asarray(ridge)
    # Only what the pen may reach: a section can be much larger than a line.
    low = np.maximum(at.min(axis=0) - width_px, 0)
    high = np.minimum(at.max(axis=0) + width_px + 1, mask.shape)
    line = np.zeros(high - low, bool)
    line[tuple((at - low).T)] = True
    painted[low[0] : high[0], low[1] : high[1]][widen_lines(line, width_px) != 0] = value
    return painted


_Place = tuple[NDArray[np.int64], int, tuple[NDArray[np.int64], NDArray[np.int64]]]


def _find_missing(section: DividedSection, link: int) -> _Place:
    """Return the ridge, its width and the two sides of a membrane that the mask may lack."""
    tree, borders = section.tree, section.seams.borders
    side = np.zeros(int(section.parts.max()) + 1, np.int8)
    for mark, parts in enumerate(tree.cut(link), start=1):
        side[parts] = mark
    one, other = side[borders.one], side[borders.other]
    touch = tree.link_of == link
    meet = np.concatenate([borders.one[touch], borders.other[touch]])
    ridge = section.seams.find((one != other) & (one != 0) & (other != 0))
    return ridge, section.width_px, (meet[side[meet] == 1], meet[side[meet] == 2])


def _find_surplus(section: DividedSection, line: int) -> _Place:
    """Return the ridge, its width and the two sides of a membrane that the mask may have too many.

    The ridge is without its ends, which belong to other membranes as well.
    """
    shape, lines = section.segments.shape, section.lines
    whole = lines.find(np.arange(lines.borders.one.size) == line)
    rows, columns = np.divmod(whole, shape[1])
    width_px = 2 * round(float(np.median(section.depth[rows, columns]))) + 1
    reach = width_px + 2
    low = np.maximum((rows.min() - reach, columns.min() - reach), 0)
    box = slice(low[0], rows.max() + reach + 1), slice(low[1], columns.max() + reach + 1)
    rows, columns = rows - low[0], columns - low[1]
    others = section.segments[box] == 0
    others[rows, columns] = False
    away = ndimage.distance_transform_edt(~others) if others.any() else np.full(others.shape, np.inf)
    kept = whole[away[rows, columns] > width_px / 2 + 1]
    beside = rows[:, None] + (0, 1, 1, 2), columns[:, None] + (1, 0, 2, 1)
    parts, segments = (np.pad(image[box], 1)[beside] for image in (section.parts, section.segments))
    one, other = (np.unique(parts[segments == name[line]]) for name in (lines.borders.one, lines.borders.other))
    return kept, width_px, (one, other)
