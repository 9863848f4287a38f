"""Fits the calibration of a net to its logits and the truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segem.kernels.metrics.calibration import CalibrationBins
from segem.kernels.platt import Group, fit_platt
from segem.records.card import NO_CALIBRATION, Calibration


def fit_calibration(volumes: Sequence[Group]) -> Calibration:
    """Return the calibration that fits the logits to the truth of the given volumes, and how well it fits.

    Each volume counts as much as any other.

    Examples
    --------
    A net that is always sure, and right three times out of four:

    >>> truth = np.array([[1, 1, 1, 0], [0, 0, 0, 1]] * 500, np.uint8)
    >>> found = fit_calibration([[(np.tile([[9.0], [-9.0]], (500, 4)), truth)]])
    >>> round(found.scale, 3), found.ece_before, found.ece_validation
    (0.122, 0.2499, 0.0002)
    """
    scale, bias = fit_platt(volumes)
    before, after = (_error(volumes, *line) for line in (NO_CALIBRATION.line, (scale, bias)))
    return Calibration(scale=scale, bias=bias, ece_before=before, ece_validation=after)


def _error(volumes: Sequence[Group], scale: float, bias: float) -> float:
    found = []
    for volume in volumes:
        bins = CalibrationBins()
        for logits, truth in volume:
            # The sigmoid by tanh, which does not overflow for large logits.
            bins += CalibrationBins.count(truth, 0.5 * (1 + np.tanh((scale * logits + bias) / 2)))
        found.append(bins.error)
    return round(float(np.mean(found)), 4)
