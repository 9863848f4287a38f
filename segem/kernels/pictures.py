"""Sections as pictures: contrast, masks, and the errors of a mask in colour."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.geometry import ceil_div
from segem.kernels.pyramid import shrink
from segem.kernels.truth import is_known, is_membrane

Colour = tuple[int, int, int]

# Colour-blind readers can tell vermilion from blue; found membrane is nearly as dark as in the raw picture.
FOUND: Colour = (52, 58, 70)
INVENTED: Colour = (230, 92, 0)
MISSED: Colour = (0, 110, 230)
OVERLAID: Colour = (0, 120, 140)
UNLABELLED: Colour = (150, 150, 150)


def find_shrink_factor(shape: tuple[int, ...], longest_px: int) -> int:
    """Return the whole factor by which a section is shrunk so that no side is longer than `longest_px`.

    Examples
    --------
    >>> find_shrink_factor((1024, 700), 512), find_shrink_factor((300, 300), 512)
    (2, 1)
    """
    return max(1, ceil_div(max(shape), longest_px))


def stretch_contrast(section: NDArray[Any], low: float, high: float, factor: int = 1) -> NDArray[np.uint8]:
    """Return a section as 8-bit grey levels, its contrast stretched.

    Parameters
    ----------
    section : ndarray of uint8 or uint16, shape (y, x)
        Raw intensities.
    low, high : float
        Intensities that become black and white.
    factor : int
        Shrink by this whole number, taking means.

    Returns
    -------
    ndarray of uint8, shape (ceil(y / factor), ceil(x / factor))

    Examples
    --------
    >>> stretch_contrast(np.array([[10, 20, 30]], np.uint8), 10, 30).tolist()
    [[0, 128, 255]]
    """
    small = shrink(section[None], (1, factor, factor), "mean")[0].astype(np.float32)
    stretched = (small - low) / max(high - low, 1.0) * 255
    return np.asarray(np.rint(np.clip(stretched, 0, 255)), np.uint8)


def draw_membrane(mask: NDArray[Any], factor: int = 1) -> NDArray[np.uint8]:
    """Return a mask as a picture with dark membrane on white, as in the microscope.

    Parameters
    ----------
    mask : ndarray, shape (y, x)
        Nonzero on membrane; unknown voxels of a truth become middle grey.
    factor : int
        Shrink by this whole number; partly covered pixels come out grey.

    Returns
    -------
    ndarray of uint8, shape (ceil(y / factor), ceil(x / factor))

    Examples
    --------
    >>> draw_membrane(np.array([[1, 0, 2]])).tolist()
    [[0, 255, 128]]
    """
    levels = np.where(is_known(mask), np.where(mask != 0, 0, 255), 128).astype(np.uint8)
    return np.asarray(shrink(levels[None], (1, factor, factor), "mean")[0])


def draw_probability(probability: NDArray[np.uint8], factor: int = 1) -> NDArray[np.uint8]:
    """Return a probability of membrane as a picture, dark where membrane is certain.

    Parameters
    ----------
    probability : ndarray of uint8, shape (y, x)
        255 is certain membrane.
    factor : int
        Shrink by this whole number, taking means.

    Returns
    -------
    ndarray of uint8, shape (ceil(y / factor), ceil(x / factor))

    Examples
    --------
    >>> draw_probability(np.array([[255, 0]], np.uint8)).tolist()
    [[0, 255]]
    """
    return np.asarray(255 - shrink(probability[None], (1, factor, factor), "mean")[0], np.uint8)


def draw_errors(
    raw: NDArray[np.uint8], truth: NDArray[Any], predicted: NDArray[Any], factor: int = 1
) -> NDArray[np.uint8]:
    """Colour a prediction by where it is right and wrong, over the raw picture.

    Parameters
    ----------
    raw : ndarray of uint8, shape (y, x)
        Raw picture, as `stretch_contrast` returns it, shrunk already.
    truth, predicted : ndarray
        Full-size masks, nonzero on membrane; the truth may be unknown in places.
    factor : int
        Factor by which the masks are shrunk.

    Returns
    -------
    ndarray of uint8, shape (y, x, 3)
        Red, green and blue: `FOUND` where both say membrane, `INVENTED` and `MISSED` where only one does, `UNLABELLED`
        where the truth is unknown.

    Examples
    --------
    >>> picture = draw_errors(np.zeros((1, 2), np.uint8), np.array([[1, 0]]), np.array([[1, 0]]))
    >>> picture[0, 0].tolist(), picture[0, 1].tolist()
    ([62, 67, 78], [120, 120, 120])
    """
    known = is_known(truth)
    a, b = is_membrane(truth), (predicted != 0) & known
    layers = ((a & b, FOUND), (b & ~a, INVENTED), (a & ~b, MISSED), (~known, UNLABELLED))
    return _tinted(raw, [(_cover(mask, factor), colour) for mask, colour in layers], opacity=0.85)


def draw_overlay(raw: NDArray[np.uint8], predicted: NDArray[Any], factor: int = 1) -> NDArray[np.uint8]:
    """Lay a prediction in colour over the raw picture, where there is no truth to compare it with.

    Parameters
    ----------
    raw : ndarray of uint8, shape (y, x)
        Raw picture, as `stretch_contrast` returns it, shrunk already.
    predicted : ndarray
        Full-size mask, nonzero on membrane.
    factor : int
        Factor by which the mask is shrunk.

    Returns
    -------
    ndarray of uint8, shape (y, x, 3)

    Examples
    --------
    >>> draw_overlay(np.full((1, 1), 255, np.uint8), np.zeros((1, 1)))[0, 0].tolist()
    [255, 255, 255]
    """
    return _tinted(raw, [(_cover(predicted, factor), OVERLAID)], opacity=0.6)


def draw_outlines(raw: NDArray[np.uint8], labels: NDArray[Any], factor: int = 1) -> NDArray[np.uint8]:
    """Draw the borders between labels of different values over the raw picture.

    Parameters
    ----------
    raw : ndarray of uint8, shape (y, x)
        Raw picture, as `stretch_contrast` returns it, shrunk already.
    labels : ndarray
        Full-size labels of any values.
    factor : int
        Factor by which they are shrunk, taking every n-th pixel.

    Returns
    -------
    ndarray of uint8, shape (y, x, 3)

    Examples
    --------
    >>> draw_outlines(np.zeros((1, 3), np.uint8), np.array([[4, 4, 7]]))[0, :, 0].tolist()
    [0, 230, 0]
    """
    small = labels[::factor, ::factor]
    border = np.zeros(raw.shape, bool)
    border[:, :-1] |= small[:, 1:] != small[:, :-1]
    border[:-1] |= small[1:] != small[:-1]
    picture = np.repeat(raw[..., None], 3, axis=-1)
    picture[border] = INVENTED
    return picture


def _cover(mask: NDArray[Any], factor: int) -> NDArray[np.uint8]:
    full: NDArray[np.uint8] = np.where(mask != 0, np.uint8(255), np.uint8(0))
    cover: NDArray[np.uint8] = shrink(full[None], (1, factor, factor), "mean")[0]
    return cover


def _tinted(
    raw: NDArray[np.uint8], layers: list[tuple[NDArray[np.uint8], Colour]], opacity: float
) -> NDArray[np.uint8]:
    # On a pale background the colours stand out, and the tissue still shows.
    picture: NDArray[np.floating] = np.repeat((120 + raw * (135 / 255))[..., None], 3, axis=-1)
    for cover, colour in layers:
        weight = cover[..., None] * (opacity / 255)
        picture = picture * (1 - weight) + np.asarray(colour) * weight
    rounded: NDArray[np.uint8] = np.rint(picture).astype(np.uint8)
    return rounded
