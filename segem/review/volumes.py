"""The volumes of a review: their pictures, their masks, and how they are cut into regions."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from segem.errors import SegemError, WorkspaceError
from segem.geometry import grid
from segem.io.layers import require_whole
from segem.io.reviewed import mask_layer, open_mask, reader_of, require_reviewed_mask
from segem.io.reviews import REGION_PX, ReadMask, ReviewLog
from segem.io.run import load_run, source_digest
from segem.io.shards import Array
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.progress import tell
from segem.records.review import Place
from segem.records.review_queue import Region
from segem.review.apart import Lattice
from segem.review.pictures import Pictures

MOST_REGIONS = 2000
"""More than anybody looks at: the page lists them."""


@dataclass(frozen=True)
class Reviewed:
    """A volume that is reviewed."""

    name: str
    raw: Pictures
    probability: Pictures | None
    mask_levels: list[Array]
    read: ReadMask
    lattice: Lattice
    """Regions, those of the error map where it has one: each entry of the log lies within one of them."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Extent along (z, y, x)."""
        return self.raw.volume.shape


def open_reviewed(workspace: Workspace, run: str, name: str) -> Reviewed:
    """Open a volume of a run for a review."""
    mask = open_mask(workspace, run, name)
    source, result = Volume.open(workspace.volume(name)), Volume.open(workspace.result(run, name))
    step = load_run(workspace, run).volumes[name].membrane
    probability = None
    if step is not None:
        made = hashlib.sha256(step.model_dump_json().encode()).hexdigest()
        try:
            require_whole(result.raw, "run again")
            probability = Pictures(result, f"probability {made}")
        except SegemError:
            # A mask can be reviewed without the probability that it was cut from.
            probability = None
    raw = Pictures(source, f"raw {source_digest(workspace, name)}")
    lattice = Lattice.cut(name, source.shape[1:], even=probability is not None, region_px=REGION_PX)
    levels = result.levels(mask_layer(workspace, run, name))
    return Reviewed(name, raw, probability, levels, reader_of(mask), lattice)


def open_all_reviewed(workspace: Workspace, run: str, names: Sequence[str], log: ReviewLog) -> dict[str, Reviewed]:
    """Open volumes of a run for a review, and leave out, with a word, those that were computed anew since people began.

    What is changed of another mask than before could never be replayed.

    Raises
    ------
    WorkspaceError
        When none is left.
    """
    opened: dict[str, Reviewed] = {}
    for name in names:
        held = open_reviewed(workspace, run, name)
        try:
            require_reviewed_mask(log, name, held.read)
        except WorkspaceError as error:
            if not opened and name == names[-1]:
                raise
            tell(f"{name} cannot be reviewed: {error}")
        else:
            opened[name] = held
    return opened


def list_in_order(held: Reviewed) -> list[Region]:
    """Return the regions of a volume of which nothing is known that would put one before another."""
    # A large section has more than anybody looks at, and a volume has many of those.
    cells = islice(grid(held.shape, (1, REGION_PX, REGION_PX)), MOST_REGIONS)
    return [
        Region(
            volume=held.name,
            z=box.start[0],
            y=box.start[1],
            x=box.start[2],
            height_px=box.shape[1],
            width_px=box.shape[2],
            priority=0.0,
            reason="in order: nothing is known of where errors are",
        )
        for _, box in cells
    ]


def place_of(region: Region) -> Place:
    """Return the rectangle of a region of the queue."""
    return place_between(
        region.volume, region.z, region.y, region.x, region.y + region.height_px, region.x + region.width_px
    )


def place_between(name: str, z: int, y: int, x: int, y1: int, x1: int) -> Place:
    """Return the rectangle of a section from its first pixel to that after its last."""
    return Place(volume=name, z=z, y=y, x=x, height=y1 - y, width=x1 - x)
