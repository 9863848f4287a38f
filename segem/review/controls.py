"""Hidden controls: errors planted into regions of a person's queue, and a probability that agrees with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from segem.geometry import Box
from segem.io.blocks import read_block
from segem.io.readings import write_plant
from segem.io.shards import Array, shape_of
from segem.kernels.plants import PlantKind, disguise, plant_gap, plant_spur
from segem.kernels.pyramid import shrink
from segem.records.review import Draft, Place
from segem.review.apart import Apart, Known

MOST_REGIONS = 300
"""Of a queue, among which errors are planted: a person is at them for hours, and planting may keep nobody waiting."""
_REREAD = "see `segem verify`"


def plan_controls(
    apart: Apart, person: str, queue: Sequence[Place], held: Known, probability: Array | None
) -> list[Draft]:
    """Plant an error in one region of every so many of a person's queue, and return the entries that keep them.

    Parameters
    ----------
    apart : Apart
        Says how many, and which: the seed of the review decides.
    person : str
        Who is to see them.
    queue : sequence of Place
        The regions of one volume that are open, in their order.
    held : Known
        The volume.
    probability : Array, optional
        From which its mask was cut.

    Returns
    -------
    list of Draft
        One for each control. A queue that is shorter than one such part has none.
    """
    every = apart.checks.control_every
    regions = [one for one in queue[:MOST_REGIONS] if not apart.is_twice(one)]
    planted: list[Draft] = []
    for start in range(0, len(regions) - every + 1, every) if every else ():
        # In an order of its own for each person: at a fixed rank, controls would be found by counting.
        part = sorted(
            regions[start : start + every], key=lambda cell: apart.draw("control", person, cell.model_dump_json())
        )
        found = (_plant(apart, person, cell, held, probability) for cell in part)
        planted += islice((one for one in found if one is not None), 1)
    return planted


@dataclass(frozen=True)
class Patch:
    """Pixels of one level of a probability that are shown instead of its own."""

    level: int
    z: int
    y: int
    x: int
    pixels: NDArray[np.uint8]

    def put(self, level: int, box: Box, shown: NDArray[np.uint8]) -> None:
        """Write into a part (y, x) of a section of a level what of this patch lies in it."""
        (z, top, left), (_, bottom, right) = box.start, box.stop
        if (level, z) != (self.level, self.z):
            return
        height, width = self.pixels.shape
        y0, y1, x0, x1 = max(top, self.y), min(bottom, self.y + height), max(left, self.x), min(right, self.x + width)
        if y0 < y1 and x0 < x1:
            own = self.pixels[y0 - self.y : y1 - self.y, x0 - self.x : x1 - self.x]
            shown[y0 - top : y1 - top, x0 - left : x1 - left] = own


def patch_probability(cell: Place, flips: NDArray[np.bool_], held: Known, levels: Sequence[Array]) -> list[Patch]:
    """Return what is to be shown of a probability around a planted error, in each level.

    Made when the person first opens the volume: to make them when they are asked for would take time, and be noticed.

    Parameters
    ----------
    cell : Place
        The region.
    flips : (y, x) bool
        What is planted in it.
    held : Known
        The volume.
    levels : sequence of Array
        Of the probability, each half as wide as the one before, with as many sections.

    Returns
    -------
    list of Patch
    """
    _, height, width = shape_of(levels[0])
    # On the lattice of the pixels of the coarsest level, so that each pixel of each level is whole.
    edge = 2 ** (len(levels) - 1)
    y, x = cell.y // edge * edge, cell.x // edge * edge
    y1, x1 = (
        min(-(-end // edge) * edge, n) for end, n in ((cell.y + cell.height, height), (cell.x + cell.width, width))
    )
    pixels = read_block(levels[0], Box((cell.z, y, x), (cell.z + 1, y1, x1)), _REREAD).copy()
    own = pixels[0, cell.y - y : cell.y - y + cell.height, cell.x - x : cell.x - x + cell.width]
    own[:] = disguise(own, flips, held.read(cell))
    patches = []
    for level in range(len(levels)):
        patches.append(Patch(level, cell.z, y >> level, x >> level, pixels[0]))
        pixels = shrink(pixels, (1, 2, 2), "mean")
    return patches


def _plant(apart: Apart, person: str, cell: Place, held: Known, probability: Array | None) -> Draft | None:
    box = Box((cell.z, cell.y, cell.x), (cell.z + 1, cell.y + cell.height, cell.x + cell.width))
    stored = None if probability is None else read_block(probability, box, _REREAD)[0]
    mask, number = held.read(cell), apart.draw("plant", person, cell.model_dump_json())
    kinds: list[PlantKind] = ["gap", "spur"] if number % 2 else ["spur", "gap"]
    for kind in kinds:
        flips = (plant_gap if kind == "gap" else plant_spur)(mask, stored, np.random.default_rng(number))
        if flips is not None:
            return write_plant(
                cell.model_copy(update={"volume": apart.sheet(person, cell.volume)}), flips, person, kind
            )
    return None
