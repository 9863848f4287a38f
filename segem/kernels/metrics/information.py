"""Information F-score of a segmentation, restricted to the pixels of true cells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segem.kernels.metrics.contingency import Contingency, FScore


def information_score(table: Contingency) -> FScore:
    """Return V_info, the share of information that truth and proposal have in common.

    Parameters
    ----------
    table : Contingency
        Counts of one section.

    Returns
    -------
    FScore
        `precision` falls with mergers, `recall` with splits. Where truth or proposal is one single segment, that half
        is by convention 0 for a side without information and 1 for the other; 1 throughout where both are one segment
        or there is no true cell.

    Notes
    -----
    V_info = 2 I(T; S) / (H(T) + H(S)), with the mutual information I and the entropies H of cell and segment of a
    random pixel; each pixel on a line is a segment of its own. Arganda-Carreras et al., Front. Neuroanat. 9:142 (2015),
    doi:10.3389/fnana.2015.00142.

    Examples
    --------
    Four cells of one pixel each, merged in pairs:

    >>> score = information_score(Contingency.count(np.array([[1, 2, 3, 4]]), np.array([[1, 1, 2, 2]])))
    >>> round(score.precision, 6), round(score.recall, 6), round(score.value, 6)
    (0.5, 1.0, 0.666667)
    """
    n = table.pixels
    if n == 0:
        return FScore(1.0, 1.0, 1.0)
    lines = table.on_lines / n * float(np.log(n))
    truth = _entropy(table.truth, n)
    proposal = _entropy(table.proposal, n) + lines
    if truth == 0 and proposal == 0:
        return FScore(1.0, 1.0, 1.0)
    if truth == 0:
        return FScore(0.0, 0.0, 1.0)
    if proposal == 0:
        return FScore(0.0, 1.0, 0.0)
    # Rounding may give a value just below 0 or above the smaller entropy.
    mutual = min(max(truth + proposal - (_entropy(table.joint, n) + lines), 0.0), truth, proposal)
    return FScore(2 * mutual / (truth + proposal), mutual / truth, mutual / proposal)


def _entropy(counts: NDArray[np.int64], total: int) -> float:
    shares = counts / total
    # The sum of a single share of 1 is -0.0.
    return max(0.0, -float((shares * np.log(shares)).sum()))
