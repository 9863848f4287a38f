"""Locks on disks that several hosts share, where those of the kernel may end at the host.

Each process that asks makes a file of its own beside the lock, and looks only then whether there are others: of two
that ask at the same moment, at least one sees the other. A holder rewrites its file from time to time. Whether a holder
on another host is alive is seen by that, over a time measured here, so clocks need not agree. No file is ever taken
over, so none can be taken over twice: one that is dead is removed.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from threading import Event, Thread
from typing import Literal

from segem.errors import WorkspaceError
from segem.io.holder import Holder, this_process

BEAT_SECONDS = 10.0
"""How often a holder rewrites its file."""
SILENT_SECONDS = 60.0
"""After how long without that a holder on another host counts as dead; file systems show changes of others late."""
LOOK_SECONDS = 0.2
# Whole: the name of another lock may begin alike.
_TOKEN = "[0-9a-f]" * 32
_ASKS, _HOLDS = "asks", "holds"


@dataclass
class Lease:
    """The right that a lock gives, as long as its file is there."""

    file: Path
    _over: Event = field(default_factory=Event)

    def require(self) -> None:
        """Raise where this process was taken for dead, as after it was suspended for long.

        Raises
        ------
        WorkspaceError
            When another host may hold the right by now.
        """
        if not self.file.exists():
            raise WorkspaceError(
                "this process was silent for so long that others took it for dead",
                where=self.file,
                fix="run the same command again; finished blocks are kept",
            )

    def beat(self, state: str) -> None:
        """Rewrite the file at once, unless it was removed."""
        beside = self.file.with_name(f".{self.file.name}.beat")
        beside.write_text(f"{this_process().text()}\n{state} {uuid.uuid4().hex}", encoding="utf-8")
        # Nothing is renamed to where others have removed this process.
        if state == _ASKS or self.file.exists():
            beside.replace(self.file)
        beside.unlink(missing_ok=True)

    def keep(self) -> None:
        """Rewrite the file from time to time until it is given up."""
        while not self._over.wait(BEAT_SECONDS):
            # A disk that is away for a while comes back, or others notice.
            with suppress(OSError):
                self.beat(_HOLDS)

    def give_up(self) -> None:
        """Let others have the right."""
        self._over.set()
        self.file.unlink(missing_ok=True)


@contextmanager
def leased(path: Path, *, wait: bool = False, by_host: bool = False) -> Iterator[Lease]:
    """Hold a lock on a disk that several hosts share, while the body runs.

    Parameters
    ----------
    path : Path
        The lock; files are made beside it, in a folder that exists.
    wait : bool
        Wait for the process that holds it, instead of raising.
    by_host : bool
        Let other processes of this host hold it too.

    Yields
    ------
    Lease

    Raises
    ------
    WorkspaceError
        When another process holds it and `wait` is false; the message names it and its host.
    OSError
        When the disk refuses.
    """
    while (
        holder := _ask(path, by_host, lease := Lease(path.with_name(f"{path.name}.{uuid.uuid4().hex}")))
    ) is not None:
        lease.give_up()
        if not wait:
            raise WorkspaceError(
                "another process is writing here", where=path, found=holder, fix="wait for it to end, or stop it"
            )
        time.sleep(LOOK_SECONDS)
    keeper = Thread(target=lease.keep, name="lease", daemon=True)
    keeper.start()
    try:
        yield lease
    finally:
        lease.give_up()
        # A beat may be under way, and would leave its file behind.
        keeper.join()
        lease.file.unlink(missing_ok=True)


def _ask(path: Path, by_host: bool, lease: Lease) -> Holder | str | None:
    """Make the file of a lease, and return who is in the way, or None once nobody is."""
    lease.beat(_ASKS)
    seen: dict[Path, tuple[str, float]] = {}
    for turn in count(1):
        waiting = False
        for file in path.parent.glob(f"{path.name}.{_TOKEN}"):
            try:
                text = file.read_text(encoding="utf-8", errors="replace")
            except FileNotFoundError:
                continue  # given up at this moment
            holder = Holder.parse(text)
            if file == lease.file or (by_host and holder is not None and holder.is_here()):
                continue
            standing = _standing(file, text, holder, seen)
            # Of two that ask at the same moment, the one whose name comes first waits for the other to give way.
            gives_way = f"\n{_ASKS} " in text and lease.file.name < file.name
            if standing == "dead":
                file.unlink(missing_ok=True)
            elif standing == "lives" and not gives_way:
                return holder or "an unknown process"
            else:
                waiting = True
        if not waiting:
            lease.beat(_HOLDS)
            lease.require()
            return None
        # Others watch this one too.
        if turn % max(1, int(BEAT_SECONDS / LOOK_SECONDS)) == 0:
            lease.beat(_ASKS)
        time.sleep(LOOK_SECONDS)
    raise AssertionError("count never ends")


def _standing(
    file: Path, text: str, holder: Holder | None, seen: dict[Path, tuple[str, float]]
) -> Literal["lives", "dead", "silent"]:
    """Return what is known of who has written a file; `seen` keeps what it held, and since when."""
    if holder is not None and holder.is_here():
        return "lives" if holder.lives() else "dead"
    # On another host, it lives as long as it rewrites its file.
    before, since = seen.setdefault(file, (text, time.monotonic()))
    if text != before:
        seen[file] = text, time.monotonic()
        return "lives"
    return "dead" if time.monotonic() - since >= SILENT_SECONDS else "silent"
