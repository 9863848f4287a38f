"""What became of the stacks that were found in an inbox."""

from __future__ import annotations

from typing import Literal

from segem.records.base import Record

Fate = Literal["taken", "done", "failed", "duplicate"]


class FoundStack(Record):
    """One stack that had stopped growing when it was looked at."""

    name: str
    """Its name in the inbox."""
    stamp: str
    """Names, sizes, times and numbers of its files: while these are the same, it is not read again."""
    digest: str
    """Of its content: a stack is taken once, whatever it is called."""
    volume: str
    """Name of the volume that is made of it."""
    run: str
    """Run that it was taken into."""
    fate: Fate
    """``taken`` until its run is over."""
    reason: str | None = None
    """Why it failed, or which stack it is a copy of."""


class InboxLog(Record):
    """All stacks of an inbox, in the order they were found; those that were removed since stay here."""

    inbox: str
    """The folder."""
    stacks: tuple[FoundStack, ...] = ()
    """What was found in it."""
