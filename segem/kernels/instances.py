"""Membrane between cells that are numbered, not outlined."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.config.ingest import ZeroMeans
from segem.kernels.truth import UNKNOWN

# Widths are given in decimals, so that half of one may miss a whole number of pixels by a rounding.
_ROUNDING = 1 + 1e-9


def outline_cells(
    ids: NDArray[Any],
    border_nm: float,
    pixel_nm: tuple[float, float],
    zero_means: ZeroMeans,
    ignored: Sequence[int] = (),
) -> NDArray[np.uint8]:
    """Turn the numbers of cells into membrane.

    Parameters
    ----------
    ids : (H, W) array of whole numbers
        The number of the cell that a pixel belongs to.
    border_nm : float
        Width of the membrane between two cells that touch, in nanometres, half of it in each cell.
    pixel_nm : tuple of float
        Pixel size along (y, x) in nanometres.
    zero_means : {"membrane", "membrane_with_border", "outside_cells", "background", "unknown"}
        What 0 is: membrane; membrane that cells have a border with too; the space outside cells, which has a border
        like a cell; background that has none; or not labelled.
    ignored : sequence of int
        More values that mean not labelled.

    Returns
    -------
    (H, W) uint8
        1 on membrane, 0 elsewhere, and `UNKNOWN` where nothing is labelled or where a border with what is not labelled
        may lie.

    Examples
    --------
    Two cells that touch, with pixels of 4 nm and a membrane of 8 nm, a pixel in each:

    >>> outline_cells(np.array([[5, 5, 5, 7, 7, 7]]), 8, (4, 4), "membrane").tolist()
    [[0, 0, 1, 1, 0, 0]]
    """
    zero = ids == 0
    unlabelled = is_any(ids, ignored)
    if zero_means == "unknown":
        unlabelled |= zero
    bordered = zero_means in ("outside_cells", "membrane_with_border")
    counted = ~unlabelled if bordered else ~(unlabelled | zero)
    truth: NDArray[np.uint8] = mark_borders(ids, border_nm, pixel_nm, counted).astype(np.uint8)
    if zero_means in ("membrane", "membrane_with_border"):
        truth[zero] = 1
    if unlabelled.any():
        # What lies beside may be the same cell or another one; a border with a cell that is known stays one.
        truth[mark_borders(unlabelled, border_nm, pixel_nm) & (truth == 0)] = UNKNOWN
        truth[unlabelled] = UNKNOWN
    return truth


def mark_borders(
    ids: NDArray[Any],
    border_nm: float,
    pixel_nm: tuple[float, float],
    counted: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """Return where another number is within half of `border_nm`, from centre to centre of the pixels.

    Parameters
    ----------
    ids : (H, W) array
        Numbers of any type.
    border_nm : float
        Width of a border in nanometres.
    pixel_nm : tuple of float
        Pixel size along (y, x) in nanometres.
    counted : (H, W) bool, optional
        False on pixels that have no border and cause none.

    Returns
    -------
    (H, W) bool

    Examples
    --------
    >>> mark_borders(np.array([[1, 1, 1, 2, 2, 3]]), 2, (1, 1)).tolist()
    [[False, False, True, True, True, True]]
    """
    marked = np.zeros(ids.shape, bool)
    # Compared pixel by pixel, not by the distance to a border line: its nearest pixel may be one of the same cell.
    for dy, dx in _neighbours(border_nm / 2 * _ROUNDING, pixel_nm, ids.shape):
        one = np.s_[: ids.shape[0] - dy, max(0, -dx) : ids.shape[1] - max(0, dx)]
        other = np.s_[dy:, max(0, dx) : ids.shape[1] - max(0, -dx)]
        differ = ids[one] != ids[other]
        if counted is not None:
            differ &= counted[one] & counted[other]
        marked[one] |= differ
        marked[other] |= differ
    return marked


def is_any(labels: NDArray[Any], values: Sequence[int]) -> NDArray[np.bool_]:
    """Return where labels have one of some values, exactly, also where a value does not fit their type.

    Examples
    --------
    >>> is_any(np.array([0, 1, 255], np.uint8), (0, 255, 2**64 - 1)).tolist()
    [True, False, True]
    """
    found = np.zeros(labels.shape, bool)
    for value in values:
        # numpy.isin would compare 64 bits as floats.
        if labels.dtype.kind != "f" or _is_exact(value, labels.dtype):
            found |= labels == value
    return found


def _is_exact(value: int, dtype: np.dtype[Any]) -> bool:
    with np.errstate(over="ignore"):
        return float(dtype.type(value)) == value


def _neighbours(reach_nm: float, pixel_nm: tuple[float, float], shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Yield the steps to each pixel within reach, one of each pair of opposite ones."""
    most_y, most_x = (min(int(reach_nm / nm), n - 1) for nm, n in zip(pixel_nm, shape, strict=True))
    for dy in range(most_y + 1):
        for dx in range(-most_x if dy else 1, most_x + 1):
            if math.hypot(dy * pixel_nm[0], dx * pixel_nm[1]) <= reach_nm:
                yield dy, dx
