"""Boxes, halos and voxel sizes, all in (z, y, x) order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from segem.errors import ConfigError

Range = tuple[int, int]
"""Half-open: the first section, and one past the last."""
ZYX = tuple[int, int, int]


@dataclass(frozen=True, order=True)
class Box:
    """A half-open box of voxels, ``start <= voxel < stop`` on each of (z, y, x).

    Parameters
    ----------
    start, stop : tuple of int, length 3
        First voxel inside, first voxel outside, in (z, y, x).

    Examples
    --------
    >>> Box((0, 0, 0), (1, 4, 6)).shape
    (1, 4, 6)
    """

    start: ZYX
    stop: ZYX

    def __post_init__(self) -> None:
        if len(self.start) != 3 or len(self.stop) != 3:
            raise ConfigError(
                "a box has three axes (z, y, x)", found=f"{self.start}..{self.stop}", fix="give z, y and x"
            )
        if any(b < a for a, b in zip(self.start, self.stop, strict=True)):
            raise ConfigError(
                "a box cannot end before it starts", found=f"{self.start}..{self.stop}", fix="swap start and stop"
            )

    @classmethod
    def of_shape(cls, shape: ZYX) -> Box:
        """Return the box that starts at the origin and has the given shape."""
        return cls((0, 0, 0), shape)

    @property
    def shape(self) -> ZYX:
        """Extent along (z, y, x)."""
        (z0, y0, x0), (z1, y1, x1) = self.start, self.stop
        return (z1 - z0, y1 - y0, x1 - x0)

    @property
    def size(self) -> int:
        """Number of voxels."""
        z, y, x = self.shape
        return z * y * x

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """Slices that select this box of an array."""
        z, y, x = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return (z, y, x)

    def contains(self, other: Box) -> bool:
        """Return whether every voxel of `other` lies in this box."""
        return other.size == 0 or (
            all(a <= b for a, b in zip(self.start, other.start, strict=True))
            and all(a >= b for a, b in zip(self.stop, other.stop, strict=True))
        )

    def intersect(self, other: Box) -> Box:
        """Return the intersection; an empty box where there is none."""
        start = _zyx(max(a, b) for a, b in zip(self.start, other.start, strict=True))
        # Boxes that do not meet would end before they start; they become empty instead.
        stop = _zyx(max(s, min(a, b)) for s, a, b in zip(start, self.stop, other.stop, strict=True))
        return Box(start, stop)

    def grow(self, halo: Halo, within: Box) -> Box:
        """Return this box grown by `halo` on every side and clipped to `within`."""
        widened = Box(
            _zyx(a - h for a, h in zip(self.start, halo.zyx, strict=True)),
            _zyx(b + h for b, h in zip(self.stop, halo.zyx, strict=True)),
        )
        return widened.intersect(within)

    def relative_to(self, origin: ZYX) -> Box:
        """Return the same box in coordinates relative to `origin`."""
        return Box(
            _zyx(a - o for a, o in zip(self.start, origin, strict=True)),
            _zyx(b - o for b, o in zip(self.stop, origin, strict=True)),
        )

    def union(self, other: Box) -> Box:
        """Return the smallest box that contains both."""
        return Box(
            _zyx(min(a, b) for a, b in zip(self.start, other.start, strict=True)),
            _zyx(max(a, b) for a, b in zip(self.stop, other.stop, strict=True)),
        )

    def __str__(self) -> str:
        ranges = (f"{a}:{b}" for a, b in zip(self.start, self.stop, strict=True))
        return f"[{', '.join(ranges)}]"


@dataclass(frozen=True)
class Halo:
    """Context that a computation needs around a box, in voxels along (z, y, x)."""

    z: int = 0
    y: int = 0
    x: int = 0

    def __post_init__(self) -> None:
        if min(self.zyx) < 0:
            raise ConfigError("a halo cannot be negative", found=self.zyx, fix="give 0 or more")

    @property
    def zyx(self) -> ZYX:
        """The halo as a (z, y, x) tuple."""
        return (self.z, self.y, self.x)


@dataclass(frozen=True)
class VoxelSize:
    """Size of one voxel in nanometres along (z, y, x)."""

    z: float
    y: float
    x: float

    def __post_init__(self) -> None:
        if not all(0 < size < float("inf") for size in self.zyx):
            raise ConfigError(
                "a voxel size must be a positive number of nanometres",
                found=self.zyx,
                fix="give it as Z,Y,X, for example 50,4,4",
            )

    @property
    def zyx(self) -> tuple[float, float, float]:
        """The size as a (z, y, x) tuple."""
        return (self.z, self.y, self.x)

    @property
    def near_isotropic(self) -> bool:
        """Whether z is less than twice as coarse as y and x, so that a pyramid shrinks z too."""
        return self.z < 2 * max(self.y, self.x)


def around(count: int) -> range:
    """Return the offsets of `count` adjacent sections, an odd number, from the middle one.

    Examples
    --------
    >>> list(around(3))
    [-1, 0, 1]
    """
    return range(-(count // 2), count // 2 + 1)


def name_sections(ranges: Sequence[Range]) -> str:
    """Name sections for people, who count the last one in.

    Parameters
    ----------
    ranges : sequence of (int, int)
        Half-open, at least one.

    Examples
    --------
    >>> name_sections([(6, 7)]), name_sections([(0, 3), (6, 7)])
    ('section 6', 'sections 0 to 2 and 6')
    """
    named = [str(first) if stop - first == 1 else f"{first} to {stop - 1}" for first, stop in ranges]
    alone = len(ranges) == 1 and named[0].isdigit()
    return f"{'section' if alone else 'sections'} {' and '.join(named)}"


def ceil_div(a: int, b: int) -> int:
    """Return a / b rounded up."""
    # In whole numbers: a division in floating point is inexact for large ones.
    return -(-a // b)


def round_up(a: int, multiple: int) -> int:
    """Return the smallest multiple of `multiple` that is at least `a`."""
    return ceil_div(a, multiple) * multiple


def grid(shape: ZYX, cell: ZYX) -> Iterator[tuple[ZYX, Box]]:
    """Yield the index and box of each cell of a grid over `shape`; the last ones are clipped at the end.

    Examples
    --------
    >>> [str(box) for _, box in grid((1, 2, 5), (1, 2, 3))]
    ['[0:1, 0:2, 0:3]', '[0:1, 0:2, 3:5]']
    """
    for index in product(*(range(ceil_div(n, c)) for n, c in zip(shape, cell, strict=True))):
        z, y, x = index
        start = (z * cell[0], y * cell[1], x * cell[2])
        stop = _zyx(min(s + c, n) for s, c, n in zip(start, cell, shape, strict=True))
        yield (z, y, x), Box(start, stop)


def _zyx(values: Iterator[int]) -> ZYX:
    z, y, x = values
    return (z, y, x)
