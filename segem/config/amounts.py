"""Amounts of memory and of time, as people write them."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

LEAST_MEMORY = 1_000_000_000
"""A little more than what a process takes before the first tile."""
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}


def parse_bytes(value: Any) -> Any:
    """Return the number of bytes that a text such as ``2GB`` means; any other value is returned unchanged.

    Raises
    ------
    ValueError
        When the text is not an amount of memory, or the amount is too little for any run.

    Examples
    --------
    >>> parse_bytes("2GB"), parse_bytes("1.5 GiB"), parse_bytes(None)
    (2000000000, 1610612736, None)
    """
    if isinstance(value, str):
        found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]*)?)\s*([kMGT]?)(i?)B?\s*", value)
        if found is None:
            raise ValueError("give bytes as a number, or as in 2GB")
        number, prefix, binary = found.groups()
        value = round(float(number) * (1024 if binary else 1000) ** " kMGT".index(prefix or " "))
    if isinstance(value, int) and value < LEAST_MEMORY:
        raise ValueError(f"a process needs {LEAST_MEMORY / 1e9:g}GB or more")
    return value


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
