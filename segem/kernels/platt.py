"""Platt scaling: the scale and bias of logits with which their probabilities are calibrated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.errors import InputError
from segem.kernels.truth import is_known, is_membrane

Group = Sequence[tuple[NDArray[np.floating], NDArray[np.uint8]]]
"""Logits and truth of the sections of one volume."""

SMALLEST_SCALE = 0.01
_STEPS, _CLOSE = 50, 1e-9


def fit_platt(volumes: Iterable[Group]) -> tuple[float, float]:
    """Return the scale and bias for which the logits ``scale * logit + bias`` give the truth the largest likelihood.

    Parameters
    ----------
    volumes : iterable of sequences of (logits, truth)
        Arrays of the same shape each; truth is 1 on membrane. All volumes have the same weight; voxels whose
        truth is unknown have none.

    Returns
    -------
    scale, bias : float
        1 and 0 where the logits carry no information on the truth, or its opposite.

    Raises
    ------
    InputError
        When a logit is NaN or infinite.

    Notes
    -----
    Platt (1999), Probabilistic outputs for support vector machines, with its targets just off 0 and 1, so that no
    perfect separation makes the scale infinite; with a bias of 0 it is the temperature scaling of Guo et al. (2017),
    arXiv:1706.04599. Losses that weight classes or pixels shift logits, which no temperature can undo. The problem
    is convex; Newton's method solves it.

    Examples
    --------
    Of the voxels with a logit of 3, two in three are membrane: odds of 2, where the logit says 20.

    >>> logits, truth = np.repeat([3.0, -3.0], 3000), np.tile([1, 1, 0, 0, 0, 1], 1000).reshape(1000, 6)
    >>> truth = np.concatenate([truth[:, :3].ravel(), truth[:, 3:].ravel()]).astype(np.uint8)
    >>> scale, bias = fit_platt([[(logits, truth)]])
    >>> round(float(np.exp(3 * scale)), 2), round(abs(bias), 2)
    (2.0, 0.0)
    """
    groups = [list(group) for group in volumes]
    for logits, _ in (pair for group in groups for pair in group):
        if not np.isfinite(logits).all():
            raise InputError("logits are not finite", found="NaN or infinity", fix="check the model's weights")
    groups = [[_known(*pair) for pair in group] for group in groups]
    line: NDArray[Any] = np.array([1.0, 0.0])
    step: NDArray[Any] = np.zeros(2)
    loss = np.inf
    for _ in range(_STEPS):
        here, gradient, curvature = _likelihood(groups, line + step)
        if here > loss:
            # Too far: Newton's method may overshoot where the curve is flat.
            step = step / 2
            if np.abs(step).max() < _CLOSE:
                break
            continue
        line, loss = line + step, here
        # The small diagonal keeps it solvable where all logits are equal.
        step = -np.linalg.solve(curvature + 1e-12 * np.eye(2), gradient)
        if np.abs(step).max() < _CLOSE:
            break
    scale, bias = (float(value) for value in line)
    return (scale, bias) if scale > SMALLEST_SCALE else (1.0, 0.0)


def _known(logits: NDArray[np.floating], truth: NDArray[np.uint8]) -> tuple[NDArray[np.floating], NDArray[np.uint8]]:
    """Return the logits of known voxels, and 1 where they are membrane."""
    known = is_known(truth)
    return logits[known], is_membrane(truth)[known].astype(np.uint8)


def _likelihood(
    groups: Sequence[Group], line: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean negative log-likelihood, its gradient and its second derivative."""
    loss, gradient, curvature = 0.0, np.zeros(2), np.zeros((2, 2))
    for group in groups:
        voxels = sum(truth.size for _, truth in group)
        membrane = sum(int(np.count_nonzero(truth)) for _, truth in group)
        # Platt's targets: as if one more voxel of each class had been seen.
        low, high = 1 / (voxels - membrane + 2), (membrane + 1) / (membrane + 2)
        # Each volume has the same weight, however many voxels it has.
        share = 1 / (voxels * len(groups))
        for logits, truth in group:
            x = logits.ravel().astype(np.float64)
            target = np.where(truth.ravel() != 0, high, low)
            z = line[0] * x + line[1]
            # The sigmoid, in a form that does not overflow.
            p = 0.5 * (1 + np.tanh(z / 2))
            loss += share * float(np.sum(np.logaddexp(0, z) - target * z))
            off, bend = p - target, p * (1 - p)
            gradient += share * np.array([off @ x, off.sum()])
            cross = bend @ x
            curvature += share * np.array([[bend @ (x * x), cross], [cross, bend.sum()]])
    return loss, gradient, curvature
