"""The log of a review: who changed which pixels of a run's mask, in SQLite, only ever added to.

It is the only truth of a review. Each entry holds the digest of the one before, so that a byte that was changed later
is found; that the whole was written anew is found by its head, which the report of the run keeps.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.errors import ConfigError, InputError, WorkspaceError
from segem.io.files import disk_errors
from segem.kernels.runs import decode_runs, encode_runs
from segem.records.review import EMPTY, Draft, Entry, Head, Place

REGION_PX = 256
"""Two people who change the same region at once are told of each other."""
LOG = "reviews.sqlite"
LONGEST_NAME = 80

_VERSION = 1
_COLUMNS = (
    "number, previous, id, time, author, kind, volume, z, y, x, height, width, before, runs, active_seconds, detail"
)
_SCHEMA = f"""
CREATE TABLE entries (
    number INTEGER PRIMARY KEY,
    previous TEXT NOT NULL,
    id TEXT NOT NULL UNIQUE,
    time TEXT NOT NULL,
    author TEXT NOT NULL,
    kind TEXT NOT NULL,
    volume TEXT, z INTEGER, y INTEGER, x INTEGER, height INTEGER, width INTEGER,
    before TEXT,           -- sha256 of the mask of that rectangle, where pixels change
    runs BLOB NOT NULL,    -- lengths, little-endian uint32
    active_seconds REAL NOT NULL,
    detail TEXT NOT NULL,  -- JSON
    digest TEXT NOT NULL   -- sha256 of all columns above
);
CREATE INDEX by_place ON entries (volume, z);
CREATE TRIGGER never_changed BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'a review is only added to'); END;
CREATE TRIGGER never_deleted BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'a review is only added to'); END;
PRAGMA user_version = {_VERSION};
"""

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
    ...     token = log.invite("Ana", "me")
    ...     log.reviewer_of(token), log.head().entries
    ('Ana', 1)
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        with self._faults():
            self._db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
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
            if any(_share_region(one.place, place) for one in others if one.place is not None):
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
            later = [one for one in self._changes(place.volume, place.z, number) if _overlap(one.place, place)]
            flips = _flips_in([found[0]], place) & ~_touched_in(later, place)
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

    def entries(self, kinds: Sequence[str] = (), volume: str | None = None) -> Iterator[Entry]:
        """Yield the entries in their order, those of some kinds or of one volume alone where that is asked."""
        with self._lock, self._faults():
            found = self._entries("WHERE ? IS NULL OR volume = ?", volume, volume)
        yield from (one for one in found if not kinds or one.kind in kinds)

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
            rows = self._db.execute(f"SELECT {_COLUMNS}, digest FROM entries ORDER BY number")  # noqa: S608
            for row in rows:
                count += 1
                if row[0] != count or row[1] != previous or _digest_row(row[:-1]) != row[-1]:
                    raise _changed(self.path, f"entry {count} is not what was written")
                previous = row[-1]
                met = met or (head is not None and (head.entries, head.digest) == (count, previous))
        if not met:
            raise _changed(self.path, "it is not the log that the report of the run was written of")
        return Head(entries=count, digest=previous)

    def invite(self, name: str, author: str) -> str:
        """Let a person review, and return the secret to give to them; a token they had before holds no longer.

        Only its digest is kept.

        Raises
        ------
        ConfigError
            When the name is empty, too long or not printable.
        """
        token = secrets.token_urlsafe(32)
        detail: dict[str, str | int] = {"name": check_reviewer(name), "token_sha256": _digest_of_token(token)}
        with self._lock, self._writing():
            self._add(Draft(id=secrets.token_hex(16), kind="invite", detail=detail), author, None)
        return token

    def revoke(self, name: str, author: str) -> None:
        """Let a person review no longer, from the next request on.

        Raises
        ------
        ConfigError
            When nobody of this name may.
        """
        with self._lock, self._writing():
            if name not in self._invited():
                known = ", ".join(sorted(self._invited())) or "nobody"
                raise ConfigError("no such reviewer", where=name, found=known, fix="choose one of these")
            self._add(Draft(id=secrets.token_hex(16), kind="revoke", detail={"name": name}), author, None)

    def reviewer_of(self, token: str) -> str | None:
        """Return who holds a token; None where nobody does, or it was revoked."""
        given = _digest_of_token(token)
        with self._lock, self._faults():
            invited = self._invited()
        return next((name for name, digest in invited.items() if hmac.compare_digest(digest, given)), None)

    def _invited(self) -> dict[str, str]:
        invited: dict[str, str] = {}
        for one in self._entries("WHERE kind IN ('invite', 'revoke')"):
            name = str(one.detail["name"])
            invited.pop(name, None)
            if one.kind == "invite":
                invited[name] = str(one.detail["token_sha256"])
        return invited

    def _add(self, draft: Draft, author: str, before: str | None) -> Entry:
        """Write an entry; the caller holds the transaction."""
        head, place = self._head(), draft.place
        where = (None,) * 6 if place is None else (place.volume, place.z, place.y, place.x, place.height, place.width)
        row = (
            head.entries + 1,
            head.digest,
            draft.id,
            datetime.now(UTC).isoformat(timespec="milliseconds"),
            author,
            draft.kind,
            *where,
            before,
            np.asarray(draft.runs, "<u4").tobytes(),
            float(draft.active_seconds),
            json.dumps(draft.detail, sort_keys=True),
        )
        marks = ", ".join("?" * (len(row) + 1))
        self._db.execute(f"INSERT INTO entries VALUES ({marks})", (*row, _digest_row(row)))  # noqa: S608
        return _entry_of((*row, _digest_row(row)))

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
        mask: NDArray[np.bool_] = read(place) ^ _flips_in(near, place)
        return mask

    def _entries(self, where: str, *values: object) -> list[Entry]:
        query = f"SELECT {_COLUMNS}, digest FROM entries {where} ORDER BY number"  # noqa: S608 - texts of this module
        return [_entry_of(row) for row in self._db.execute(query, values)]

    def _prepare(self) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and version != _VERSION:
            raise WorkspaceError(
                "not a log of reviews, or of another version of segem",
                where=self.path,
                expected=f"version {_VERSION}",
                found=f"version {version}",
                fix="open it with the version that made it; it holds people's work, so never delete it",
            )
        if not tables:
            for statement in _statements(_SCHEMA):
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


def check_reviewer(name: str) -> str:
    """Return the name of a person if it can stand in a log, else raise.

    Raises
    ------
    ConfigError
        When it is empty, too long or not printable.

    Examples
    --------
    >>> check_reviewer("Ana Müller")
    'Ana Müller'
    """
    if not (name.strip() and name.isprintable() and len(name) <= LONGEST_NAME):
        raise ConfigError(
            "not a name of a reviewer", found=repr(name[:100]), fix=f"use 1 to {LONGEST_NAME} printable characters"
        )
    return name.strip()


def _statements(script: str) -> Iterator[str]:
    """Yield the statements of a script; those of triggers contain semicolons."""
    statement = ""
    for line in script.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _entry_of(row: tuple[Any, ...]) -> Entry:
    number, previous, id_, time, author, kind, *where, before, runs, seconds, detail, digest = row
    names = ("volume", "z", "y", "x", "height", "width")
    place = None if where[0] is None else Place.model_construct(**dict(zip(names, where, strict=True)))
    # Not checked again: it was checked when it was written, and `verify` finds what was changed since.
    return Entry.model_construct(
        number=number,
        previous=previous,
        id=id_,
        time=time,
        author=author,
        kind=kind,
        place=place,
        before=before,
        runs=tuple(np.frombuffer(runs, "<u4").tolist()),
        active_seconds=seconds,
        detail=json.loads(detail),
        digest=digest,
    )


def _digest_row(row: tuple[Any, ...]) -> str:
    """Return the sha256 of the columns of an entry; the digest of the one before is among them."""
    plain = [value.hex() if isinstance(value, bytes) else value for value in row]
    return hashlib.sha256(json.dumps(plain, ensure_ascii=True).encode()).hexdigest()


def _digest_of(mask: NDArray[np.bool_]) -> str:
    return hashlib.sha256(f"{mask.shape}".encode() + np.packbits(mask).tobytes()).hexdigest()


def _digest_of_token(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _plain(draft: Draft) -> tuple[object, ...]:
    return draft.kind, draft.place, draft.runs, draft.detail


def _flips_in(entries: Sequence[Entry], place: Place) -> NDArray[np.bool_]:
    """Return which pixels of a rectangle have changed an odd number of times: two changes undo each other."""
    flips = np.zeros((place.height, place.width), bool)
    for entry in entries:
        for here, there in _shared(entry, place):
            flips[here] ^= decode_runs(entry.runs, there[0])[there[1]]
    return flips


def _touched_in(entries: Sequence[Entry], place: Place) -> NDArray[np.bool_]:
    """Return which pixels of a rectangle have changed at all."""
    touched = np.zeros((place.height, place.width), bool)
    for entry in entries:
        for here, there in _shared(entry, place):
            touched[here] |= decode_runs(entry.runs, there[0])[there[1]]
    return touched


Slices = tuple[slice, slice]


def _shared(entry: Entry, place: Place) -> Iterator[tuple[Slices, tuple[tuple[int, int], Slices]]]:
    """Yield where an entry and a rectangle overlap: in the rectangle, and in that of the entry with its extent."""
    own = entry.place
    if own is None or not _overlap(own, place):
        return
    y0, y1 = max(own.y, place.y), min(own.y + own.height, place.y + place.height)
    x0, x1 = max(own.x, place.x), min(own.x + own.width, place.x + place.width)
    here = slice(y0 - place.y, y1 - place.y), slice(x0 - place.x, x1 - place.x)
    there = slice(y0 - own.y, y1 - own.y), slice(x0 - own.x, x1 - own.x)
    yield here, ((own.height, own.width), there)


def _overlap(one: Place | None, other: Place) -> bool:
    return (
        one is not None
        and one.y < other.y + other.height
        and other.y < one.y + one.height
        and one.x < other.x + other.width
        and other.x < one.x + one.width
    )


def _share_region(one: Place, other: Place) -> bool:
    """Return whether two rectangles of a section touch the same region of `REGION_PX`."""
    spans = [
        [(start // REGION_PX, (start + edge - 1) // REGION_PX) for start, edge in ((p.y, p.height), (p.x, p.width))]
        for p in (one, other)
    ]
    return all(a0 <= b1 and b0 <= a1 for (a0, a1), (b0, b1) in zip(*spans, strict=True))


def _changed(path: Path, what: str) -> WorkspaceError:
    return WorkspaceError(
        "the log of the review was changed after it was written",
        where=path,
        found=what,
        fix="restore it from a copy, and find out who can write this file",
    )
