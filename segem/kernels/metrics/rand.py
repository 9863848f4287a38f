"""Rand F-score of a segmentation, restricted to the pixels of true cells."""

from __future__ import annotations

import numpy as np

from segem.kernels.metrics.contingency import Contingency, FScore


def rand_score(table: Contingency) -> FScore:
    """Return V_rand, the F-score of "these two pixels belong to the same cell".

    Parameters
    ----------
    table : Contingency
        Counts of one section.

    Returns
    -------
    FScore
        `precision` falls with mergers, `recall` with splits; all 1 where there is no true cell.

    Notes
    -----
    With the share p_ij of pixels in true cell i and segment j, V_rand = 2 sum p_ij² / (sum a_i² + sum b_j²), where
    a_i and b_j are the sums over j and over i, and each pixel on a line is a segment of its own. Arganda-Carreras
    et al., Front. Neuroanat. 9:142 (2015), doi:10.3389/fnana.2015.00142.

    Examples
    --------
    Two cells of two pixels each, merged into one segment:

    >>> score = rand_score(Contingency.count(np.array([[1, 1, 2, 2]]), np.array([[1, 1, 1, 1]])))
    >>> score.precision, score.recall, round(score.value, 4)
    (0.5, 1.0, 0.6667)
    """
    if table.pixels == 0:
        return FScore(1.0, 1.0, 1.0)
    singles = table.on_lines
    joint = _squares(table.joint) + singles
    truth = _squares(table.truth)
    proposal = _squares(table.proposal) + singles
    return FScore(2 * joint / (truth + proposal), joint / proposal, joint / truth)


def _squares(counts: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> float:
    return float((counts.astype(np.float64) ** 2).sum())
