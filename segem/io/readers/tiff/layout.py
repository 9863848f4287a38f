"""How the pages of a TIFF file make an array: the axes that its descriptions name, in the order they name."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.errors import InputError
from segem.io.readers.stack import damaged
from segem.io.readers.tiff.pages import TiffPages, Walked

PAGES = "the order of its pages"
_SHAPED = '{"shape":'
_LETTERS = {"X": "x", "Y": "y", "Z": "z", "C": "c", "S": "c", "T": "t"}
IMAGEJ = ("ImageJ=", "SCIFIO=")
"""How the descriptions of ImageJ and of its successor begin."""
_IMAGEJ_AXES = {"c": "channels", "z": "slices", "t": "frames"}


@dataclass(frozen=True)
class Layout:
    """Axes outside of the pages, and the page that lies at each index along them.

    Parameters
    ----------
    axes : str
        A letter of ``tczyx?`` for each axis.
    planes : int array, axes (*axes, 3)
        File, page, and how many sections behind that page.
    axes_from : str
        Who says so, in words.
    inner : str, optional
        Axes of the pages, where the source names them too.
    warnings : tuple of str
        What the user should know.
    """

    axes: str
    planes: NDArray[np.int64]
    axes_from: str
    inner: str | None = None
    warnings: tuple[str, ...] = ()

    def squeezed(self) -> Layout:
        """Return the layout without axes of length 1, but with one axis at least."""
        kept = [axis for axis, n in enumerate(self.planes.shape[:-1]) if n > 1]
        shape = [self.planes.shape[axis] for axis in kept] or [1]
        axes = "".join(self.axes[axis] for axis in kept) or "z"
        return Layout(axes, self.planes.reshape(*shape, 3), self.axes_from, self.inner, self.warnings)


def lay_out(file: TiffPages) -> Layout:
    """Find the axes of one file by its descriptions, other than OME metadata.

    Raises
    ------
    InputError
        When the file has other pages than its metadata promise, or several images.
    """
    walked, where = file.walked, file.label_of(0)
    text = walked.descriptions[0][1] if walked.descriptions and walked.descriptions[0][0] == 0 else ""
    if text.startswith(IMAGEJ):
        return _of_imagej(text, walked, file)
    if text.startswith(_SHAPED):
        return _of_shapes(walked, file)
    left_out = len(walked.kinds) - len(walked.sections)
    warnings = (f"{where}: {left_out} smaller copies or masks among its pages are left out",) if left_out else ()
    return Layout("z", _pages(walked.sections), PAGES, warnings=warnings)


def promise_broken(file: TiffPages, promised: int) -> InputError:
    """Return the error for a file with another number of pages than it says."""
    return damaged(file.path, f"{len(file.walked.sections)} pages, while its metadata promise {promised}")


def _pages(numbers: list[int]) -> NDArray[np.int64]:
    planes = np.zeros((len(numbers), 3), np.int64)
    planes[:, 1] = numbers
    return planes


def _behind(count: int) -> NDArray[np.int64]:
    """Return the planes of a file that has one page, with all further sections behind it."""
    planes = np.zeros((count, 3), np.int64)
    planes[:, 2] = np.arange(count)
    return planes


def _of_imagej(text: str, walked: Walked, file: TiffPages) -> Layout:
    fields: dict[str, str] = dict(re.findall(r"^(\w+)=(.*?)\s*$", text, re.M))
    count = len(walked.sections)
    sizes = {axis: _number_in(fields, name) for axis, name in _IMAGEJ_AXES.items()}
    channels = walked.kinds[walked.sections[0]].channels
    if channels > 1 and sizes["c"] == channels:
        sizes["c"] = 1  # they are interleaved in the pages
    order = fields.get("order", "czt").lower()
    if sorted(order) != sorted("czt"):
        order = "czt"
    axes = order[::-1]
    shape = [sizes[axis] for axis in axes]
    named = int(np.prod(shape, dtype=object))
    promised = named if named > 1 else max(_number_in(fields, "images"), 1)
    if named == 1 and promised > 1:
        axes, shape = "z", [promised]
    told = "ImageJ's description"
    if promised == count:
        return Layout(axes, _pages(walked.sections).reshape(*shape, 3), told)
    if count == 1 and walked.room >= promised:
        # ImageJ writes stacks of more than 4 GiB as one page with all further sections behind it.
        return Layout(axes, _behind(promised).reshape(*shape, 3), told)
    if promised == 1 or _is_stale(walked):
        planes = _pages(walked.sections)
        warning = (
            f"{file.path}: its description tells of {promised} sections, and it has {count}; so it is of another stack"
        )
        return Layout("z", planes, PAGES, warnings=(warning,))
    raise promise_broken(file, promised)


def _number_in(fields: Mapping[str, str], name: str) -> int:
    value = fields.get(name, "1")
    return int(value) if re.fullmatch(r"\d{1,9}", value) and int(value) > 0 else 1


def _is_stale(walked: Walked) -> bool:
    """Return whether the pages came out of another file, each with a copy of its description.

    A stack that was cut short cannot pass for this: its last page names a next one, or its only one is followed by a
    piece of the next section.
    """
    if len(walked.kinds) == 1:
        return walked.is_closed
    texts = {text for _, text in walked.descriptions}
    return len(walked.descriptions) == len(walked.kinds) and len(texts) == 1


def _of_shapes(walked: Walked, file: TiffPages) -> Layout:
    """Read the shapes that tifffile notes at the beginning of each array that it writes."""
    kept, count = set(walked.sections), len(walked.sections)
    arrays = [
        (number, _parse_shape(text, file.label_of(number)))
        for number, text in walked.descriptions
        if number in kept and text.startswith(_SHAPED)
    ]
    if len(arrays) == 1:
        number, (shape, axes) = arrays[0]
        outer, letters, inner = _split(shape, axes, walked.kinds[number].shape)
        promised = int(np.prod(outer, dtype=object))
        if promised == count:
            planes = _pages(walked.sections)
        elif count == 1 and walked.room >= promised:
            planes = _behind(promised)
        else:
            raise promise_broken(file, promised)
        told = "the axes in its description" if axes else PAGES
        return Layout(letters, planes.reshape(*outer, 3), told, inner)
    promised = 0
    for number, (shape, axes) in arrays:
        outer, letters, _ = _split(shape, axes, walked.kinds[number].shape)
        if any(n > 1 and letter not in "z?" for n, letter in zip(outer, letters, strict=True)):
            raise InputError(
                f"{len(arrays)} images in one file",
                where=file.path,
                expected="one stack",
                found=f"axes {axes} of shape {tuple(shape)}",
                fix="write each to a file of its own",
            )
        promised += int(np.prod(outer, dtype=object))
    if promised != count:
        raise promise_broken(file, promised)
    return Layout("z", _pages(walked.sections), PAGES)


def _parse_shape(text: str, where: str) -> tuple[list[int], str]:
    try:
        found: dict[str, Any] = json.loads(text)
        shape, axes = [int(n) for n in found["shape"]], str(found.get("axes") or "")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise damaged(where, None, cause=error) from error
    if min(shape, default=0) < 1:
        raise damaged(where, f"shape {tuple(shape)} in its description")
    return shape, axes if len(axes) == len(shape) else ""


def _split(shape: list[int], axes: str, page: tuple[int, ...]) -> tuple[list[int], str, str | None]:
    """Return the extents and letters of the axes outside of the pages, and the letters inside."""
    # A page has lost the axes of length 1, so the split is the last place where the rest still fits.
    for at in range(len(shape), -1, -1):
        if [n for n in shape[at:] if n > 1] == [n for n in page if n > 1]:
            break
    else:
        return [int(np.prod(shape, dtype=object) // max(int(np.prod(page, dtype=object)), 1))], "z", None
    outer, letters = shape[:at], "".join(_LETTERS.get(letter, "?") for letter in axes)
    if not axes:
        # One axis of pages is z by the order of pages; of several, nobody knows which is which.
        long = sum(n > 1 for n in outer)
        return outer or [1], ("z" if long < 2 else "?") * max(len(outer), 1), None
    inside = letters[at:] if len(shape) - at == len(page) and "?" not in letters[at:] else None
    return outer or [1], letters[:at] or "z", inside
