"""V_rand and V_info of a section that is divided into cells at one limit after the other."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from segem.kernels.cells import find_basins, measure_borders, merge_basins
from segem.kernels.metrics.contingency import Contingency
from segem.kernels.metrics.information import information_score
from segem.kernels.metrics.rand import rand_score
from segem.kernels.metrics.segmentation import true_cells


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
    borders, count = measure_borders(basins, probability), int(basins.max())
    merits = []
    for limit in limits:
        table = Contingency.count(cells, merge_basins(borders, count, limit)[basins])
        merits.append((rand_score(table).value + information_score(table).value) / 2)
    return np.array(merits)
