"""The eight orientations of a section: flips along y and x, and the transpose."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]


def turn(image: Image, view: int) -> Image:
    """Return one of the eight views of an image; the first is the image itself.

    Parameters
    ----------
    image : (..., H, W) float32
        Turned along its last two axes.
    view : int
        0 to 7; the first two bits flip along y and x, the third one swaps these axes.

    Returns
    -------
    (..., H, W) or (..., W, H) float32
        A view of the same memory.

    Examples
    --------
    >>> turn(np.array([[1, 2], [3, 4]], np.float32), 1)
    array([[3., 4.],
           [1., 2.]], dtype=float32)
    """
    if view & 1:
        image = image[..., ::-1, :]
    if view & 2:
        image = image[..., ::-1]
    return np.swapaxes(image, -1, -2) if view & 4 else image


def turn_back(image: Image, view: int) -> Image:
    """Undo `turn`.

    Examples
    --------
    >>> image = np.arange(6, dtype=np.float32).reshape(2, 3)
    >>> all(np.array_equal(turn_back(turn(image, view), view), image) for view in range(8))
    True
    """
    if view & 4:
        image = np.swapaxes(image, -1, -2)
    if view & 2:
        image = image[..., ::-1]
    return image[..., ::-1, :] if view & 1 else image
