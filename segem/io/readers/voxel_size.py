"""Which voxel size a volume gets: what the user gives and what the source states, each doubted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from segem.errors import InputError
from segem.geometry import VoxelSize
from segem.io.readers.reader import StatedVoxelSize

Sizes = tuple[float, float, float]

GIVEN = "given"
"""The origin of a size that the user gave."""
TOLERANCE = 0.01
"""Sizes that differ by less are the same: files round them, and a unit may be an inch."""
SMALLEST_NM, LARGEST_NM = 0.5, 1000.0
"""Below, atoms are resolved, and no stained tissue; above, cells."""
LARGEST_RATIO = 2.0
"""Pixels that a tilted view of the sample shortens are still closer to square than that."""
COARSE_PIXEL_NM = 15.0
"""Pixels this large with much thinner sections are no stack of any microscope, but an order mixed up."""

_LIKELY: tuple[tuple[str, Callable[[Sizes], Sizes]], ...] = (
    ("the order of X,Y,Z", lambda size: size[::-1]),
    ("micrometres", lambda size: _times(size, 1e3)),
    ("micrometres in the order of X,Y,Z", lambda size: _times(size[::-1], 1e3)),
    ("metres", lambda size: _times(size, 1e9)),
)
_OVERRULE = "--trust-voxel (trust_voxel: true in a manifest)"


@dataclass(frozen=True)
class SettledVoxelSize:
    """The voxel size of a volume, and where it is from.

    Parameters
    ----------
    size : VoxelSize
        In nanometres.
    origin : str
        `GIVEN`, or where in the source it stands.
    stated : StatedVoxelSize, optional
        What the source states, whoever was believed.
    trusted : bool
        Whether the user has overruled all doubts.
    """

    size: VoxelSize
    origin: str
    stated: StatedVoxelSize | None
    trusted: bool

    def facts(self) -> dict[str, object]:
        """Return what is noted of it in a volume."""
        stated = self.stated
        return {
            "origin": self.origin,
            "trusted": self.trusted,
            "stated": None if stated is None else {"zyx_nm": list(_zyx(stated)), "where": stated.origin},
        }


def settle_voxel_size(
    given: Sizes | None, stated: StatedVoxelSize | None, *, trusted: bool, where: object, unitless: str = ""
) -> SettledVoxelSize:
    """Decide the voxel size of a volume.

    Parameters
    ----------
    given : tuple of float, optional
        What the user says, in nanometres along (z, y, x).
    stated : StatedVoxelSize, optional
        What the source says.
    trusted : bool
        Whether the user, who knows better, has overruled all doubts.
    where : object
        The source, for messages.
    unitless : str
        What the source says without a unit, in words.

    Returns
    -------
    SettledVoxelSize
        What is given, or else what is stated.

    Raises
    ------
    InputError
        When neither gives all three sizes, they contradict each other, or the size cannot be that of tissue in an
        electron microscope.

    Examples
    --------
    >>> said = StatedVoxelSize(None, 4.0, 4.0, "TIFF tags")
    >>> settle_voxel_size((50.0, 4.0, 4.0), said, trusted=False, where="a.tif").size
    VoxelSize(z=50.0, y=4.0, x=4.0)
    """
    if given is None:
        size, origin = _complete(stated, where, unitless), "" if stated is None else stated.origin
    else:
        size, origin = given, GIVEN
    if not trusted:
        if given is not None and stated is not None and find_differences(given, stated):
            raise _contradiction(given, stated, where)
        _check_plausible(size, origin, where)
    return SettledVoxelSize(VoxelSize(*size), origin, stated, trusted)


def warn_of_labels(image: VoxelSize, labels: StatedVoxelSize | None, *, where: object) -> Iterator[str]:
    """Yield a warning where labels state another voxel size than the image has."""
    if labels is not None and find_differences(image.zyx, labels):
        yield (
            f"{where} states voxels of {describe_stated(labels)} nm by {labels.origin}, and the image has "
            f"{describe_size(image.zyx)}: are these its labels?"
        )


def find_differences(size: Sizes, stated: StatedVoxelSize) -> str:
    """Return the axes along which a size is not the stated one; axes that are not stated do not differ.

    Examples
    --------
    >>> find_differences((50, 4, 4), StatedVoxelSize(None, 4.001, 8, "TIFF tags"))
    'x'
    """
    pairs = zip("zyx", size, _zyx(stated), strict=True)
    return "".join(axis for axis, one, other in pairs if other is not None and abs(one - other) > TOLERANCE * other)


def find_doubt(size: Sizes) -> str:
    """Return why a voxel size is not that of tissue in an electron microscope; nothing where it may be.

    Parameters
    ----------
    size : tuple of float
        In nanometres along (z, y, x).

    Examples
    --------
    >>> find_doubt((50, 4, 4)), find_doubt((8, 8, 8)), find_doubt((4, 4, 50))
    ('', '', 'y and x differ more than twofold')
    """
    z, y, x = size
    # Sizes in files are rounded, so a limit is met by what is as good as equal to it.
    slack = 1 + TOLERANCE
    if min(size) * slack < SMALLEST_NM:
        return f"less than {SMALLEST_NM:g} nm"
    if max(size) > LARGEST_NM * slack:
        return f"more than {LARGEST_NM:g} nm"
    if max(y, x) > LARGEST_RATIO * slack * min(y, x):
        return "y and x differ more than twofold"
    if min(y, x) > COARSE_PIXEL_NM and min(y, x) > LARGEST_RATIO * slack * z:
        return "sections less than half as thick as large pixels are wide"
    return ""


def describe_size(size: tuple[float | None, ...]) -> str:
    """Return a voxel size as it is given on the command line, ``?`` where it is not known.

    Examples
    --------
    >>> describe_size((50.0, 4.6, None))
    '50,4.6,?'
    """
    return ",".join("?" if one is None else f"{one:.6g}" for one in size)


def describe_stated(stated: StatedVoxelSize) -> str:
    """Return what a source states, see `describe_size`."""
    return describe_size(_zyx(stated))


def _complete(stated: StatedVoxelSize | None, where: object, unitless: str) -> Sizes:
    if stated is None:
        raise InputError(
            "the source does not state its voxel size",
            where=where,
            found=f"{unitless}, without a unit" if unitless else None,
            fix="give --voxel-nm Z,Y,X, for example 50,4,4",
        )
    z, y, x = _zyx(stated)
    if z is None or y is None or x is None:
        known = ",".join(axis if one is None else f"{one:.6g}" for axis, one in zip("ZYX", _zyx(stated), strict=True))
        bare = f", and {unitless} without a unit" if unitless else ""
        raise InputError(
            "the source states only a part of its voxel size",
            where=where,
            expected="nanometres along z, y and x",
            found=f"{describe_stated(stated)} in {stated.origin}{bare}",
            fix=f"give --voxel-nm {known} with what is missing",
        )
    return z, y, x


def _contradiction(given: Sizes, stated: StatedVoxelSize, where: object) -> InputError:
    whole = None not in _zyx(stated)
    take = "leave --voxel-nm out to take what the source states" if whole else "correct --voxel-nm"
    return InputError(
        f"the voxel size is not the one that the source states, along {' and '.join(find_differences(given, stated))}",
        where=where,
        expected=f"{describe_stated(stated)} nm (z,y,x) by {stated.origin}",
        found=f"{describe_size(given)} given",
        fix=f"{take}, or, if the source is wrong, add {_OVERRULE}",
    )


def _check_plausible(size: Sizes, origin: str, where: object) -> None:
    doubt = find_doubt(size)
    if not doubt:
        return
    meant = next(((name, right) for name, change in _LIKELY if not find_doubt(right := change(size))), None)
    likely = f"; it looks like {meant[0]}, which would be {describe_size(meant[1])}" if meant else ""
    raise InputError(
        "an implausible voxel size",
        where=where,
        expected="nanometres along z, y, x, as 50,4,4 for sections or 8,8,8 for FIB-SEM",
        found=f"{describe_size(size)} ({origin}): {doubt}{likely}",
        fix=f"give --voxel-nm {describe_size(meant[1]) if meant else 'Z,Y,X'}, or, if it is right, add {_OVERRULE}",
    )


def _zyx(stated: StatedVoxelSize) -> tuple[float | None, float | None, float | None]:
    """Return what is stated along each axis; a size that no voxel can have says nothing."""
    z, y, x = (
        one if one is not None and 0 < one < float("inf") else None for one in (stated.z_nm, stated.y_nm, stated.x_nm)
    )
    return z, y, x


def _times(size: Sizes, factor: float) -> Sizes:
    # Rounded, so that 0.002 micrometres are 2 nanometres and not 2.0000000000000004.
    z, y, x = (float(f"{one * factor:.6g}") for one in size)
    return z, y, x
