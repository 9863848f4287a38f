"""Chooses where a probability is computed anew: on the planes at which tiles and blocks meet, and where these cross."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from segem.geometry import ZYX, Box
from segem.plan import Plan
from segem.records.seams import INSIDE

PLACE_PX = 64
"""Edge of a place. What its halo costs hardly depends on it, and faults of tiling are largest where tiles meet."""
_KINDS: tuple[tuple[bool, bool], ...] = ((True, True), (True, False), (True, True), (False, True))
"""Whether a place lies on a border along y and on one along x: every other one where two cross."""


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
    [0:1, 96:160, 96:160] where tiles meet at row 128 and column 128
    [3:4, 96:160, 361:425] where tiles meet at row 128
    """
    rows, columns = _list_lines(plan, 1), _list_lines(plan, 2)
    ends = range(plan.write_block[0], plan.shape[0], plan.write_block[0])
    places = []
    for k in range(count):
        u, v, w = _draw(seed, k)
        z, before = int((k + w) * plan.shape[0] / count), ""
        # Along z too, blocks that are several sections deep meet somewhere: on either side of that in turn.
        if plan.write_block[0] > 1 and ends and k % 2:
            end = ends[int(w * len(ends))]
            z, before = end - (k // 2) % 2, f", blocks end before section {end}"
        # Of every four places two lie on borders of blocks, where there are any.
        on_rows, on_columns = _KINDS[k % len(_KINDS)]
        y, row = _pick(rows if on_rows else (), plan.shape[1], u, blocks=k % 4 > 1)
        x, column = _pick(columns if on_columns else (), plan.shape[2], v, blocks=k % 4 > 1)
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


def _pick(lines: Sequence[Line], size: int, u: float, *, blocks: bool) -> tuple[int, Line | None]:
    lines = [line for line in lines if line.blocks] or lines if blocks else lines
    if not lines:
        return int(u * size), None
    line = lines[int(u * len(lines))]
    return line.at, line


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
