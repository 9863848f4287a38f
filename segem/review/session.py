"""One review: the volumes of a run, their masks with all corrections, and what is worth looking at in them."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from segem.errors import InputError, SegemError
from segem.geometry import Box, ceil_div, grid
from segem.io.blocks import read_block
from segem.io.layers import require_whole
from segem.io.reviewed import mask_layer, open_log, open_mask, reader_of, reviewable, verify_review
from segem.io.reviews import REGION_PX, Appended, Outdated, ReadMask, ReviewLog
from segem.io.run import load_run, source_digest
from segem.io.shards import Array, shape_of
from segem.io.volume import Volume
from segem.io.workspace import Workspace
from segem.kernels.between import interpolate_masks
from segem.kernels.questions import draw_ridge, erase_ridge
from segem.kernels.runs import encode_runs
from segem.records.review import Draft, Place
from segem.records.review_queue import Question, Region
from segem.review.pictures import TILE_PX, Pictures
from segem.review.questions import list_questions
from segem.review.queue import rank_regions

MOST_REGIONS = 2000
"""More than anybody looks at: the page lists them."""

Neighbour = Literal["below", "above", "between"]


@dataclass(frozen=True)
class Reviewed:
    """A volume that is reviewed."""

    name: str
    raw: Pictures
    probability: Pictures | None
    mask_levels: list[Array]
    read: ReadMask

    @property
    def shape(self) -> tuple[int, int, int]:
        """Extent along (z, y, x)."""
        return self.raw.volume.shape


class Review:
    """A run that is being reviewed.

    Parameters
    ----------
    workspace : Workspace
        Where the run lies.
    run : str
        Its name.
    patches : sequence of Region, optional
        What is labelled from nothing, in this order, instead of the regions that are most likely wrong.

    Raises
    ------
    InputError
        When no volume of the run has a finished mask.
    WorkspaceError
        When there is no such run, or the log of its review was changed or is not the one that the report knows.
    """

    def __init__(self, workspace: Workspace, run: str, patches: Sequence[Region] = ()) -> None:
        self.workspace, self.run, self.labelling = workspace, run, bool(patches)
        names = reviewable(workspace, run)
        if not names:
            raise InputError(
                "no volume of this run has a finished mask", where=run, fix="finish the run first: see `segem runs`"
            )
        self.volumes = {name: _open(workspace, run, name) for name in names}
        self.pictures = {
            one.key: one for held in self.volumes.values() for one in (held.raw, held.probability) if one is not None
        }
        verify_review(workspace, run)
        self.log: ReviewLog = open_log(workspace, run)
        self._regions: dict[str, list[Region]] = {patches[0].volume: list(patches[:MOST_REGIONS])} if patches else {}
        self._questions: dict[tuple[str, int], dict[str, Question]] = {}
        self._busy = threading.Lock()

    def close(self) -> None:
        """Close the log."""
        self.log.__exit__()

    def volume(self, name: str) -> Reviewed:
        """Return a volume by its name.

        Raises
        ------
        InputError
            When it is not one of this review.
        """
        found = self.volumes.get(name)
        if found is None:
            raise InputError("no such volume", fix="reload the page")
        return found

    def regions(self, name: str) -> list[Region]:
        """Return the regions of a volume, those where looking is worth most first.

        Without a probability nothing is known of where errors are, and they come in their order.
        """
        held = self.volume(name)
        # One at a time: two pages that open a review would compute the same twice.
        with self._busy:
            if name not in self._regions:
                ranked = None if held.probability is None else rank_regions(self.workspace, self.run, name)
                self._regions[name] = (ranked if ranked is not None else _in_order(held))[:MOST_REGIONS]
            return self._regions[name]

    def questions(self, name: str, z: int) -> dict[str, Question]:
        """Return the questions about a section by their key, those worth most first; none without a probability."""
        held = self.volume(name)
        if not 0 <= z < held.shape[0]:
            raise InputError("no such section", fix="reload the page")
        with self._busy:
            if (name, z) not in self._questions:
                found = [] if held.probability is None else list_questions(self.workspace, self.run, name, z)
                self._questions[name, z] = {_key_of(one): one for one in found}
            return self._questions[name, z]

    def tile(self, name: str, level: int, z: int, row: int, column: int) -> tuple[int, NDArray[np.bool_]]:
        """Return a tile of the corrected mask, and the number of the last entry that is in it.

        Coarser levels hold the largest value of the pixels they stand for, so that thin membranes stay whole.

        Raises
        ------
        InputError
            When there is no such tile.
        """
        held = self.volume(name)
        if not (0 <= level < len(held.mask_levels) and 0 <= z < held.shape[0]):
            raise InputError("no such tile", fix="reload the page")
        array = held.mask_levels[level]
        depth, height, width = shape_of(array)
        y, x = row * TILE_PX, column * TILE_PX
        if not (0 <= y < height and 0 <= x < width):
            raise InputError("no such tile", fix="reload the page")
        y1, x1 = min(y + TILE_PX, height), min(x + TILE_PX, width)
        upto = self.log.head().entries
        if level == 0:
            return upto, self.log.mask(_place(name, z, y, x, y1, x1), held.read, upto)
        coarse = min(z // (held.raw.levels[level][1]), depth - 1)
        tile = read_block(array, Box((coarse, y, x), (coarse + 1, y1, x1)), "see `segem verify`")[0] == 1
        for part in self._corrected(held, z, 2**level, (y, x, y1, x1)):
            top, left = part.y // 2**level, part.x // 2**level
            fine = self.log.mask(part, held.read, upto)
            small = _shrink(fine, 2**level)
            tile[top - y : top - y + small.shape[0], left - x : left - x + small.shape[1]] = small
        return upto, tile

    def answer(self, draft: Draft, question: Question, author: str, seen: int) -> Appended | Outdated:
        """Change the mask as an answer says, and note it; see `ReviewLog.append` for what is returned."""
        held = self.volume(question.volume)
        _, height, width = held.shape
        ys, xs = zip(*question.ridge, strict=True)
        margin = question.width_px
        place = _place(
            question.volume,
            question.z,
            max(0, min(ys) - margin),
            max(0, min(xs) - margin),
            min(height, max(ys) + margin + 1),
            min(width, max(xs) + margin + 1),
        )
        mask = self.log.mask(place, held.read, seen).astype(np.uint8)
        ridge = [(y - place.y, x - place.x) for y, x in question.ridge]
        answer = draft.detail["answer"]
        # What the mask says already needs no pixel changed, and the answer still counts.
        changed = mask
        if answer == "yes" and not question.has_membrane:
            changed = draw_ridge(mask, ridge, question.width_px)
        elif answer == "no" and question.has_membrane:
            changed = erase_ridge(mask, ridge, question.width_px)
        answered = draft.model_copy(update={"place": place, "runs": encode_runs(changed != mask)})
        return self.log.append(answered, author, seen, held.read)

    def append(self, draft: Draft, author: str, seen: int) -> Appended | Outdated:
        """Add a correction or a decision; see `ReviewLog.append`.

        Raises
        ------
        InputError
            When its place is not one of this review.
        """
        if draft.place is None:
            raise InputError("an entry about no place", expected="a rectangle", fix="name the rectangle")
        place, held = draft.place, self.volume(draft.place.volume)
        inside = place.z < held.shape[0] and place.y + place.height <= held.shape[1]
        if not (inside and place.x + place.width <= held.shape[2]):
            raise InputError("outside the volume", expected=f"within {held.shape}", found=place, fix="reload the page")
        return self.log.append(draft, author, seen, held.read)

    def propose(self, place: Place, of: Neighbour) -> NDArray[np.bool_]:
        """Return the mask that a rectangle would have by its neighbours: one of them, or what lies between the two.

        Raises
        ------
        InputError
            When there is no such neighbour, or the rectangle leaves the volume.
        """
        held = self.volume(place.volume)
        offsets = {"below": (-1,), "above": (1,), "between": (-1, 1)}[of]
        sections = [place.z + offset for offset in offsets]
        if not all(0 <= z < held.shape[0] for z in sections):
            raise InputError("no such neighbouring section", fix="go to a section that has one")
        masks = [self.log.mask(place.model_copy(update={"z": z}), held.read) for z in sections]
        return masks[0] if len(masks) == 1 else interpolate_masks(*masks)

    def _corrected(self, held: Reviewed, z: int, factor: int, tile: tuple[int, int, int, int]) -> list[Place]:
        """Return the regions of a coarse tile that hold corrections, in pixels of the section."""
        y, x, y1, x1 = (n * factor for n in tile)
        _, height, width = held.shape
        cells = set()
        # Cells begin on the lattice of the coarse pixels.
        edge = max(REGION_PX, factor)
        for entry in self.log.changes(held.name, z, 0):
            own = entry.place
            if own is not None and own.y < y1 and own.y + own.height > y and own.x < x1 and own.x + own.width > x:
                for row in range(max(own.y, y) // edge, (min(own.y + own.height, y1) - 1) // edge + 1):
                    for column in range(max(own.x, x) // edge, (min(own.x + own.width, x1) - 1) // edge + 1):
                        cells.add((row, column))
        return [
            _place(held.name, z, r * edge, c * edge, min(r * edge + edge, height), min(c * edge + edge, width))
            for r, c in sorted(cells)
        ]


def _open(workspace: Workspace, run: str, name: str) -> Reviewed:
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
    return Reviewed(name, raw, probability, result.levels(mask_layer(workspace, run, name)), reader_of(mask))


def _in_order(held: Reviewed) -> list[Region]:
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


def _place(name: str, z: int, y: int, x: int, y1: int, x1: int) -> Place:
    return Place(volume=name, z=z, y=y, x=x, height=y1 - y, width=x1 - x)


def _shrink(mask: NDArray[np.bool_], factor: int) -> NDArray[np.bool_]:
    height, width = (ceil_div(n, factor) * factor for n in mask.shape)
    padded = np.zeros((height, width), bool)
    padded[: mask.shape[0], : mask.shape[1]] = mask
    blocks = padded.reshape(height // factor, factor, width // factor, factor)
    small: NDArray[np.bool_] = blocks.max(axis=(1, 3))
    return small


def _key_of(question: Question) -> str:
    """Return what a page calls a question: the same for the same place, whatever its rank."""
    return hashlib.sha256(repr((question.volume, question.z, question.ridge)).encode()).hexdigest()[:16]
