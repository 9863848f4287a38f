"""The service of a workspace, and what it does by the clock."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field

from segem.config.base import Config


def local_zone() -> str:
    """Return the name of this machine's time zone; UTC where it has none."""
    named = os.environ.get("TZ", "").lstrip(":")
    if named and (Path("/usr/share/zoneinfo") / named).is_file():
        return named
    _, found, zone = str(Path("/etc/localtime").resolve()).partition("zoneinfo/")
    return zone if found and not zone.startswith(("Etc/", "posix", "right")) else "UTC"


class ServeConfig(Config):
    """Where the service listens, and how much it does at once."""

    # The same each time: bookmarks and ssh tunnels name it.
    port: int = Field(default=4200, ge=0, lt=2**16)
    """Port of this machine's own address to listen on; 0 takes a free one."""
    at_once: int = Field(default=1, ge=1)
    """How many flow runs work at a time; a campaign takes what the machine has, so two of them are seldom faster."""


class ScheduleConfig(Config):
    """When a schedule fires, and what it is called."""

    cron: str
    """Minute, hour, day of the month, month and weekday, as in ``0 2 * * *`` for every night at two."""
    timezone: str = Field(default_factory=local_zone)
    """Whose clock it is, as in ``Europe/Berlin``."""
    name: str | None = None
    """Name of the schedule; that of the manifest when absent."""
    restarts: int = Field(default=3, ge=0)
    """How often a campaign whose process died is started again; it continues where it was."""


class InboxConfig(Config):
    """A folder that new stacks are dropped into."""

    inbox: Path
    """The folder. Nothing in it is changed; what is hidden, or ends as an unfinished copy does, is not looked at."""
    settle_seconds: float = Field(default=30.0, ge=0, allow_inf_nan=False)
    """How long a stack must not have changed to be taken. It is taken at once where its ``.done`` lies beside it."""
