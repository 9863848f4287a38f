"""Settings of what keeps a workspace: removing old runs, and backups."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, Field

from segem.config.amounts import parse_age
from segem.config.base import Config


class PurgeConfig(Config):
    """Which runs are removed."""

    older_than: Annotated[timedelta, BeforeValidator(parse_age)]
    """Remove runs of which no file was written for that long, as in 90d, 12w or 36h."""
    reviewed: bool = False
    """Remove also runs that people have reviewed, whose work cannot be computed again."""


class BackupConfig(Config):
    """How many backups there are."""

    keep: Annotated[int | None, Field(ge=1)] = None
    """Remove the oldest backups, once this one is complete, until that many are left; all stay where absent."""
