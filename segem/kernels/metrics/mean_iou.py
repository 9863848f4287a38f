"""Mean IoU of membrane and background, from one pooled confusion matrix."""

from __future__ import annotations

from segem.kernels.metrics.iou import Confusion
from segem.kernels.metrics.not_defined import NOTHING_KNOWN, ONE_CLASS, NotDefined


def mean_iou(counts: Confusion) -> float | NotDefined:
    """Return the mean over the two classes, membrane and background, of the IoU.

    Parameters
    ----------
    counts : Confusion
        Of a section, or summed over all voxels of a volume.

    Returns
    -------
    float
        0 to 1. Not defined where the truth holds one class only; a mean over the classes that are there would be the
        IoU of one class by the name of a mean.

    Notes
    -----
    The mean of ``tp / (tp + fp + fn)`` and ``tn / (tn + fp + fn)`` of one confusion matrix over the whole data set, as
    J. Long, E. Shelhamer and T. Darrell (2015), doi:10.1109/CVPR.2015.7298965, have it; never a mean over sections.

    Examples
    --------
    >>> mean_iou(Confusion(tp=1, fp=1, fn=0, tn=2))
    0.5833333333333333
    """
    if counts.voxels == 0:
        return NOTHING_KNOWN
    if counts.tp + counts.fn == 0 or counts.tn + counts.fp == 0:
        return ONE_CLASS
    wrong = counts.fp + counts.fn
    return (counts.tp / (counts.tp + wrong) + counts.tn / (counts.tn + wrong)) / 2
