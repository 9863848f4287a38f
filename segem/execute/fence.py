"""Keeps workers that nobody waits for any more from writing into the result of another sweep."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from segem.errors import BlockError
from segem.io.files import write_text
from segem.plan import Block


@dataclass(frozen=True)
class Fence:
    """The right of one sweep to write: it holds as long as the file says so.

    A worker on another machine outlives a coordinator that was killed, and may hold a block then. The same command
    may have been given again by that time, with another model. So a worker asks before it writes; and before it
    computes, which would be in vain.
    """

    file: Path
    token: str

    def require(self, block: Block) -> None:
        """Raise unless the sweep that handed out a block is still the one that writes.

        Raises
        ------
        BlockError
            When it is over; nobody waits for the block any more.
        """
        with suppress(OSError):
            if self.file.read_text(encoding="utf-8") == self.token:
                return
        raise BlockError(
            "the sweep that handed out this block is over",
            where=f"block {block.index} {block.write} on {socket.gethostname()}",
            fix="run the same command again",
        )


@contextmanager
def fenced(file: Path) -> Iterator[Fence]:
    """Take the right to write from whoever had it, and give it up at the end.

    Parameters
    ----------
    file : Path
        One for each volume of a run; the caller holds the lock of that volume.

    Yields
    ------
    Fence

    Raises
    ------
    WorkspaceError
        When the disk refuses.
    """
    fence = Fence(file, uuid.uuid4().hex)
    write_text(file, fence.token)
    try:
        yield fence
    finally:
        file.unlink(missing_ok=True)
