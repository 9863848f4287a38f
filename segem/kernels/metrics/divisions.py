"""V_rand and V_info of sections that are divided into cells, at one limit after the other, and the best limit."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from segem.config import CellsConfig
from segem.kernels.basins import find_basins
from segem.kernels.cells import measure_borders
from segem.kernels.merging import merge_basins
from segem.kernels.metrics.contingency import Contingency
from segem.kernels.metrics.information import information_score
from segem.kernels.metrics.rand import rand_score
from segem.kernels.metrics.segmentation import true_cells

LIMITS = np.round(np.arange(0.2, 0.86, 0.025), 3)
_AROUND = 5
"""Limits whose scores are averaged, an odd number."""


def choose_limit(sections: Iterable[tuple[str, NDArray[np.uint8], NDArray[np.uint8]]]) -> float | None:
    """Return the one of `LIMITS` at which labelled sections are divided best.

    Best is the mean of V_rand and V_info, averaged over sections, then over volumes, so that a large one does not
    decide alone, then over the limits next to each: where sections are few, one border can lift one limit.

    Parameters
    ----------
    sections : iterable of (str, (y, x) uint8, (y, x) uint8)
        Volume, truth and membrane probability of each, see `score_divisions`.

    Returns
    -------
    float or None
        None where no section holds a cell.

    Examples
    --------
    >>> truth, probability = np.array([[0, 1, 0]], np.uint8), np.array([[0, 128, 0]], np.uint8)
    >>> choose_limit([("em", truth, probability)]) < 0.5
    True
    """
    scored: dict[str, list[NDArray[np.float64]]] = {}
    for volume, truth, probability in sections:
        merits = score_divisions(truth, probability, CellsConfig().sigma_px, LIMITS)
        if merits is not None:
            scored.setdefault(volume, []).append(merits)
    if not scored:
        return None
    curve = np.mean([np.mean(merits, axis=0) for merits in scored.values()], axis=0)
    smooth = np.convolve(curve, np.full(_AROUND, 1 / _AROUND), "valid")
    return float(LIMITS[int(np.argmax(smooth)) + _AROUND // 2])


def score_divisions(
    truth: NDArray[np.uint8], probability: NDArray[np.uint8], sigma_px: float, limits: Iterable[float]
) -> NDArray[np.float64] | None:
    """Return the mean of V_rand and V_info of a section divided into cells, for each limit of `merge_basins`.

    The basins are found once. Cells have no gaps between them, so nothing is flooded and no pixel lies on a line.

    Parameters
    ----------
    truth : (y, x) uint8
        0 in cells, 1 = membrane, 2 = unknown.
    probability : (y, x) uint8
        Membrane probability, 255 = certain.
    sigma_px : float
        See `segem.kernels.cells.find_cells`.
    limits : iterable of float
        Mean probabilities of a border below which two basins are one cell.

    Returns
    -------
    ndarray of float64 or None
        None where the truth holds no cell.

    Examples
    --------
    Two cells behind a faint membrane are one where only certain membrane divides:

    >>> truth, probability = np.array([[0, 1, 0]], np.uint8), np.array([[0, 128, 0]], np.uint8)
    >>> score_divisions(truth, probability, 0, (0.4, 0.6)).round(2).tolist()
    [1.0, 0.33]
    """
    cells = true_cells(truth, probability)
    if not cells.any():
        return None
    basins = find_basins(probability, sigma_px)
    count = int(basins.max())
    borders = measure_borders(basins, probability, count)
    merits = []
    for limit in limits:
        table = Contingency.count(cells, merge_basins(borders, count, limit)[basins])
        merits.append((rand_score(table).value + information_score(table).value) / 2)
    return np.array(merits)
