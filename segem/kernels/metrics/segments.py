"""From membrane maps to segments: connected cells, and cells grown until one-pixel lines separate them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label
from skimage.segmentation import watershed


def label_cells(cell: NDArray[Any]) -> NDArray[np.int32]:
    """Give each cell of one section a number; pixels that touch only at a corner belong to different cells.

    Parameters
    ----------
    cell : ndarray, shape (y, x)
        Nonzero inside cells, 0 on membrane.

    Returns
    -------
    ndarray of int32, shape (y, x)
        Numbers from 1; 0 on membrane.

    Examples
    --------
    >>> label_cells(np.array([[1, 0], [0, 1]])).tolist()
    [[1, 0], [0, 2]]
    """
    numbered: NDArray[np.int32] = label(np.asarray(cell) != 0, connectivity=1).astype(np.int32, copy=False)
    return numbered


def split_segments(segments: NDArray[np.int32], inside: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Give each connected part of a segment a number of its own, where only some pixels count.

    Parameters
    ----------
    segments : ndarray of int32, shape (y, x)
        Numbers from 1; 0 on lines.
    inside : ndarray of bool, shape (y, x)
        The pixels that count.

    Returns
    -------
    ndarray of int32, shape (y, x)
        Numbers from 1; 0 on lines and outside.

    Examples
    --------
    >>> split_segments(np.array([[1, 1, 1, 0, 2]], np.int32), np.array([[True, False, True, True, True]])).tolist()
    [[1, 0, 2, 0, 3]]
    """
    numbered: NDArray[np.int32] = label(np.where(inside, segments, 0), connectivity=1).astype(np.int32, copy=False)
    return numbered


def thin_segments(cell: NDArray[Any]) -> NDArray[np.int32]:
    """Give each cell of a proposal a number, after thinning the membrane between them to lines of one pixel.

    Cells are flooded into the membrane at equal pace, 4-connected, until only the pixels where two of them meet
    are left. So a proposal is not penalised for membranes that are thicker or thinner than the annotator's.

    Parameters
    ----------
    cell : ndarray, shape (y, x)
        Nonzero inside cells, 0 on membrane.

    Returns
    -------
    ndarray of int32, shape (y, x)
        Numbers from 1; 0 on the lines. A section that is all membrane is one segment.

    Notes
    -----
    The thinning follows the scoring of the ISBI 2012 challenge: Arganda-Carreras et al., Front. Neuroanat. 9:142
    (2015), doi:10.3389/fnana.2015.00142. The flood is that of L. Vincent and P. Soille, IEEE PAMI 13(6) (1991),
    doi:10.1109/34.87344.

    Examples
    --------
    >>> thin_segments(np.array([[1, 0, 0, 0, 1]])).tolist()
    [[1, 1, 0, 2, 2]]
    """
    inside = np.asarray(cell) != 0
    if not inside.any():
        return np.ones(inside.shape, np.int32)
    markers = label_cells(inside)
    segments: NDArray[np.int32] = watershed(
        (~inside).astype(np.uint8), markers=markers, connectivity=1, watershed_line=True
    )
    return segments
