"""Voxels as a viewer shows them: white as zero, palettes, and colours that are all grey."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.io.readers.palette import grey_levels
from segem.io.readers.stack import damaged

MINISWHITE, MINISBLACK, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6
_ALPHA = (1, 2)
_COLOURS = 3


def show(stored: NDArray[Any], page: Any, where: str, *, by_tifffile: bool) -> NDArray[Any]:
    """Return the intensities that the voxels of a page stand for.

    Parameters
    ----------
    stored : array
        Voxels as they lie in the file.
    page : tifffile.TiffPage
        Where they come from.
    where : str
        The page, for messages.
    by_tifffile : bool
        Whether tifffile wrote the file.

    Returns
    -------
    array
        Of the same shape: inverted where white is zero, looked up where there is a grey palette. A coloured palette
        stands for classes or false colour, so its indices are returned.
    """
    if is_white_zero(page, by_tifffile=by_tifffile):
        if stored.dtype == bool:
            return ~stored
        if stored.dtype.kind == "u":
            inverted: NDArray[Any] = stored.dtype.type(2**page.bitspersample - 1) - stored
            return inverted
    if page.photometric == PALETTE and (levels := _grey_palette_of(page)) is not None:
        if stored.size and int(stored.max()) >= levels.size:
            raise damaged(where, f"index {stored.max()} in a palette of {levels.size} entries")
        looked_up: NDArray[Any] = levels[stored.astype(np.intp, copy=False)]
        return looked_up
    return stored


def is_white_zero(page: Any, *, by_tifffile: bool) -> bool:
    """Return whether small values of a page mean white.

    tifffile marks every array of booleans as WhiteIsZero, but stores True as 1 and reads it back as 1: the mark says
    nothing of what the writer meant. Scanners and paint programs use the same mark on 1-bit images and mean it. So for
    1-bit images the mark counts unless tifffile wrote the file, which its Software tag or the JSON of its shape says.
    On images of more bits tifffile sets it only where it is asked to, so there it always counts.
    """
    return bool(page.photometric == MINISWHITE and not (by_tifffile and page.bitspersample == 1))


def dtype_shown(page: Any) -> np.dtype[Any]:
    """Return the type of the voxels of a page as they are shown."""
    greyed = page.photometric == PALETTE and _grey_palette_of(page) is not None
    return np.dtype(np.uint8 if greyed else page.dtype)


def palette_of_indices(page: Any) -> bytes:
    """Return red, green and blue of each entry, where the voxels of a page are shown as indices."""
    if page.photometric != PALETTE or page.colormap is None or _grey_palette_of(page) is not None:
        return b""
    return _colours_of(page).tobytes()


def grey_of(colours: NDArray[Any], page: Any) -> NDArray[Any] | None:
    """Return the grey of an image whose colours are all alike and opaque, or None where they are not.

    Parameters
    ----------
    colours : array, axes (..., channel)
    page : tifffile.TiffPage
        Says which channels are opacity.
    """
    samples = colours.shape[-1]
    extra = tuple(page.extrasamples)
    count = _COLOURS if page.photometric in (RGB, YCBCR) else samples - len(extra)
    if samples - count != len(extra) or any(kind not in _ALPHA for kind in extra) or count < 1:
        return None
    grey = colours[..., 0]
    opaque = np.iinfo(colours.dtype).max if colours.dtype.kind in "iu" else 1
    alike = all(np.array_equal(colours[..., k], grey) for k in range(1, count))
    return grey if alike and bool(np.all(colours[..., count:] == opaque)) else None


def _grey_palette_of(page: Any) -> NDArray[np.uint8] | None:
    if page.colormap is None or page.dtype.kind not in "bu":
        return None
    return grey_levels(_colours_of(page))


def _colours_of(page: Any) -> NDArray[np.uint8]:
    # TIFF palettes have 16 bits, of which the upper 8 are what is shown.
    return (np.asarray(page.colormap) >> 8).astype(np.uint8).T
