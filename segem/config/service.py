"""The service of a workspace, and what it does by the clock."""

from __future__ import annotations

from pydantic import Field

from segem.config.base import Config


class ServeConfig(Config):
    """Where the service listens, and how much it does at once."""

    # The same each time: bookmarks and ssh tunnels name it.
    port: int = Field(default=4200, ge=0, lt=2**16)
    """Port of this machine's own address to listen on; 0 takes a free one."""
    at_once: int = Field(default=1, ge=1)
    """How many flow runs work at a time; a campaign takes what the machine has, so that two of them are seldom faster."""
