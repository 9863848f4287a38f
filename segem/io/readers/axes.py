"""What the axes of an array mean, and how it becomes a stack of sections, axes (z, y, x)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from segem.config import Selection
from segem.config.source import AXES
from segem.errors import InputError
from segem.geometry import ZYX, Box

UNKNOWN_AXIS = "?"
"""The letter of an axis of which a source does not say what it is."""
_MOST_AXES = 9
MOST_CHANNELS = 4
"""An unnamed last axis this short may hold colours as well as columns of voxels."""


@dataclass(frozen=True)
class Arrangement:
    """How (z, y, x) lie in an array.

    Parameters
    ----------
    shape : tuple of int
        Extent along (z, y, x).
    positions : tuple of int or None
        Which axis of the array each of (z, y, x) is; z is None where there is one section only.
    fixed : tuple of (int, int)
        Other axes of the array, and the index that is read along each.
    axes : str
        What each axis of the array is taken for; a digit for one of length 1 that nobody names.
    """

    shape: ZYX
    positions: tuple[int | None, int, int]
    fixed: tuple[tuple[int, int], ...]
    axes: str = "zyx"

    def select(self, box: Box) -> tuple[slice, ...]:
        """Return the slices of the array that hold a box of the stack."""
        slices: dict[int, slice] = {axis: slice(at, at + 1) for axis, at in self.fixed}
        for axis, (start, stop) in zip(self.positions, zip(box.start, box.stop, strict=True), strict=True):
            if axis is not None:
                slices[axis] = slice(start, stop)
        return tuple(slices[axis] for axis in sorted(slices))

    def to_zyx(self, part: NDArray[Any]) -> NDArray[Any]:
        """Return what was read of the array, as (z, y, x).

        Examples
        --------
        >>> import numpy as np
        >>> Arrangement((1, 2, 3), (None, 1, 0), ()).to_zyx(np.zeros((3, 2))).shape
        (1, 2, 3)
        """
        kept = [axis for axis in self.positions if axis is not None]
        stack = part.transpose([*kept, *(axis for axis, _ in self.fixed)])
        # What is left of the fixed axes has a length of 1.
        stack = stack.reshape(stack.shape[: len(kept)])
        return stack if len(kept) == 3 else stack[None]


def arrange(
    axes: str,
    shape: tuple[int, ...],
    chosen: Selection,
    *,
    where: object,
    named: bool = True,
    names: Sequence[str] = (),
) -> Arrangement:
    """Find the sections of an array, by what is known of its axes.

    Parameters
    ----------
    axes : str
        A letter for each axis, `UNKNOWN_AXIS` where the source does not say; those the user names are taken instead.
    shape : tuple of int
        Extent of each axis.
    chosen : Selection
        What the user says of axes and channel.
    where : object
        The source, for messages.
    named : bool
        Whether the source itself names its axes; what is only usual, the user may correct.
    names : sequence of str
        The axes as the source calls them, where that is not understood; for messages.

    Returns
    -------
    Arrangement

    Raises
    ------
    InputError
        When it cannot be known which axis is which, or which channel is meant.

    Examples
    --------
    >>> arrange("cxyz", (1, 30, 20, 5), Selection(), where="a.zarr").shape
    (5, 20, 30)
    """
    letters = _named(axes if named or chosen.axes is None else UNKNOWN_AXIS * len(axes), shape, chosen, where, names)
    sizes = dict(zip(letters, shape, strict=True))
    if sizes.get("t", 1) != 1:
        raise _refusal("several time points", letters, shape, where, f"export one of them{_if_misnamed(letters, 't')}")
    channels, channel = sizes.get("c", 1), chosen.channel
    if channels > 1 and channel is None:
        raise _refusal(
            f"{channels} channels, and a stack has one intensity a voxel",
            letters,
            shape,
            where,
            f"name one by --channel 0 to {channels - 1}{_if_misnamed(letters, 'c')}",
        )
    if channel is not None and channel >= channels:
        raise _refusal(f"there is no channel {channel}", letters, shape, where, f"give 0 to {channels - 1}, or none")
    at = {letter: axis for axis, letter in enumerate(letters)}
    fixed = tuple((axis, (channel or 0) if letter == "c" else 0) for letter, axis in at.items() if letter not in "zyx")
    return Arrangement((sizes.get("z", 1), sizes["y"], sizes["x"]), (at.get("z"), at["y"], at["x"]), fixed, letters)


def _if_misnamed(named: str, letter: str) -> str:
    """Return what to do where an axis is not what the source says."""
    if "z" in named:
        return "; if the axes are others, name them by --axes"
    return f"; if they are sections, say so by --axes {named.replace(letter, 'z')}"


def _named(axes: str, shape: tuple[int, ...], chosen: Selection, where: object, names: Sequence[str]) -> str:
    """Return a letter for every axis; those of length 1 that nobody names become letters of their own."""
    if chosen.axes is not None:
        if len(chosen.axes) != len(shape):
            raise _refusal(
                f"{len(chosen.axes)} axes are named", axes, shape, where, "give a letter for each axis of the array"
            )
        _check_not_contradicted(axes, chosen.axes, shape, where)
        return chosen.axes
    if len(shape) > _MOST_AXES:
        raise _refusal(f"{len(shape)} axes", axes, shape, where, "save it as a stack of sections")
    if UNKNOWN_AXIS not in axes:
        if not {"y", "x"} <= set(axes) or len(set(axes)) < len(axes) or set(axes) - set(AXES):
            what = "the names of the axes are not understood" if names else "not a stack of sections"
            raise _refusal(what, names or axes, shape, where, "say what the axes are by --axes, as in zyx or zcyx")
        return axes
    if {"y", "x"} <= set(axes):
        return _complete(axes, shape, where)
    # Nobody says: axes of length 1 do not matter, and the convention of the field for the others is z, y, x.
    long = [axis for axis, n in enumerate(shape) if n != 1]
    short = [axis for axis in range(len(shape)) if axis not in long]
    # A section one pixel wide is still a section, so y and x are taken from the end.
    while len(long) < 2 and short:
        long = sorted([*long, short.pop()])
    known = {letter for axis, letter in enumerate(axes) if axis in long or letter in "yx"} - {UNKNOWN_AXIS}
    if len(long) > 3 or len(long) < 2 or known:
        raise _refusal("it cannot be known which axis is which", axes, shape, where, "say it by --axes, as in zcyx")
    if len(long) == 3 and shape[long[2]] <= MOST_CHANNELS < min(shape[long[0]], shape[long[1]]):
        raise _refusal(
            f"the last axis may be {shape[long[2]]} channels or {shape[long[2]]} columns",
            axes,
            shape,
            where,
            "say which by --axes: yxc for channels, and zyx for columns",
        )
    if len(long) == 3 and 4 * shape[long[2]] < shape[long[1]] and shape[long[2]] < shape[long[0]] > shape[long[1]] / 4:
        raise _refusal(
            f"the last axis may be {shape[long[2]]} sections or {shape[long[2]]} columns",
            axes,
            shape,
            where,
            "say which by --axes: yxz (or xyz) for sections, and zyx for columns",
        )
    taken = dict(zip(long, "zyx"[3 - len(long) :], strict=True))
    # Letters that `arrange` fixes at 0; a digit is none of the axes that it looks for.
    return "".join(taken.get(axis, str(axis)) for axis in range(len(shape)))


def _complete(axes: str, shape: tuple[int, ...], where: object) -> str:
    """Return a letter for every axis where y and x are known: the only other one of some length is z."""
    unknown = [axis for axis, letter in enumerate(axes) if letter == UNKNOWN_AXIS]
    long = [axis for axis in unknown if shape[axis] != 1]
    known = axes.replace(UNKNOWN_AXIS, "")
    if len(long) > 1 or (long and "z" in axes) or set(known) - set(AXES) or len(set(known)) < len(known):
        raise _refusal("it cannot be known which axis is which", axes, shape, where, "say it by --axes, as in zcyx")
    # A digit is none of the axes that are looked for.
    names = {axis: "z" if axis in long else str(axis) for axis in unknown}
    return "".join(names.get(axis, letter) for axis, letter in enumerate(axes))


def _check_not_contradicted(axes: str, chosen: str, shape: tuple[int, ...], where: object) -> None:
    pairs = zip(axes, chosen, strict=True) if len(axes) == len(chosen) else ()
    # Time, channel and z are mixed up by many programs, so the user may correct them; y and x are not.
    if any(found in AXES and found != said and {found, said} & {"y", "x"} for found, said in pairs):
        raise _refusal(
            f"the source says that its axes are {axes}, not {chosen}", axes, shape, where, "correct --axes, or leave it"
        )


def _refusal(what: str, axes: Sequence[str], shape: tuple[int, ...], where: object, fix: str) -> InputError:
    found = ", ".join(f"{letter}: {n}" for letter, n in zip(axes, shape, strict=False)) or f"shape {shape}"
    if "--" in fix:
        fix += "; in a manifest, options are keys of the volume"
    return InputError(what, where=where, found=f"axes {found}", fix=fix)
