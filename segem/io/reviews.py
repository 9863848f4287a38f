"""The log of a review: who changed which pixels of a run's mask, in SQLite, only ever added to.

It is the only truth of a review. Each entry holds the digest of the one before, so that a byte that was changed later
is found; that the whole was written anew is found by its head, which the report of the run keeps.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segem.errors import InputError, WorkspaceError
from segem.io.files import disk_errors
from segem.io.journal import set_journal
from segem.io.review_rows import (
    BY_KIND,
    COLUMNS,
    VERSION,
    digest_mask,
    digest_row,
    list_statements,
    make_row,
    plain_part,
    read_row,
    require_mask,
    seal_decision,
)
from segem.kernels.flips import combine_flips, find_touched, overlap, share_region
from segem.kernels.runs import decode_runs, encode_runs
from segem.records.review import EMPTY, WORK, Draft, Entry, Head, Kind, Place

REGION_PX = 256
"""Two people who change the same region at once are told of each other."""
LOG = "reviews.sqlite"
_PATIENCE_S = 120
"""SQLite keeps no queue of writers: of processes that write without a pause, one may be passed over for long."""
_TOUCHES = "WHERE volume = ? AND z = ? AND y < ? AND y + height > ? AND x < ? AND x + width > ?"

ReadMask = Callable[[Place], NDArray[np.bool_]]
"""Returns the pixels of a rectangle of the mask that is reviewed, as it was before any review; raises where the
rectangle leaves the volume."""


@dataclass(frozen=True)
class Appended:
    """An entry that is on disk."""

    entry: Entry
    others: tuple[Entry, ...]
    """What others have changed of the section since the reviewer last asked."""


@dataclass(frozen=True)
class Outdated:
    """An entry that was not added: somebody else has changed the same region since the reviewer looked."""

    others: tuple[Entry, ...]


class ReviewLog:
    """The entries of a review on disk; several processes and threads may add to it at once.

    Parameters
    ----------
    path : Path
        The SQLite file, on a disk of this host; made when missing.

    Raises
    ------
    WorkspaceError
        When it cannot be opened, is no log, or one of another version.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, ReviewLog(Path(folder) / LOG) as log:
    ...     entry = log.note("invite", {"name": "Ana", "token_sha256": "ab"}, "me")
    ...     entry.number, log.verify().entries
    (1, 1)
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # Of one thread: what reads a mask may itself ask the log.
        self._lock = threading.RLock()
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        with self._faults():
            self._db = sqlite3.connect(path, timeout=_PATIENCE_S, isolation_level=None, check_same_thread=False)
            set_journal(self._db, "WAL", _PATIENCE_S)
            # In WAL mode, NORMAL would not sync at a commit, and a power cut could lose what was acknowledged.
            self._db.execute("PRAGMA synchronous=FULL")
            with self._writing():
                self._prepare()

    def __enter__(self) -> ReviewLog:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._db.close()

    def append(self, draft: Draft, author: str, seen: int, read: ReadMask) -> Appended | Outdated:
        """Add one entry about a place; see `append_all`."""
        return self.append_all((draft,), author, seen, read)

    def append_all(
        self,
        drafts: Sequence[Draft],
        author: str,
        seen: int,
        read: ReadMask,
        list_changes: Callable[[], Sequence[Entry]] | None = None,
    ) -> Appended | Outdated:
        """Add entries about places of a section, all of them or none, unless somebody has changed their regions since.

        Parameters
        ----------
        drafts : sequence of Draft
            What is to be added, one or more; their places are within the volume.
        author : str
            Who does.
        seen : int
            Number of the last entry that the reviewer knew.
        read : callable
            Reads the mask as it was before any review.
        list_changes : callable, optional
            Returns the changes of the section that the author can know of and has not seen; all since `seen` when
            absent.

        Returns
        -------
        Appended or Outdated
            The last entry; all are on disk. What was added before, by the same `id`, is returned again.

        Raises
        ------
        InputError
            When a draft has no place, its runs do not fit, or `seen` is not of this log.
        WorkspaceError
            When the disk refuses.
        """
        for draft in drafts:
            if draft.place is None:
                raise InputError("an entry about no place", expected="a rectangle", fix="name the rectangle")
            decode_runs(draft.runs, (draft.place.height, draft.place.width))
        ids = [draft.id for draft in drafts]
        with self._lock, self._writing():
            first = drafts[0].place
            if list_changes is not None:
                others = list_changes()
            else:
                others = [] if first is None else self._changes(first.volume, first.z, seen)
            known = self._entries(f"WHERE id IN ({', '.join('?' * len(ids))})", *ids)
            if known:
                if [(author, *plain_part(draft)) for draft in drafts] != [
                    (one.author, *plain_part(one)) for one in known
                ]:
                    raise InputError(
                        "another entry has this id", where=ids[0], fix="choose a new id at random for each entry"
                    )
                return Appended(known[-1], tuple(one for one in others if one.id not in ids))
            if seen > self._head().entries:
                raise InputError(
                    "no such entry has been written", where=seen, found=self._head().entries, fix="reload the page"
                )
            mine = [draft.place for draft in drafts if draft.place is not None]
            if any(share_region(one.place, own, REGION_PX) for one in others if one.place is not None for own in mine):
                return Outdated(tuple(others))
            for draft in drafts:
                entry = self._add(seal_decision(draft, read), author, self._digest_before(draft, read))
            return Appended(entry, tuple(others))

    def revert(self, number: int, author: str, draft_id: str, read: ReadMask) -> Entry:
        """Take an entry back: pixels that nobody has changed since become what they were before it.

        Parameters
        ----------
        number : int
            Of the entry; it stays in the log.
        author : str
            Who takes it back.
        draft_id : str
            As in `Draft`.
        read : callable
            As in `append`.

        Returns
        -------
        Entry

        Raises
        ------
        InputError
            When there is no such entry, or it changed no pixel.
        """
        with self._lock, self._writing():
            known = self._entries("WHERE id = ?", draft_id)
            if known:
                return known[0]
            found = self._entries("WHERE number = ?", number)
            if not found or found[0].before is None or found[0].place is None:
                raise InputError("no entry that changed pixels has this number", where=number, fix="see the history")
            place = found[0].place
            later = [one for one in self._changes(place.volume, place.z, number) if overlap(one.place, place)]
            flips = combine_flips([found[0]], place) & ~find_touched(later, place)
            draft = Draft(
                id=draft_id, kind="revert", place=place, runs=encode_runs(flips), detail={"of": found[0].number}
            )
            return self._add(draft, author, self._digest_before(draft, read))

    def mask(self, place: Place, read: ReadMask, upto: int | None = None) -> NDArray[np.bool_]:
        """Return the mask of a rectangle with all corrections, or with those up to an entry."""
        with self._lock, self._faults():
            return self._mask(place, read, upto)

    def replay_section(self, volume: str, z: int, read: ReadMask) -> tuple[tuple[int, int], NDArray[np.bool_]] | None:
        """Make all changes of a section again, in their order.

        Returns
        -------
        ((y, x), (y, x) bool) or None
            The rectangle that holds all that was changed: its corner and its mask now. None where nothing was.

        Raises
        ------
        WorkspaceError
            When a change was made of another mask than the one that is read.
        """
        made = self.changes(volume, z, 0)
        places = [one.place for one in made if one.place is not None]
        if not places:
            return None
        top, left = min(p.y for p in places), min(p.x for p in places)
        height, width = max(p.y + p.height for p in places) - top, max(p.x + p.width for p in places) - left
        # Larger, maybe, than what one entry may be about.
        whole = Place.model_construct(volume=volume, z=z, y=top, x=left, height=height, width=width)
        mask = read(whole).copy()
        for entry, place in zip(made, places, strict=True):
            window = mask[place.y - top : place.y - top + place.height, place.x - left : place.x - left + place.width]
            require_mask(window, entry)
            window ^= decode_runs(entry.runs, window.shape)
        return (top, left), mask

    def changes(self, volume: str, z: int, seen: int) -> list[Entry]:
        """Return the entries after `seen` that changed pixels of a section."""
        with self._lock, self._faults():
            return self._changes(volume, z, seen)

    def note(self, kind: Kind, detail: dict[str, str | int], author: str) -> Entry:
        """Add an entry that is about no place."""
        with self._lock, self._writing():
            return self._add(Draft(id=secrets.token_hex(16), kind=kind, detail=detail), author, None)

    def entries(self, kinds: Sequence[Kind] = (), volume: str | None = None) -> list[Entry]:
        """Return the entries in their order, those of some kinds or of one volume alone where that is asked."""
        among = f"kind IN ({', '.join('?' * len(kinds))})" if kinds else "1"
        with self._lock, self._faults():
            return self._entries(f"WHERE {among} AND (? IS NULL OR volume = ?)", *kinds, volume, volume)

    def entry(self, number: int) -> Entry | None:
        """Return the entry of a number."""
        with self._lock, self._faults():
            return next(iter(self._entries("WHERE number = ?", number)), None)

    def head(self) -> Head:
        """Return the end of the log."""
        with self._lock, self._faults():
            return self._head()

    def verify(self, head: Head | None = None) -> Head:
        """Check that no entry was changed, lost or put in since it was written, and return the head.

        Parameters
        ----------
        head : Head, optional
            One that was kept before, as by a report: the log must still begin with what it stands for.

        Raises
        ------
        WorkspaceError
            Naming the first entry that is not what it was.
        """
        previous, count, met = EMPTY.digest, 0, head is None or head == EMPTY
        with self._lock, self._faults():
            rows = self._db.execute(f"SELECT {COLUMNS}, digest FROM entries ORDER BY number")  # noqa: S608
            for row in rows:
                count += 1
                if row[0] != count or row[1] != previous or digest_row(row[:-1]) != row[-1]:
                    raise _changed(self.path, f"entry {count} is not what was written")
                previous = row[-1]
                met = met or (head is not None and (head.entries, head.digest) == (count, previous))
        if not met:
            raise _changed(self.path, "it is not the log that the report of the run was written of")
        return Head(entries=count, digest=previous)

    def last_entry(self, place: Place) -> int:
        """Return the number of the last entry about a part of a rectangle, 0 where there is none."""
        with self._lock, self._faults():
            row = self._db.execute(f"SELECT max(number) FROM entries {_TOUCHES}", _corners(place)).fetchone()  # noqa: S608
            return int(row[0] or 0)

    def first_entry(self, place: Place, author: str | None = None) -> Entry | None:
        """Return the first change of, or decision about, a part of a rectangle: by anybody, or by one person."""
        worked = f"{_TOUCHES} AND kind IN ({', '.join('?' * len(WORK))}) AND (? IS NULL OR author = ?)"
        with self._lock, self._faults():
            return next(iter(self._entries(worked, *_corners(place), *WORK, author, author)), None)

    def _digest_before(self, draft: Draft, read: ReadMask) -> str | None:
        """Return the digest of the mask that a draft changes; None where it changes nothing."""
        if draft.place is None or not any(draft.runs[1::2]):
            return None
        return digest_mask(self._mask(draft.place, read))

    def _add(self, draft: Draft, author: str, before: str | None) -> Entry:
        """Write an entry; the caller holds the transaction."""
        row = make_row(draft, author, before, self._head())
        self._db.execute(f"INSERT INTO entries VALUES ({', '.join('?' * len(row))})", row)  # noqa: S608
        return read_row(row)

    def _head(self) -> Head:
        row = self._db.execute("SELECT number, digest FROM entries ORDER BY number DESC LIMIT 1").fetchone()
        return EMPTY if row is None else Head(entries=row[0], digest=row[1])

    def _changes(self, volume: str, z: int, seen: int) -> list[Entry]:
        return self._entries("WHERE volume = ? AND z = ? AND number > ? AND before IS NOT NULL", volume, z, seen)

    def _mask(self, place: Place, read: ReadMask, upto: int | None = None) -> NDArray[np.bool_]:
        last = 2**62 if upto is None else upto
        near = self._entries(f"{_TOUCHES} AND before IS NOT NULL AND number <= ?", *_corners(place), last)
        mask: NDArray[np.bool_] = read(place) ^ combine_flips(near, place)
        return mask

    def _entries(self, where: str, *values: object) -> list[Entry]:
        query = f"SELECT {COLUMNS}, digest FROM entries {where} ORDER BY number"  # noqa: S608 - texts of this module
        return [read_row(row) for row in self._db.execute(query, values)]

    def _prepare(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and version != VERSION:
            raise WorkspaceError(
                "not a log of reviews, or of another version of segem",
                where=self.path,
                expected=f"version {VERSION}",
                found=f"version {version}",
                fix="open it with the version that made it; it holds people's work, so never delete it",
            )
        if not tables:
            for statement in list_statements():
                self._db.execute(statement)
        self._db.execute(BY_KIND)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the right to write, of all processes, and commit at the end of the body."""
        with self._faults():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                # A full disk has ended it already, and what it says of that is what matters.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise WorkspaceError(
                "the log of the review cannot be used",
                where=self.path,
                found=str(error),
                fix="check the disk and the rights of the folder; the log holds people's work, so never delete it",
            ) from None


def _corners(place: Place) -> tuple[object, ...]:
    return place.volume, place.z, place.y + place.height, place.y, place.x + place.width, place.x


def _changed(path: Path, what: str) -> WorkspaceError:
    return WorkspaceError(
        "the log of the review was changed after it was written",
        where=path,
        found=what,
        fix="restore it from a copy, and find out who can write this file",
    )
