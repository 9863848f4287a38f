"""One review: the volumes of a run, their masks with all corrections, and what is worth looking at in them."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice, product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from segem.errors import InputError, SegemError
from segem.geometry import Box, ceil_div
from segem.io.blocks import read_block
from segem.io.readings import TwoReadings
from segem.io.reviewed import open_log, reviewable, verify_review
from segem.io.reviewers import list_reviewers
from segem.io.reviews import REGION_PX, Appended, Outdated, ReviewLog
from segem.io.shards import shape_of
from segem.io.workspace import Workspace
from segem.kernels.between import interpolate_masks
from segem.kernels.runs import encode_runs
from segem.records.review import SHEET, WORK, Draft, Entry, Kind, Place
from segem.records.review_queue import Question, Region
from segem.review.answering import flip_by_answer, place_question
from segem.review.apart import Apart, Checks
from segem.review.controls import Patch, patch_probability, plan_controls
from segem.review.pictures import TILE_PX, Amend, no_such
from segem.review.questions import list_questions
from segem.review.queue import rank_regions
from segem.review.sample import draw_sample
from segem.review.volumes import MOST_REGIONS, Reviewed, list_in_order, open_all_reviewed, place_between, place_of

Neighbour = Literal["below", "above", "between"]
NO_CHECKS = Checks()
_AHEAD = 8
"""Volumes that are prepared for each person: what is held for them of each is some megabytes."""
_INVITED_SECONDS = 1.0
"""How often it is looked whether somebody was invited."""


class Review:
    """A run that is being reviewed.

    Parameters
    ----------
    workspace : Workspace
        Where the run lies.
    run : str
        Its name.
    checks : Checks, optional
        How the work of reviewers is checked.
    chosen : sequence of Region, optional
        What is labelled from nothing, in this order, instead of the regions that are most likely wrong.

    Raises
    ------
    InputError
        When no volume of the run has a finished mask.
    WorkspaceError
        When there is no such run, the log of its review was changed or is not the one that the report knows, or every
        mask was computed anew since it was reviewed.
    """

    def __init__(
        self, workspace: Workspace, run: str, *, checks: Checks = NO_CHECKS, chosen: Sequence[Region] = ()
    ) -> None:
        self.workspace, self.run, self.labelling = workspace, run, bool(chosen)
        names = reviewable(workspace, run)
        if not names:
            raise InputError(
                "no volume of this run has a finished mask", where=run, fix="finish the run first: see `segem runs`"
            )
        verify_review(workspace, run)
        self.log: ReviewLog = open_log(workspace, run)
        self.volumes = open_all_reviewed(workspace, run, names, self.log)
        self.pictures = {
            one.key: one for held in self.volumes.values() for one in (held.raw, held.probability) if one is not None
        }
        self.apart = Apart(self.log, checks)
        self._regions: dict[tuple[str, bool], list[Region]] = {}
        if chosen:
            self._regions[chosen[0].volume, False] = list(chosen[:MOST_REGIONS])
        self._questions: dict[tuple[str, int], dict[str, Question]] = {}
        self.overlaps: dict[tuple[str, Place], tuple[int, int, int]] = {}
        """Of a person and a region: the last entry about it, and how its mask agreed with its correction then."""
        self._patches: dict[tuple[str, str], list[Patch]] = {}
        # One a volume: what is done ahead for one of them keeps nobody at another waiting.
        self._busy = {name: threading.RLock() for name in names}
        # Whose a region is, and what is added to it, must be one step.
        self._adding = threading.Lock()
        self._closed = threading.Event()
        self.on_decision: Callable[[], None] = lambda: None
        """Called after each decision that was added to the log."""

    def close(self) -> None:
        """Close the log."""
        self._closed.set()
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

    def regions(self, name: str, *, drawn: bool = False) -> list[Region]:
        """Return the regions of a volume, those where looking is worth most first, or some that are drawn at random.

        Without a probability nothing is known of where errors are, and they come in their order.
        """
        held, key = self.volume(name), (name, drawn and not self.labelling)
        # One at a time: two pages that open a review would compute the same twice.
        with self._busy[name]:
            if key not in self._regions:
                if key[1]:
                    found = draw_sample(self.apart, held)
                elif held.probability is not None:
                    found = rank_regions(self.workspace, self.run, name, MOST_REGIONS)
                else:
                    found = list_in_order(held)
                self._regions[key] = found[:MOST_REGIONS]
            return self._regions[key]

    def listed(self, name: str) -> list[Region]:
        """Return the regions of a volume that pages list: its queue, and those drawn at random where it was asked."""
        return [*self.regions(name), *self._regions.get((name, True), ())]

    def questions(self, name: str, z: int) -> dict[str, Question]:
        """Return the questions about a section by their key, those worth most first; none without a probability."""
        held = self.volume(name)
        if not 0 <= z < held.shape[0]:
            raise InputError("no such section", fix="reload the page")
        with self._busy[name]:
            if (name, z) not in self._questions:
                found = [] if held.probability is None else list_questions(self.workspace, self.run, name, z)
                self._questions[name, z] = {_key_of(one): one for one in found}
            return self._questions[name, z]

    def held(self, person: str, name: str) -> Reviewed:
        """Return a volume by its name, for a person who looks at it, maybe for the first time.

        Raises
        ------
        InputError
            When it is not one of this review.
        """
        held = self.volume(name)
        if not self.apart.seed or (person, name) in self._patches:
            return held
        with self._busy[name]:
            if (person, name) not in self._patches:
                levels = [] if held.probability is None else held.probability.flat_levels
                if not self.apart.controls(person, name):
                    places = [entry.place for entry in self.log.entries(WORK, name) if entry.place]
                    touched = {cell for place in places for cell in held.lattice.cells(place)}
                    cells = (place_of(one) for one in self.regions(name, drawn=self.apart.checks.sample > 0))
                    queue = [one for one in cells if one not in touched]
                    planned = plan_controls(self.apart, person, queue, held, levels[0] if levels else None)
                    self.apart.plant(person, name, planned, held)
                plants = self.apart.controls(person, name).items() if levels else ()
                self._patches[person, name] = [
                    patch for cell, flips in plants for patch in patch_probability(cell, flips, held, levels)
                ]
        return held

    def prepare(self, person: str) -> None:
        """Do ahead what who serves, and whoever is invited, would wait for when they open one of the first volumes.

        It ends with the review: who is invited meanwhile opens their address some seconds later.
        """
        while self.apart.seed:
            # The log may be closed by now; who opens a volume that cannot be read is told so.
            with suppress(SegemError):
                people = (person, *list_reviewers(self.log))
                # The first volume first, of everybody: it is the one that opens.
                for name, one in product(islice(self.volumes, _AHEAD), people):
                    if self._closed.is_set():
                        return
                    self.held(one, name)
            if self._closed.wait(_INVITED_SECONDS):
                return

    def amend(self, person: str, key: str) -> Amend:
        """Return what makes pictures of a probability agree with the mask that a person sees."""
        names = [name for name, held in self.volumes.items() if held.probability and held.probability.key == key]

        def amend(level: int, box: Box, shown: NDArray[np.uint8]) -> None:
            for name in names:
                self.held(person, name)
                for patch in self._patches.get((person, name), ()):
                    patch.put(level, box, shown)

        return amend

    def tile(self, person: str, name: str, level: int, z: int, at: tuple[int, int]) -> tuple[int, NDArray[np.bool_]]:
        """Return a tile (row, column) of the mask that a person sees, and the number of the last entry that is in it.

        Coarser levels hold the largest value of the pixels they stand for, so that thin membranes stay whole.

        Raises
        ------
        InputError
            When there is no such tile.
        """
        held, (row, column) = self.held(person, name), at
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
            return upto, self.apart.see(person, place_between(name, z, y, x, y1, x1), held, upto)
        coarse = min(z // (held.raw.levels[level][1]), depth - 1)
        tile = read_block(array, Box((coarse, y, x), (coarse + 1, y1, x1)), "see `segem verify`")[0] == 1
        for part in self._corrected(person, held, z, 2**level, (y, x, y1, x1)):
            top, left = part.y // 2**level, part.x // 2**level
            fine = self.apart.see(person, part, held, upto)
            small = _shrink(fine, 2**level)
            tile[top - y : top - y + small.shape[0], left - x : left - x + small.shape[1]] = small
        return upto, tile

    def answer(self, draft: Draft, question: Question, author: str, seen: int) -> Appended | Outdated:
        """Change the mask as an answer says, and note it; see `ReviewLog.append` for what is returned."""
        held = self.held(author, question.volume)
        place = place_question(question, held.shape)
        mask = self.apart.see(author, place, held, seen)
        made = [one for one in self.changes(author, held.name, question.z, 0) if one.number <= seen]
        flips = flip_by_answer(question, draft.detail, mask, place, made)
        answered = draft.model_copy(update={"place": place, "runs": encode_runs(flips)})
        return self._append(answered, author, seen, held)

    def append(self, draft: Draft, author: str, seen: int) -> Appended | Outdated:
        """Add a correction or a decision; see `ReviewLog.append`.

        Raises
        ------
        InputError
            When its place is not one of this review.
        """
        if draft.place is None:
            raise InputError("an entry about no place", expected="a rectangle", fix="name the rectangle")
        place, held = draft.place, self.held(author, draft.place.volume)
        inside = place.z < held.shape[0] and place.y + place.height <= held.shape[1]
        if not (inside and place.x + place.width <= held.shape[2]):
            raise InputError("outside the volume", expected=f"within {held.shape}", found=place, fix="reload the page")
        done = self._append(draft, author, seen, held)
        if draft.kind == "decision" and isinstance(done, Appended):
            self.on_decision()
        return done

    def _append(self, draft: Draft, author: str, seen: int, held: Reviewed) -> Appended | Outdated:
        with self._adding:
            place, parts = draft.place, self.apart.route(author, draft, held)
            z = 0 if place is None else place.z
            done = self.log.append_all(
                parts,
                author,
                seen,
                self.apart.reader(author, held),
                lambda: self.apart.changes(author, held.name, z, seen, held),
            )
        if isinstance(done, Outdated):
            return done
        # As it was sent: in how many parts it is kept says nothing.
        whole = {"id": draft.id, "place": place, "runs": draft.runs, "active_seconds": draft.active_seconds}
        return Appended(done.entry.model_copy(update=whole), done.others)

    def take_reading(
        self, readings: TwoReadings, draft_id: str, author: str, *, second: bool, active_seconds: float
    ) -> None:
        """Let one of two readings of a region count, and note who has decided between them."""
        held, chosen = self.volume(readings.place.volume), readings.second if second else readings.first
        with self._adding:
            flips = self.log.mask(readings.place, held.read) ^ readings.masks[second]
            about: dict[str, dict[str, str | int]] = {
                "verdict": {"take": "second" if second else "first"},
                "decision": {"decision": chosen.detail["decision"], "note": ""},
                "correction": {"tool": "verdict"},
            }
            drafts = [
                Draft.model_validate({"id": f"{draft_id}-{k}", "kind": kind, "place": readings.place, "detail": detail})
                for k, (kind, detail) in enumerate(about.items())
            ]
            # The decision is there in each case.
            drafts[1] = drafts[1].model_copy(update={"active_seconds": active_seconds})
            drafts[-1] = drafts[-1].model_copy(update={"runs": encode_runs(flips)})
            self.log.append_all(drafts if flips.any() else drafts[:-1], author, 0, held.read, lambda: ())

    def revert(self, number: int, author: str, draft_id: str) -> Entry:
        """Take an entry back that its author or another person can know of; see `ReviewLog.revert`.

        Raises
        ------
        InputError
            When there is no such entry.
        """
        found = self.log.entry(number)
        if found is None or found.place is None or found.kind not in WORK:
            raise no_such("entry")
        held = self.held(author, found.place.volume.partition(SHEET)[0])
        if not self.apart.show(author, [found], held):
            raise no_such("entry")
        with self._adding:
            entry = self.log.revert(number, author, draft_id, self.apart.reader(author, held))
        (shown,) = self.apart.show(author, [entry], held)
        return shown

    def entries(self, person: str, name: str, kinds: Sequence[Kind] = WORK) -> list[Entry]:
        """Return the entries about a volume that a person can know of, in their order."""
        held = self.held(person, name)
        made = self.log.entries(kinds, name)
        if self.apart.seed:
            own = self.log.entries(kinds, self.apart.sheet(person, name))
            made = sorted([*made, *own], key=lambda entry: entry.number)
        return self.apart.show(person, made, held)

    def changes(self, person: str, name: str, z: int, seen: int) -> list[Entry]:
        """Return the entries after `seen` that changed pixels of a section, as far as a person can know of them."""
        return self.apart.changes(person, name, z, seen, self.held(person, name))

    def propose(self, person: str, place: Place, of: Neighbour) -> NDArray[np.bool_]:
        """Return the mask that a rectangle would have by its neighbours: one of them, or what lies between the two.

        Raises
        ------
        InputError
            When there is no such neighbour, or the rectangle leaves the volume.
        """
        held = self.held(person, place.volume)
        offsets = {"below": (-1,), "above": (1,), "between": (-1, 1)}[of]
        sections = [place.z + offset for offset in offsets]
        if not all(0 <= z < held.shape[0] for z in sections):
            raise InputError("no such neighbouring section", fix="go to a section that has one")
        masks = [self.apart.see(person, place.model_copy(update={"z": z}), held) for z in sections]
        return masks[0] if len(masks) == 1 else interpolate_masks(*masks)

    def _corrected(
        self, person: str, held: Reviewed, z: int, factor: int, tile: tuple[int, int, int, int]
    ) -> list[Place]:
        """Return the regions of a coarse tile that hold corrections, in pixels of the section."""
        y, x, y1, x1 = (n * factor for n in tile)
        _, height, width = held.shape
        cells = set()
        # Cells begin on the lattice of the coarse pixels.
        edge = max(REGION_PX, factor)
        changed = [entry.place for entry in self.apart.changes(person, held.name, z, 0, held)]
        for own in (*changed, *(one for one in self.apart.controls(person, held.name) if one.z == z)):
            if own is not None and own.y < y1 and own.y + own.height > y and own.x < x1 and own.x + own.width > x:
                for row in range(max(own.y, y) // edge, (min(own.y + own.height, y1) - 1) // edge + 1):
                    for column in range(max(own.x, x) // edge, (min(own.x + own.width, x1) - 1) // edge + 1):
                        cells.add((row, column))
        return [
            place_between(held.name, z, r * edge, c * edge, min(r * edge + edge, height), min(c * edge + edge, width))
            for r, c in sorted(cells)
        ]


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
