"""What HDF5, Zarr, N5 and the like have in common: chunks that may be absent, and names and units of axes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segem.config import Selection
from segem.config.source import AXES
from segem.errors import InputError
from segem.geometry import ceil_div
from segem.io.readers.axes import UNKNOWN_AXIS
from segem.io.readers.reader import StatedVoxelSize
from segem.io.readers.stack import MAX_SECTION_BYTES, NAME_IT

_PREFIXES_NM = {
    "": 1e9,
    "kilo": 1e12,
    "centi": 1e7,
    "milli": 1e6,
    "micro": 1e3,
    "nano": 1.0,
    "pico": 1e-3,
    "femto": 1e-6,
    "atto": 1e-9,
}
UNITS_NM = {
    **{f"{prefix}{metre}": nm for prefix, nm in _PREFIXES_NM.items() for metre in ("meter", "metre", "meters")},
    "m": 1e9,
    "cm": 1e7,
    "mm": 1e6,
    "um": 1e3,
    "µm": 1e3,
    "μm": 1e3,
    "micron": 1e3,
    "nm": 1.0,
    "pm": 1e-3,
    "angstrom": 0.1,
    "å": 0.1,
}
"""Nanometres in a unit of length, by its name in lower case."""
_LETTERS = {letter: letter for letter in AXES} | {"channel": "c", "time": "t"}
_MEANS_NOTHING = re.compile(r"(?:(?:phony_)?dim(?:ension)?|axis)?[_ ]?[0-9]*")
"""Names that programs give to axes that nobody has named."""


def name_axes(names: Sequence[object]) -> str:
    """Return a letter for each named axis; unknown ones where no name is that of an axis of an image.

    Parameters
    ----------
    names : sequence
        As the source has them; None, or any text.

    Examples
    --------
    >>> name_axes(["Z", "channel", "Y", "X"]), name_axes(["dim_0", None]), name_axes(["angle", "y", "x"])
    ('zcyx', '??', 'ayx')
    """
    letters = [_LETTERS.get(str(name).lower()) for name in names]
    if not any(letters):
        return UNKNOWN_AXIS * len(letters)
    # The first letter of a foreign name is no axis that is looked for, so that it is asked what it means.
    others = [str(name or "_").lower()[:1] for name in names]
    return "".join(
        letter or (other if other not in AXES else "_") for letter, other in zip(letters, others, strict=True)
    )


def find_foreign_names(names: Sequence[object]) -> tuple[str, ...]:
    """Return the names of axes as a source has them, where one of them says something that is not understood.

    Parameters
    ----------
    names : sequence
        As the source has them; None, or any text.

    Examples
    --------
    >>> find_foreign_names(["plane", "y", "x"]), find_foreign_names(["z", "y", "dim_0", None])
    (('plane', 'y', 'x'), ())
    """
    texts = [str(name or "") for name in names]
    foreign = any(text.lower() not in _LETTERS and not _MEANS_NOTHING.fullmatch(text.lower()) for text in texts)
    return tuple(text or UNKNOWN_AXIS for text in texts) if foreign else ()


def read_unit(unit: object) -> float | None:
    """Return how many nanometres a unit of length has; None where it is not known.

    Examples
    --------
    >>> read_unit("micrometer"), read_unit("nm"), read_unit("pixel")
    (1000.0, 1.0, None)
    """
    return UNITS_NM.get(unit.strip().lower()) if isinstance(unit, str) else None


def state_voxel_size(axes: str, sizes_nm: Sequence[float | None], origin: str) -> StatedVoxelSize | None:
    """Return the sizes along the axes of an array as a voxel size; None where none is stated.

    Parameters
    ----------
    axes : str
        A letter for each axis.
    sizes_nm : sequence of float
        Size along each in nanometres; None, or no positive number, where it is not known.
    origin : str
        Where the source says so.

    Examples
    --------
    >>> state_voxel_size("xyz", (4, 4, 50), "attribute resolution").z_nm
    50.0
    """
    known = {
        letter: float(size)
        for letter, size in zip(axes, sizes_nm, strict=True)
        if size is not None and 0 < size < math.inf
    }
    if not known.keys() & set("zyx"):
        return None
    return StatedVoxelSize(known.get("z"), known.get("y"), known.get("x"), origin)


def state_offset(axes: str, offsets_nm: Sequence[float | None]) -> tuple[float, float, float] | None:
    """Return where the first voxel lies along (z, y, x); None where an axis of these is not known.

    Examples
    --------
    >>> state_offset("xyz", (8, 12, 100)), state_offset("xyz", (8, None, 100))
    ((100.0, 12.0, 8.0), None)
    """
    known = dict(zip(axes, offsets_nm, strict=True))
    z, y, x = (known.get(letter, 0.0 if letter == "z" else None) for letter in "zyx")
    if z is None or y is None or x is None or not all(map(math.isfinite, (z, y, x))):
        return None
    return float(z), float(y), float(x)


def read_numbers(value: object, count: int) -> tuple[float, ...] | None:
    """Return an attribute that holds a number for each axis; None where it is something else.

    Examples
    --------
    >>> read_numbers([40, 4, 4.0], 3), read_numbers("40", 3)
    ((40.0, 4.0, 4.0), None)
    """
    try:
        numbers = np.asarray(value, dtype=float).ravel()
    except (TypeError, ValueError, OverflowError):
        return None
    return tuple(numbers.tolist()) if len(numbers) == count and np.isfinite(numbers).all() else None


def check_numeric(where: object, shape: Sequence[int], dtype: np.dtype[Any]) -> None:
    """Refuse what is no array of numbers with two axes or more.

    Raises
    ------
    InputError
        When it has fewer axes, or holds text, structures or complex numbers.
    """
    if len(shape) < 2 or dtype.kind not in "buif":
        raise InputError(
            "not a stack",
            where=where,
            expected="axes z, y, x of numbers",
            found=f"{tuple(shape)} {dtype}",
            fix=f"save such an array, or, where the file holds one beside this, {NAME_IT}",
        )


def guess_section(axes: str, shape: Sequence[int]) -> tuple[int, ...]:
    """Return the extent of a section, to check that it is plausible before it is known for certain.

    Examples
    --------
    >>> guess_section("cxyz", (1, 30, 20, 5)), guess_section("????", (1, 5, 20, 30))
    ((20, 30), (20, 30))
    """
    sizes = dict(zip(axes, shape, strict=True))
    if {"y", "x"} <= sizes.keys():
        return sizes["y"], sizes["x"]
    return tuple([n for n in shape if n != 1][-2:])


def check_chunk(where: object, chunk: Sequence[int] | None, dtype: np.dtype[Any], declared_by: str) -> None:
    """Refuse chunks that would take more memory than any section, before one is decoded.

    Raises
    ------
    InputError
        When a chunk is as large as that, or has no voxels.
    """
    size = math.prod(chunk or (1,)) * dtype.itemsize
    if size > MAX_SECTION_BYTES or size <= 0:
        raise InputError(
            "the declared size of a chunk is implausible",
            where=where,
            expected=f"at most {MAX_SECTION_BYTES // 2**30} GiB",
            found=f"{tuple(chunk or ())} {dtype} in {declared_by}",
            fix="the source is damaged or malicious, or must be rewritten in smaller chunks",
        )


def count_chunks(shape: Sequence[int], chunk: Sequence[int]) -> tuple[int, ...]:
    """Return the number of chunks along each axis.

    Examples
    --------
    >>> count_chunks((5, 20), (2, 20))
    (3, 1)
    """
    return tuple(ceil_div(n, edge) for n, edge in zip(shape, chunk, strict=True))


def chunks_of(part: Sequence[slice], chunk: Sequence[int]) -> Iterator[range]:
    """Yield, for each axis, the indices of the chunks that a part of an array lies in.

    Examples
    --------
    >>> list(chunks_of((slice(0, 5), slice(20, 40)), (2, 20)))
    [range(0, 3), range(1, 2)]
    """
    for along, edge in zip(part, chunk, strict=True):
        yield range(along.start // edge, ceil_div(along.stop, edge))


def settle_unwritten(
    where: object, *, missing: int, total: int, first: object, fill: object, chosen: Selection
) -> tuple[str, ...]:
    """Decide about chunks that are not there, and would read as one grey level.

    Parameters
    ----------
    where : object
        The array.
    missing, total : int
        Chunks that are not there, and all.
    first : object
        The first that is not there.
    fill : object
        What they would read as.
    chosen : Selection
        Says whether that is wanted.

    Returns
    -------
    tuple of str
        What the user should know about it.

    Raises
    ------
    InputError
        When some are not there, and the user did not say what to do about it.
    """
    if not missing:
        return ()
    if chosen.unwritten == "fill":
        return (
            f"{where}: {missing} of {total} chunks ({missing / total:.1%}) were never written, and are taken for their "
            f"fill value {fill}",
        )
    raise InputError(
        f"{missing} of {total} chunks are missing",
        where=where,
        found=f"the first missing one is {first}",
        fix="copy the source again; if they were never written on purpose, accept their fill value by --unwritten fill "
        "(for labels --labels-unwritten)",
    )


def refuse_choice(where: object, what: str, found: Sequence[str]) -> InputError:
    """Return the error for a source with several arrays, or none, of which one has to be named.

    Parameters
    ----------
    where : object
        The source.
    what : str
        What it calls its arrays, as "dataset".
    found : sequence of str
        Those it has, in words.
    """
    listed = ", ".join(found[:10]) + (f" and {len(found) - 10} more" if len(found) > 10 else "")
    return InputError(
        f"which {what} is meant?" if found else f"no {what} that is a stack of sections",
        where=where,
        expected=f"one {what}, or its name" if found else None,
        found=f"stacks: {listed or 'none'}",
        fix=NAME_IT if found else "check that it is the right source",
    )


def list_files_below(folder: Path) -> list[Path]:
    """Return every file below a folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def refuse_links(folder: Path) -> None:
    """Refuse a folder of which a link leads to a file outside.

    Raises
    ------
    InputError
        When there is such a link.
    """
    root = folder.resolve()
    for item in folder.rglob("*"):
        if item.is_symlink() and not item.resolve().is_relative_to(root):
            raise InputError(
                "a link leads out of the source",
                where=item,
                fix="copy the files in place of the links (cp -rL FOLDER COPY)",
            )
