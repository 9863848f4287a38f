"""Dice coefficient of membrane, from one pooled confusion matrix."""

from __future__ import annotations

from segem.kernels.metrics.iou import Confusion
from segem.kernels.metrics.not_defined import NO_TRUE_MEMBRANE, NotDefined


def dice(counts: Confusion) -> float | NotDefined:
    """Return the Dice coefficient of membrane, which is the F1 score of its pixels.

    Parameters
    ----------
    counts : Confusion
        Of a section, or summed over all voxels of a volume.

    Returns
    -------
    float
        0 to 1. Not defined where the truth holds no membrane.

    Notes
    -----
    Dice = 2 tp / (2 tp + fp + fn) = 2 IoU / (1 + IoU), so both order masks alike. L. R. Dice, Ecology 26(3) (1945),
    doi:10.2307/1932409. Pooled over voxels, never a mean over sections.

    Examples
    --------
    >>> dice(Confusion(tp=2, fp=1, fn=1, tn=0))
    0.6666666666666666
    """
    if counts.tp + counts.fn == 0:
        return NO_TRUE_MEMBRANE
    return 2 * counts.tp / (2 * counts.tp + counts.fp + counts.fn)
