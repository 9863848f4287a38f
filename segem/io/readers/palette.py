"""Palettes: greys are looked up, and the indices of colours are values, which mean the same in every section."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segem.errors import InputError


def grey_levels(palette: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Return the grey of every entry of an (n, 3) palette, or None where an entry is coloured.

    A grey palette is another way to store intensities, so they are looked up. The entries of a coloured palette stand
    for classes, or for intensities in false colour; in both cases the index is the value.

    Examples
    --------
    >>> grey_levels(np.array([[0, 0, 0], [255, 255, 255]], np.uint8))
    array([  0, 255], dtype=uint8)
    >>> grey_levels(np.array([[0, 0, 0], [255, 0, 0]], np.uint8)) is None
    True
    """
    red, green, blue = palette.T
    return red.copy() if bool(np.all((red == green) & (green == blue))) else None


def check_palettes(where: object, palette: bytes, first: object, expected: bytes) -> None:
    """Check that an index stands for the same colour in a section as in another one.

    Parameters
    ----------
    where, first : object
        The section and the other one, for the message.
    palette, expected : bytes
        Red, green and blue of each entry of both, of which the second may go on; empty where values are no indices.

    Raises
    ------
    InputError
        When an index stands for two colours, or only one of the two sections holds indices.

    Examples
    --------
    >>> check_palettes("b.png", bytes([0, 0, 0]), "a.png", bytes([0, 0, 0, 255, 0, 0]))
    """
    if palette == expected or (palette and expected.startswith(palette)):
        return
    entries = range(max(len(palette), len(expected)) // 3)
    at = next(at for at in entries if _colour(palette, at) != _colour(expected, at))
    raise InputError(
        "a value stands for different colours, since sections have palettes of their own",
        where=where,
        expected=f"{_colour(expected, at)} for {at} as in {first}",
        found=_colour(palette, at),
        fix="save all sections with one palette, or as 8 bit grey",
    )


def _colour(palette: bytes, at: int) -> str:
    colour = tuple(palette[3 * at : 3 * at + 3])
    return f"the colour {colour}" if colour else "no colour"
