"""IoU of membrane outside a band along its true borders, where people who label differ."""

from __future__ import annotations

from segem.kernels.metrics.iou import Confusion
from segem.kernels.metrics.not_defined import NotDefined
from segem.kernels.metrics.section import SectionMask


def count_outside_band(truth: SectionMask, found: SectionMask) -> Confusion:
    """Count the voxels of one section that are further than the tolerance from the other class of the truth.

    Parameters
    ----------
    truth, found : SectionMask
        Truth and mask of one section.

    Returns
    -------
    Confusion
        Of what is left; the band left out is twice the tolerance wide, centred on the borders of the true membrane.

    Examples
    --------
    With pixels of 4 nm and a tolerance of 4 nm, a pixel on each side of a border is left out:

    >>> import numpy as np
    >>> from segem.kernels.metrics.section import compare_section
    >>> truth, mask = np.array([[0, 0, 1, 1, 1, 0, 0]], np.uint8), np.array([[1, 1, 1, 1, 0, 0, 0]], np.uint8)
    >>> count_outside_band(*compare_section(truth, mask, (4, 4), 4))
    Confusion(tp=1, fp=1, fn=0, tn=1)
    """
    kept = truth.known & ~truth.band
    return Confusion.of_masks(truth.membrane & kept, found.membrane & kept, kept)


def iou_outside_band(counts: Confusion) -> float | NotDefined:
    """Return the IoU of membrane of what lies outside the band.

    Parameters
    ----------
    counts : Confusion
        From `count_outside_band`, summed over all sections.

    Returns
    -------
    float
        0 to 1. Not defined where all true membrane lies within the band, or there is none.

    Notes
    -----
    Leaving out a band along the borders ("trimap", "void") is usual where borders are drawn by hand, for example
    P. Kohli, L. Ladický and P. H. S. Torr (2009), doi:10.1007/s11263-008-0202-0, who look within the band.

    Examples
    --------
    >>> iou_outside_band(Confusion(tp=1, fp=1, fn=0, tn=1))
    0.5
    """
    if counts.tp + counts.fn == 0:
        return NotDefined("no true membrane lies outside the band along its borders")
    return counts.iou
