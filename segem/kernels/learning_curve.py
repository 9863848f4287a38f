"""What more labelled sections would bring: a saturating power law, fitted to scores of models trained on few to many.

The least squares are solved by variable projection [1]_: for a given exponent, asymptote and height follow from a
linear fit in closed form, so every exponent of a fine grid is tried. There is no starting value, and none of thousands
of fits can fail to converge.

References
----------
.. [1] Golub and Pereyra (1973), The differentiation of pseudo-inverses and nonlinear least squares problems whose
   variables separate, SIAM Journal on Numerical Analysis 10, doi:10.1137/0710036
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from segem.errors import InputError

Floats = NDArray[np.float64]

PARAMETERS = 3
EXPONENTS = np.round(np.arange(0.05, 2.001, 0.01), 2)
"""Candidates of a fit. Below 0.05 a curve cannot be distinguished from one that never saturates."""
_FEWEST_POINTS = 2 * PARAMETERS
_LEAST_MISFIT = 0.001
"""IoU by which measured means may deviate from the curve in any case, on average."""
_MISFIT_LEVEL = 0.01


@dataclass(frozen=True)
class Curve:
    """The law ``IoU(n) = asymptote - height * n ** -exponent`` of n sections; it never falls.

    Parameters
    ----------
    asymptote : float
        IoU with infinitely many sections, at most 1.
    height : float
        How far one section alone falls short of that, 0 to 1.
    exponent : float
        How fast the gap closes.

    Examples
    --------
    >>> Curve(0.9, 0.4, 1.0).at(np.array([1, 4])).tolist()
    [0.5, 0.8]
    """

    asymptote: float
    height: float
    exponent: float

    def at(self, sections: NDArray[np.generic]) -> Floats:
        """Return the IoU with each of these numbers of sections."""
        return self.asymptote - self.height * np.asarray(sections, float) ** -self.exponent


@dataclass(frozen=True)
class Interval:
    """A value with its confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class LearningCurve:
    """A fitted curve with its uncertainty; made by `learning_curve`.

    Parameters
    ----------
    curve : Curve
        The best fit.
    resampled : array (resamples, 3)
        Asymptote, height and exponent of the fits to resampled data.
    confidence : float
        Confidence of all intervals.
    """

    curve: Curve
    resampled: Floats
    confidence: float

    def at(self, sections: float) -> Interval:
        """Return the mean IoU of models trained on this number of sections."""
        return self._interval(self.curve.at(np.array([sections]))[0], self._drawn(sections))

    def gain(self, sections: int, more: int) -> Interval:
        """Return the mean gain in IoU of `more` sections in addition to `sections`."""
        value = np.diff(self.curve.at(np.array([sections, sections + more])))[0]
        return self._interval(value, self._drawn(sections + more) - self._drawn(sections))

    def _drawn(self, sections: float) -> Floats:
        asymptote, height, exponent = self.resampled.T
        drawn: Floats = asymptote - height * sections**-exponent
        return drawn

    def _interval(self, value: float, drawn: Floats) -> Interval:
        low, high = np.quantile(drawn, [(1 - self.confidence) / 2, (1 + self.confidence) / 2])
        return Interval(float(value), float(low), float(high))


def fit_curve(sections: Sequence[int], iou: Sequence[float]) -> Curve:
    """Fit the law to all points by least squares.

    Parameters
    ----------
    sections : sequence of int
        Number of sections that each model was trained on, 1 or more.
    iou : sequence of float
        Score of each model.

    Returns
    -------
    Curve

    Raises
    ------
    InputError
        When there is not one score for each training.

    Examples
    --------
    >>> fit_curve([1, 2, 4], [0.5, 0.7, 0.8])
    Curve(asymptote=0.9, height=0.4, exponent=1.0)
    """
    asymptote, height, exponent = np.round(_fits(*_points(sections, iou))[0], 12)
    return Curve(float(asymptote), float(height), float(exponent))


def learning_curve(
    sections: Sequence[int],
    iou: Sequence[float],
    *,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> LearningCurve:
    """Fit the law of Figueroa et al. [1]_, with its uncertainty by a residual bootstrap [2]_.

    Residuals are redrawn for every point and the law is fitted again, many times. The curve was fitted to these
    very points, so the residuals are widened by ``sqrt(n / (n - 3))``; and they are few, so also by the ratio of
    Student's to the normal quantile. Resampling the two or three seeds of each number of sections instead gives
    intervals that are too narrow: in simulations such 95 % intervals held the truth in 74 to 85 %, these in 92 to 98 %
    (``tests/unit/kernels/test_learning_curve.py``).

    The interval does not account for whether the law holds beyond the points, nor for how the test sections differ
    from the rest of the tissue.

    Parameters
    ----------
    sections, iou : sequences
        As for `fit_curve`, six points or more.
    resamples : int
        Number of draws.
    confidence : float
        Confidence of the two-sided intervals.
    seed : int
        Seed of the draws.

    Returns
    -------
    LearningCurve

    Raises
    ------
    InputError
        When there are too few points.

    References
    ----------
    .. [1] Figueroa et al. (2012), Predicting sample size required for classification performance, BMC Medical
       Informatics and Decision Making 12:8, doi:10.1186/1472-6947-12-8
    .. [2] Efron and Tibshirani (1993), An Introduction to the Bootstrap, chapter 9, doi:10.1007/978-1-4899-4541-9

    Examples
    --------
    >>> found = learning_curve([1, 1, 2, 2, 4, 4], [0.49, 0.51, 0.71, 0.69, 0.79, 0.81])
    >>> gain = found.gain(4, 4)
    >>> round(gain.value, 3), 0 < gain.low < gain.value < gain.high
    (0.05, True)
    """
    counts, scores = _points(sections, iou)
    points = len(counts)
    if points < _FEWEST_POINTS:
        raise InputError(
            "too few points for a learning curve",
            expected=f"{_FEWEST_POINTS} or more",
            found=points,
            fix="train with more seeds, or on more numbers of sections",
        )
    curve = fit_curve(sections, iou)
    expected = curve.at(counts)
    freedom = points - PARAMETERS
    tail = (1 + confidence) / 2
    residuals = (scores - expected) * np.sqrt(points / freedom) * stats.t.ppf(tail, freedom) / stats.norm.ppf(tail)
    # Centred, or the draws would shift the curve.
    drawn = np.random.default_rng(seed).choice(residuals - residuals.mean(), (resamples, points))
    return LearningCurve(curve, _fits(counts, expected + drawn), confidence)


def too_few(sections: Sequence[int], more: int) -> str:
    """Return why trainings on these numbers of sections cannot predict the gain of `more`, whatever their scores.

    Examples
    --------
    >>> too_few([1, 1, 2, 2, 3, 3], 5)
    'no more than twice the 3 sections trained on can be predicted (--more 3)'
    """
    levels = sorted(set(sections))
    if len(levels) < PARAMETERS:
        return f"three different numbers of sections are needed, and there are {len(levels)}"
    if len(sections) < _FEWEST_POINTS:
        return f"six trainings or more are needed, and there are {len(sections)}"
    if more > levels[-1]:
        return f"no more than twice the {levels[-1]} sections trained on can be predicted (--more {levels[-1]})"
    return ""


def why_not(sections: Sequence[int], iou: Sequence[float], more: int) -> str:
    """Return why the points cannot predict the gain of `more` sections, or an empty string where they can.

    They cannot when there are too few of them, when more than twice the largest number of sections is asked for, or
    when the mean scores deviate more from the best curve than their spread explains (F test of lack of fit [1]_).

    References
    ----------
    .. [1] Draper and Smith (1998), Applied Regression Analysis, 3rd edition, chapter 2,
       doi:10.1002/9781118625590

    Examples
    --------
    >>> why_not([1, 1, 2, 2], [0.5, 0.5, 0.6, 0.6], 5)
    'three different numbers of sections are needed, and there are 2'
    """
    counts, scores = _points(sections, iou)
    lacking_points = too_few(sections, more)
    if lacking_points:
        return lacking_points
    levels, level = np.unique(counts, return_inverse=True)
    means = np.bincount(level, scores) / np.bincount(level)
    within = float(((scores - means[level]) ** 2).sum())
    # What the curve misses beyond the spread of repeated trainings: the sum of squares of lack of fit.
    misfit = float(((scores - fit_curve(sections, iou).at(counts)) ** 2).sum()) - within
    lacking, pure = max(1, len(levels) - PARAMETERS), len(counts) - len(levels)
    chance = float(stats.f.isf(_MISFIT_LEVEL, lacking, pure)) * lacking * within / pure if pure else 0.0
    if misfit > max(chance, len(counts) * _LEAST_MISFIT**2):
        return "the scores do not rise steadily with the number of sections"
    return ""


def _points(sections: Sequence[int], iou: Sequence[float]) -> tuple[Floats, Floats]:
    counts, scores = np.asarray(sections, float), np.asarray(iou, float)
    if counts.ndim != 1 or counts.shape != scores.shape or not len(counts):
        raise InputError(
            "every training needs its score",
            expected=counts.shape,
            found=scores.shape,
            fix="give one score for each training",
        )
    return counts, scores


def _fits(sections: Floats, scores: Floats) -> Floats:
    """Return asymptote, height and exponent of the best fit to each row of scores."""
    scores = np.atleast_2d(scores)
    # Every exponent for every row of scores at once: height and asymptote by the closed form of a straight line in x.
    x = sections ** -EXPONENTS[:, None]
    mean_x, mean_y = x.mean(axis=1), scores.mean(axis=1)[:, None]
    # Not 0 where all trainings have the same number of sections.
    xx = np.maximum(((x - mean_x[:, None]) ** 2).sum(axis=1), 1e-12)
    xy = scores @ (x - mean_x[:, None]).T
    # The squared error is convex in height and asymptote, so where the free asymptote is above 1, the best one is 1.
    height = np.clip(-xy / xx, 0, 1)
    asymptote = mean_y + height * mean_x
    capped = np.clip((1 - scores) @ x.T / (x**2).sum(axis=1), 0, 1)
    height, asymptote = np.where(asymptote > 1, capped, height), np.minimum(asymptote, 1)
    off = mean_y - asymptote + height * mean_x
    error = len(sections) * off**2 + 2 * height * xy + height**2 * xx
    rows, best = np.arange(len(scores)), error.argmin(axis=1)
    return np.stack([asymptote[rows, best], height[rows, best], EXPONENTS[best]], axis=1)
