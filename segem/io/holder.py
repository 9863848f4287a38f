"""Who holds a lock: a process, told apart from a later one of the same number, on a host, told apart by its boot."""

from __future__ import annotations

import os
import re
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_TEXT = re.compile(r"process (\d+) on (\S+)(?: \(started (\d+), boot (\S+)\))?")


@dataclass(frozen=True)
class Holder:
    """A process that holds a lock, as it names itself in the lock file.

    Parameters
    ----------
    pid : int
        Its number, which the system gives to another process later.
    host : str
        Name of its host.
    started : int
        When it was started, in ticks since the host did; 0 where the system does not tell.
    boot : str
        What tells this start of the host, and this container, from others; empty where the system does not tell.
    """

    pid: int
    host: str
    started: int = 0
    boot: str = ""

    @classmethod
    def parse(cls, text: str) -> Holder | None:
        """Return who has written a text, or None where that cannot be read from it.

        Examples
        --------
        >>> Holder.parse("process 7 on moon (started 5, boot ab)")
        Holder(pid=7, host='moon', started=5, boot='ab')
        >>> Holder.parse("")
        """
        found = _TEXT.match(text)
        if found is None:
            return None
        return cls(int(found[1]), found[2], int(found[3] or 0), found[4] or "")

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"

    def text(self) -> str:
        """Return what it writes into a lock file."""
        return f"{self} (started {self.started}, boot {self.boot})" if self.boot else str(self)

    def is_here(self) -> bool:
        """Return whether it belongs to this start of this host, so that its end can be seen from here."""
        # The name alone is not enough: containers on several hosts are often called alike.
        return self.host == this_host() and self.boot in ("", boot_id())

    def lives(self) -> bool:
        """Return whether it still runs; of a process on another host that cannot be told, so it is believed."""
        if self.host != this_host():
            return True
        # The host was started anew since.
        if not self.is_here():
            return False
        if self.started:
            return started_at(self.pid) == self.started
        try:
            # Signal 0 only asks whether the process exists.
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        # A process of another user.
        except PermissionError:
            pass
        return True


def this_process() -> Holder:
    """Return what this process calls itself."""
    return Holder(os.getpid(), this_host(), started_at(os.getpid()), boot_id())


def this_host() -> str:
    """Return the name of this host."""
    return socket.gethostname()


def boot_id() -> str:
    """Return what tells this start of the host, and this container, from others; empty where nothing does."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        # In another container the same number is another process.
        return f"{boot}.{Path('/proc/self/ns/pid').stat().st_ino}"
    return ""


def started_at(pid: int) -> int:
    """Return when a process was started, in ticks since the host was; 0 where there is none, or it has ended."""
    with suppress(OSError, IndexError):
        # The name of the program comes second, in brackets, and may hold anything; what follows has fixed places.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        # A zombie has ended, though its parent has not noticed.
        return 0 if fields[0] == "Z" else int(fields[19])
    return 0
