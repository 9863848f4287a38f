"""The log of a review: who changed which pixels of a run's mask, in SQLite, only ever added to.

It is the only truth of a review. Each entry holds the digest of the one before, so that a byte that was changed later
is found; that the whole was written anew is found by its head, which the report of the run keeps.
"""

from __future__ import annotations

import hashlib
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
from segem.io.review_rows import COLUMNS, VERSION, digest_row, list_statements, make_row, read_row
from segem.kernels.flips import combine_flips, find_touched, overlap, share_region
from segem.kernels.runs import decode_runs, encode_runs
from segem.records.review import EMPTY, Draft, Entry, Head, Kind, Place

REGION_PX = 256
"""Two people who change the same region at once are told of each other."""
LOG = "reviews.sqlite"
_PATIENCE_S = 120
"""SQLite keeps no queue of writers: of processes that write without a pause, one may be passed over for long."""

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
        self._lock = threading.Lock()
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        with self._faults():
            self._db = sqlite3.connect(path, timeout=_PATIENCE_S, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
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
        """Add an entry about a place, unless somebody has changed its regions since.

        Parameters
        ----------
        draft : Draft
            What is to be added; its place is within the volume.
        author : str
            Who does.
        seen : int
            Number of the last entry that the reviewer knew.
        read : callable
            Reads the mask as it was before any review.

        Returns
        -------
        Appended or Outdated
            An entry that is returned is on disk. One that was added before, by the same `id`, is returned again.

        Raises
        ------
        InputError
            When the draft has no place, its runs do not fit, or `seen` is not of this log.
        WorkspaceError
            When the disk refuses.
        """
        if draft.place is None:
            raise InputError("an entry about no place", expected="a rectangle", fix="name the rectangle")
        place = draft.place
        flips = decode_runs(draft.runs, (place.height, place.width))
        with self._lock, self._writing():
            known = self._entries("WHERE id = ?", draft.id)
            others = self._changes(place.volume, place.z, seen)
            if known:
                if known[0].author != author or _plain(known[0]) != _plain(draft):
                    raise InputError(
                        "another entry has this id", where=draft.id, fix="choose a new id at random for each entry"
                    )
                return Appended(known[0], tuple(one for one in others if one.id != draft.id))
            if seen > self._head().entries:
                raise InputError(
                    "no such entry has been written", where=seen, found=self._head().entries, fix="reload the page"
                )
            if any(share_region(one.place, place, REGION_PX) for one in others if one.place is not None):
                return Outdated(tuple(others))
            before = _digest_of(self._mask(place, read)) if flips.any() else None
            return Appended(self._add(draft, author, before), tuple(others))

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
            return self._add(draft, author, _digest_of(self._mask(place, read)) if flips.any() else None)

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
            if _digest_of(window) != entry.before:
                raise WorkspaceError(
                    "the mask is not the one that was reviewed",
                    where=f"{volume}, section {z}",
                    found=f"other pixels than entry {entry.number} of the log was made of",
                    fix="bring back the mask that was reviewed, or review the new one under another run",
                )
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
        near = self._entries(
            "WHERE volume = ? AND z = ? AND before IS NOT NULL AND y < ? AND y + height > ? AND x < ? AND x + width > ?"
            " AND number <= ?",
            *(place.volume, place.z, place.y + place.height, place.y, place.x + place.width, place.x),
            2**62 if upto is None else upto,
        )
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

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the right to write, of all processes, and commit at the end of the body."""
        with self._faults():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
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


def _digest_of(mask: NDArray[np.bool_]) -> str:
    return hashlib.sha256(f"{mask.shape}".encode() + np.packbits(mask).tobytes()).hexdigest()


def _plain(draft: Draft) -> tuple[object, ...]:
    return draft.kind, draft.place, draft.runs, draft.detail


def _changed(path: Path, what: str) -> WorkspaceError:
    return WorkspaceError(
        "the log of the review was changed after it was written",
        where=path,
        found=what,
        fix="restore it from a copy, and find out who can write this file",
    )
