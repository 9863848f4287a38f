"""What one person sees and changes of a mask apart from all others.

Two kinds of regions are a person's own. In a *control* an error is planted; it and what the person does about it are
seen by nobody else. In a *second reading* each person but the first sees the mask as the model left it. Both are kept
in the log under a name that is no volume's: whoever reads the entries of a volume reads nothing of them.

Which regions these are follows from a secret of the review, and nothing that is sent to a page tells them from others:
entries lie within one region each, whosever it is.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from segem.io.readings import read_plant
from segem.io.reviews import ReadMask, ReviewLog
from segem.kernels.flips import cut_draft, intersect, leave_out, overlap
from segem.kernels.tiles import tile_starts
from segem.records.review import SHEET, Draft, Entry, Place

_SEEDED = "segem"
# The log keeps whole numbers.
_PARTS = 10**6


@dataclass(frozen=True)
class Checks:
    """How the work of reviewers is checked, without their knowing where.

    Parameters
    ----------
    control_every : int
        One region in so many is a control; 0 for none.
    second_share : float
        Share of regions that are read by two people; what it was when the review began holds.
    sample : int
        Begin with so many regions of each volume, drawn at random, instead of those that are most likely wrong.
    """

    control_every: int = 0
    second_share: float = 0.0
    sample: int = 0


@dataclass(frozen=True)
class Lattice:
    """How the sections of a volume are cut into regions.

    Parameters
    ----------
    volume : str
        Its name.
    rows, columns : tuple of int
        Where regions begin, and the end of the last one.

    Examples
    --------
    >>> lattice = Lattice.cut("v", (300, 700), even=True)
    >>> [(cell.y, cell.x) for cell in lattice.cells(Place(volume="v", z=0, y=0, x=230, height=9, width=9))]
    [(0, 0), (0, 233)]
    """

    volume: str
    rows: tuple[int, ...]
    columns: tuple[int, ...]

    @classmethod
    def cut(cls, volume: str, section: tuple[int, int], *, even: bool, region_px: int = 256) -> Lattice:
        """Cut sections into regions: of about one size, as error maps do, or of one size but for the last."""
        starts = ((tile_starts(n, region_px) if even else np.arange(0, n, region_px)).tolist() for n in section)
        rows, columns = ((*begin, n) for begin, n in zip(starts, section, strict=True))
        return cls(volume, tuple(rows), tuple(columns))

    def cells(self, place: Place) -> Iterator[Place]:
        """Yield the regions that a rectangle touches."""
        spans = []
        for edges, start, length in ((self.rows, place.y, place.height), (self.columns, place.x, place.width)):
            first, last = np.searchsorted(edges, [start, start + length - 1], "right") - 1
            spans.append([(edges[k], edges[k + 1]) for k in range(int(first), int(last) + 1)])
        for y0, y1 in spans[0]:
            for x0, x1 in spans[1]:
                yield Place(volume=self.volume, z=place.z, y=y0, x=x0, height=y1 - y0, width=x1 - x0)


class Known(Protocol):
    """What must be known of a volume that is reviewed."""

    @property
    def read(self) -> ReadMask:
        """Its mask before any review."""

    @property
    def lattice(self) -> Lattice:
        """Its regions."""


class Apart:
    """The views of a review that people have.

    Parameters
    ----------
    log : ReviewLog
        Of the review.
    checks : Checks
        See there.

    Notes
    -----
    What a person sees never changes by itself: a control is one before they have seen anything of the volume, and a
    region of two readers is shown to each as the model left it, but to the first of them, whose changes are all that
    there are. So no page has to be told to forget what it has shown.
    """

    def __init__(self, log: ReviewLog, checks: Checks) -> None:
        self.log = log
        self.seed, self.checks = _settle(log, checks)
        self._controls: dict[tuple[str, str], dict[Place, NDArray[np.bool_]]] = {}

    def draw(self, *words: object) -> int:
        """Return a number of 64 bits that the seed gives to something."""
        told = "\n".join(map(str, (self.seed, *words)))
        return int.from_bytes(hashlib.sha256(told.encode()).digest()[:8])

    def sheet(self, person: str, volume: str) -> str:
        """Return the name under which the log keeps what is a person's own of a volume."""
        return f"{volume}{SHEET}{self.draw('sheet', person):016x}"

    def is_twice(self, cell: Place) -> bool:
        """Return whether two people are to read a region."""
        return self.draw("twice", cell.volume, cell.z, cell.y, cell.x) < self.checks.second_share * 2**64

    def is_control(self, person: str, cell: Place) -> bool:
        """Return whether a region is a control of a person."""
        return cell in self.controls(person, cell.volume)

    def is_blind(self, person: str, cell: Place) -> bool:
        """Return whether a region is read by two, and somebody else was the first."""
        return self.is_twice(cell) and (first := self.log.first_entry(cell)) is not None and first.author != person

    def is_own(self, person: str, cell: Place) -> bool:
        """Return whether what a person does about a region is kept apart."""
        return self.is_control(person, cell) or self.is_blind(person, cell)

    def controls(self, person: str, volume: str) -> Mapping[Place, NDArray[np.bool_]]:
        """Return the regions of a volume in which an error is planted for a person, each with the planted pixels."""
        if (person, volume) not in self._controls:
            planted = (read_plant(one) for one in self.log.entries(("plant",), self.sheet(person, volume)))
            self._controls[person, volume] = {
                place.model_copy(update={"volume": volume}): flips for place, flips in planted
            }
        return self._controls[person, volume]

    def plant(self, person: str, volume: str, drafts: Sequence[Draft], held: Known) -> None:
        """Keep the errors that were planted for a person who has seen nothing of the volume yet."""
        if drafts:
            self.log.append_all(drafts, _SEEDED, 0, held.read, lambda: ())
        self._controls.pop((person, volume), None)

    def reader(self, person: str, held: Known, upto: int | None = None) -> ReadMask:
        """Return what reads the mask that a person's own entries are made of, as the log asks for it."""
        sheet = self.sheet(person, held.lattice.volume)

        def read(place: Place) -> NDArray[np.bool_]:
            if place.volume != sheet:
                return held.read(place)
            shared = place.model_copy(update={"volume": held.lattice.volume})
            (cell,) = held.lattice.cells(place)
            planted = self.controls(person, held.lattice.volume).get(cell)
            if planted is None:
                return held.read(shared)
            mask: NDArray[np.bool_] = self.log.mask(shared, held.read, upto) ^ planted[slices_in(place, cell)]
            return mask

        return read

    def see(self, person: str, place: Place, held: Known, upto: int | None = None) -> NDArray[np.bool_]:
        """Return the mask of a rectangle as a person sees it."""
        base = held.read(place)
        mask = self.log.mask(place, lambda _: base.copy(), upto)
        if not self.seed:
            return mask
        # Asked for whether or not there is such a region here: what takes longer would be noticed.
        sheet = place.model_copy(update={"volume": self.sheet(person, place.volume)})
        own = self.log.mask(sheet, lambda _: np.zeros_like(base), upto)
        controls = self.controls(person, place.volume)
        for cell in held.lattice.cells(place):
            part = intersect(place, cell)
            here = slices_in(part, place)
            if (planted := controls.get(cell)) is not None:
                mask[here] ^= own[here] ^ planted[slices_in(part, cell)]
            elif self.is_blind(person, cell):
                mask[here] = base[here] ^ own[here]
        return mask

    def last_entry(self, person: str, place: Place) -> int:
        """Return the number of the last entry that can have changed what a person sees of a rectangle, 0 for none."""
        sheet = place.model_copy(update={"volume": self.sheet(person, place.volume)})
        return max(self.log.last_entry(place), self.log.last_entry(sheet))

    def left(self, person: str, cell: Place, held: Known) -> NDArray[np.bool_]:
        """Return the mask of a region as a person sees it, but for an error that was planted there."""
        mask, planted = self.see(person, cell, held), self.controls(person, cell.volume).get(cell)
        return mask if planted is None else np.where(planted, held.read(cell), mask)

    def route(self, person: str, draft: Draft, held: Known) -> list[Draft]:
        """Cut what a person changes by regions, and name those that are kept apart."""
        if draft.place is None:
            return [draft]
        routed = []
        for part in cut_draft(draft, list(held.lattice.cells(draft.place))):
            place = part.place
            cells = [] if place is None else list(held.lattice.cells(place))
            # What lies in several regions changes nothing, and is about the first one.
            if place is not None and self.is_own(person, cells[0]):
                place = intersect(place, cells[0]).model_copy(update={"volume": self.sheet(person, place.volume)})
                part = part.model_copy(update={"place": place})
            routed.append(part)
        return routed

    def show(self, person: str, entries: Sequence[Entry], held: Known) -> list[Entry]:
        """Return those entries of a volume, and of people's own, that a person can know of, as they know them."""
        name, sheet = held.lattice.volume, self.sheet(person, held.lattice.volume)
        shown = []
        for entry in entries:
            place = entry.place
            if place is None or place.volume not in {name, sheet}:
                continue
            if place.volume == sheet:
                shown.append(entry.model_copy(update={"place": place.model_copy(update={"volume": name})}))
                continue
            kept: Entry | None = entry
            for cell in held.lattice.cells(place) if self.checks.second_share else ():
                if kept is not None and self.is_blind(person, cell) and overlap(place, cell):
                    # Without pixels, as a decision is: all of it is hidden.
                    kept = leave_out(kept, cell) if kept.before is not None else None
            if kept is not None:
                shown.append(kept)
        return shown

    def changes(self, person: str, volume: str, z: int, seen: int, held: Known) -> list[Entry]:
        """Return the entries after `seen` that changed pixels of a section, as far as a person can know of them."""
        made = self.log.changes(volume, z, seen)
        if self.seed:
            made = sorted(
                [*made, *self.log.changes(self.sheet(person, volume), z, seen)], key=lambda entry: entry.number
            )
        return self.show(person, made, held)


def slices_in(part: Place, whole: Place) -> tuple[slice, slice]:
    """Return where a rectangle lies in another that holds it."""
    top, left = part.y - whole.y, part.x - whole.x
    return slice(top, top + part.height), slice(left, left + part.width)


def _settle(log: ReviewLog, checks: Checks) -> tuple[str, Checks]:
    """Return the secret of a review, made when it has none, and its checks; nothing where nothing is to be checked."""
    noted = log.entries(("seed",))
    if not noted:
        if checks == Checks():
            return "", checks
        share = round(checks.second_share * _PARTS)
        log.note("seed", {"seed": secrets.token_hex(32), "second_share": share}, _SEEDED)
        noted = log.entries(("seed",))
    # Another share would take regions apart that people have changed together, or the other way round.
    detail = noted[0].detail
    return str(detail["seed"]), replace(checks, second_share=int(detail["second_share"]) / _PARTS)
