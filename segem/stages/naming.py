"""The name of a run that nobody named."""

from __future__ import annotations

from datetime import UTC, date, datetime

from segem.config import Config

_LONGEST = 80  # with the date and the digits below, a name stays within the 100 characters it may have


def default_run(name: str, settings: Config | None = None, day: date | None = None) -> str:
    """Return the name of a run nobody named: the same call on the same day resumes the same run.

    Parameters
    ----------
    name : str
        Of the volume or the manifest.
    settings : Config, optional
        What the run depends on beside; other settings make another run.
    day : date, optional
        The present one in UTC when absent.

    Returns
    -------
    str

    Examples
    --------
    >>> default_run("cortex", day=date(2026, 11, 23))
    'cortex-20261123'
    """
    parts = [name[:_LONGEST], f"{day or datetime.now(UTC).date():%Y%m%d}"]
    return "-".join([*parts, settings.config_hash()[:8]] if settings is not None else parts)
