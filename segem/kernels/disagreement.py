"""Disagreement of an ensemble of models, which shows where labels would help most."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

from segem.errors import InputError

Span = tuple[int, int]


def disagreement(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the disagreement of the members of an ensemble about each pixel, in bits.

    It is the entropy of their mean minus the mean of their entropies: the Jensen-Shannon divergence of their
    distributions, and the mutual information between label and member that BALD [1]_ maximises, with an ensemble in
    place of a posterior [2]_. Unlike the entropy of the mean it is 0 where all members are equally unsure, as on a
    membrane that is blurred: a label there would not help.

    Parameters
    ----------
    probabilities : array (members, ...) of float
        Probability of membrane by each member, two or more.

    Returns
    -------
    array (...) of float64
        0 where all agree, 1 where half of them are certain of membrane and half of background.

    Raises
    ------
    InputError
        When there are fewer than two members.

    References
    ----------
    .. [1] Houlsby et al. (2011), Bayesian Active Learning for Classification and Preference Learning,
       arXiv:1112.5745
    .. [2] Beluch et al. (2018), The power of ensembles for active learning in image classification, CVPR,
       doi:10.1109/CVPR.2018.00976

    Examples
    --------
    >>> disagreement(np.array([[0.0, 0.5, 1.0], [1.0, 0.5, 1.0]])).tolist()
    [1.0, 0.0, 0.0]
    """
    if len(probabilities) < 2:
        raise InputError(
            "disagreement needs several models",
            expected="2 or more",
            found=len(probabilities),
            fix="train with two seeds or more (--seeds 3)",
        )
    members = probabilities.astype(np.float64)
    bits = _entropy(members.mean(axis=0)) - _entropy(members).mean(axis=0)
    # By rounding, equal members may come out just below 0.
    return np.asarray(np.maximum(bits, 0))


def find_hottest_tile(values: NDArray[np.float64], edge_px: int) -> tuple[Span, Span, float]:
    """Return the rows, the columns and the mean of the square tile with the highest mean.

    Parameters
    ----------
    values : array (y, x)
        Values to average.
    edge_px : int
        Edge of the tile; a smaller section is taken as a whole.

    Returns
    -------
    rows, columns : (int, int)
        First, and one past the last.
    mean : float

    Examples
    --------
    >>> values = np.zeros((4, 6))
    >>> values[1, 3:5] = 1
    >>> find_hottest_tile(values, 2)
    ((0, 2), (3, 5), 0.5)
    """
    height, width = (min(edge_px, n) for n in values.shape)
    # Summed-area table: the sum of any tile is four look-ups.
    sums = np.pad(values.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    tiles = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    y, x = (int(i) for i in np.unravel_index(tiles.argmax(), tiles.shape))
    return (y, y + height), (x, x + width), float(tiles[y, x] / (height * width))


def _entropy(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((entr(probability) + entr(1 - probability)) / np.log(2))
