"""Settings of what keeps a workspace: removing old runs, and backups."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from segem.config.base import Config

_UNITS = {"h": "hours", "d": "days", "w": "weeks"}


def parse_age(value: Any) -> Any:
    """Return the time that a text such as ``90d`` means; any other value is returned unchanged.

    Raises
    ------
    ValueError
        When the text is no such time.

    Examples
    --------
    >>> parse_age("90d").days, parse_age("12w").days, parse_age("36h").total_seconds()
    (90, 84, 129600.0)
    """
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"\s*([0-9]{1,5})\s*([hdw])\s*", value)
    if found is None:
        raise ValueError("give hours, days or weeks, as in 36h, 90d or 12w")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


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
