"""Chooses where a probability is computed anew: on the planes at which tiles and blocks meet, and where these cross."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, product
from typing import Literal

from segem.geometry import ZYX, Box
from segem.plan import Plan
from segem.records.seams import INSIDE

PLACE_PX = 96
"""Edge of a place. Most of what it costs is its halo; a tile that it touches is seen where it may differ most."""
_EVERY = 3
"""Of so many places, one lies on a single border, one of blocks where there are any; the others where two cross."""


@dataclass(frozen=True)
class Place:
    """A part of one section."""

    box: Box
    plane: str
    """What meets there, in words."""


@dataclass(frozen=True)
class Line:
    """A border along one axis: where it is, and whether blocks meet there or only tiles."""

    at: int
    blocks: bool


Crossing = tuple[Line | None, Line | None]
"""A border along y and one along x, where there are any."""


def choose_places(plan: Plan, count: int, seed: str, *, beyond: bool = False) -> list[Place]:
    """Return places on borders of tiles and blocks, spread over a volume; inside where there is no border.

    Parameters
    ----------
    plan : Plan
        How the volume was cut.
    count : int
        How many; fewer where some fall together.
    seed : str
        What the choice depends on: the same places for the same run, others for another.
    beyond : bool
        Let places begin at the borders, in place of lying around them: then fewer blended tiles reach them.

    Examples
    --------
    >>> from segem.geometry import Halo
    >>> from segem.plan import crop_tiling
    >>> plan = Plan((4, 512, 512), (1, 512, 512), crop_tiling((4, 512, 512), (1, 512, 512), Halo(0, 96, 96), 16, 128))
    >>> for place in choose_places(plan, 2, "r"):
    ...     print(place.box, place.plane)
    [0:1, 336:432, 80:176] where tiles meet at row 384 and column 128
    [3:4, 80:176, 80:176] where tiles meet at row 128 and column 128
    """
    rows, columns = _list_lines(plan, 1), _list_lines(plan, 2)
    crossings = _shuffle([*product(_cover(rows), _cover(columns))], seed)
    ends = range(plan.write_block[0], plan.shape[0], plan.write_block[0])
    places = []
    for k in range(count):
        u, v, w = _draw(seed, k)
        z, before = int((k + w) * plan.shape[0] / count), ""
        # Along z too, blocks that are several sections deep meet somewhere: on either side of that in turn.
        if plan.write_block[0] > 1 and ends and k % 2:
            end = ends[int(w * len(ends))]
            z, before = end - (k // 2) % 2, f", blocks end before section {end}"
        if k % _EVERY < _EVERY - 1 or not (rows or columns):
            row, column = crossings[(k - k // _EVERY) % len(crossings)]
        elif rows and (k // _EVERY % 2 == 0 or not columns):
            row, column = _pick(rows, u), None
        else:
            row, column = None, _pick(columns, v)
        y, x = (
            line.at if line else int(t * n) for line, t, n in zip((row, column), (u, v), plan.shape[1:], strict=True)
        )
        places.append(Place(_around((z, y, x), plan.shape, beyond=beyond), _describe(row, column) + before))
    return list({place.box: place for place in places}.values())


def has_borders(plan: Plan) -> bool:
    """Return whether tiles or blocks meet anywhere inside a volume."""
    return bool(_list_lines(plan, 1) or _list_lines(plan, 2) or plan.shape[0] > plan.write_block[0])


def _draw(seed: str, k: int) -> tuple[float, float, float]:
    """Return three numbers of 0 to 1 for the place of a number, those of one seed spread evenly."""
    digest = hashlib.sha256(seed.encode()).digest()
    first = (int.from_bytes(digest[8 * i : 8 * i + 8]) / 2**64 for i in range(3))
    # Steps of the R3 sequence, see `segem.stages.segmentation.quantize.sample_tiles`.
    u, v, w = ((start + k * step) % 1 for start, step in zip(first, (0.8192, 0.6711, 0.5497), strict=True))
    return u, v, w


def _list_lines(plan: Plan, axis: Literal[1, 2]) -> tuple[Line, ...]:
    """Return where tiles and blocks begin, and where blended tiles end, inside a section along y (1) or x (2)."""
    size, block = plan.shape[axis], plan.write_block[axis]
    blocks = set(range(block, size, block))
    found = {*chain.from_iterable(plan.windows(axis)), *blocks} - {0, size}
    return tuple(Line(at, at in blocks) for at in sorted(found))


def _cover(lines: Sequence[Line]) -> Sequence[Line | None]:
    """Return every other border, and the last: no tile lies beside none of them, so that few crossings touch all."""
    return [*lines[::2], *lines[-1:]] if len(lines) % 2 == 0 and lines else lines[::2] or [None]


def _shuffle(crossings: list[Crossing], seed: str) -> list[Crossing]:
    order = sorted(range(len(crossings)), key=lambda i: hashlib.sha256(f"{seed} {i}".encode()).digest())
    return [crossings[i] for i in order]


def _pick(lines: Sequence[Line], u: float) -> Line:
    lines = [line for line in lines if line.blocks] or lines
    return lines[int(u * len(lines))]


def _around(at: ZYX, shape: ZYX, *, beyond: bool) -> Box:
    z, *middle = at
    starts = [max(0, n if beyond else n - PLACE_PX // 2) for n in middle]
    stops = [min(size, n + (PLACE_PX if beyond else PLACE_PX // 2)) for n, size in zip(middle, shape[1:], strict=True)]
    return Box((z, starts[0], starts[1]), (z + 1, stops[0], stops[1]))


def _describe(row: Line | None, column: Line | None) -> str:
    lines = [(name, line) for name, line in (("row", row), ("column", column)) if line is not None]
    if not lines:
        return INSIDE
    what = "blocks" if any(line.blocks for _, line in lines) else "tiles"
    return f"where {what} meet at {' and '.join(f'{name} {line.at}' for name, line in lines)}"
