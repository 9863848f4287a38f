"""Entries of a review as rows of SQLite: the table, and the digest that holds each row to the one before."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segem.errors import WorkspaceError
from segem.records.review import Draft, Entry, Head, Place

VERSION = 1
COLUMNS = (
    "number, previous, id, time, author, kind, volume, z, y, x, height, width, before, runs, active_seconds, detail"
)
SCHEMA = f"""
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
PRAGMA user_version = {VERSION};
"""

DECIDED_OF = "mask"
"""What the detail of a decision calls the sha256 of the mask of its region before any review; old logs lack it."""

BY_KIND = "CREATE INDEX IF NOT EXISTS by_kind ON entries (kind, volume)"
"""Each request asks who is invited, and may not read every stroke for that. Logs from before this was so get it too."""


def list_statements(script: str = SCHEMA) -> Iterator[str]:
    """Yield the statements of a script; those of triggers contain semicolons."""
    statement = ""
    for line in script.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def make_row(draft: Draft, author: str, before: str | None, head: Head) -> tuple[Any, ...]:
    """Return the row of a new entry, with its digest."""
    place = draft.place
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
    return (*row, digest_row(row))


def read_row(row: tuple[Any, ...]) -> Entry:
    """Return the entry of a row."""
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


def digest_row(row: tuple[Any, ...]) -> str:
    """Return the sha256 of the columns of an entry; the digest of the one before is among them."""
    plain = [value.hex() if isinstance(value, bytes) else value for value in row]
    return hashlib.sha256(json.dumps(plain, ensure_ascii=True).encode()).hexdigest()


def digest_mask(mask: NDArray[np.bool_]) -> str:
    """Return the sha256 of the mask of a rectangle."""
    return hashlib.sha256(f"{mask.shape}".encode() + np.packbits(mask).tobytes()).hexdigest()


def require_mask(mask: NDArray[np.bool_], entry: Entry) -> None:
    """Raise unless a mask is the one that an entry was made of, in the rectangle of the entry.

    Parameters
    ----------
    mask : (y, x) bool
        That of the rectangle: as it was before the entry changed it; before any review where it is a decision.
    entry : Entry
        It changed pixels, or is a decision.

    Raises
    ------
    WorkspaceError
        When it is another one.
    """
    if entry.place is not None and digest_mask(mask) != (entry.before or entry.detail.get(DECIDED_OF)):
        raise WorkspaceError(
            "the mask is not the one that was reviewed",
            where=f"{entry.place.volume}, section {entry.place.z}",
            found=f"other pixels than entry {entry.number} of the log was made of",
            fix="bring back the mask that was reviewed, or review the new one under another run",
        )


def seal_decision(draft: Draft, read: Callable[[Place], NDArray[np.bool_]]) -> Draft:
    """Return a decision with the digest of the mask of the model that it is about; anything else as it is."""
    if draft.kind != "decision" or draft.place is None:
        return draft
    return draft.model_copy(update={"detail": {**draft.detail, DECIDED_OF: digest_mask(read(draft.place))}})


def plain_part(draft: Draft) -> tuple[object, ...]:
    """Return what must be the same of an entry that is sent again: all but its time, and what the log itself adds."""
    return draft.kind, draft.place, draft.runs, sent_detail(draft)


def sent_detail(draft: Draft) -> dict[str, str | int]:
    """Return the detail of an entry as it was sent."""
    return {name: value for name, value in draft.detail.items() if name != DECIDED_OF}
