"""Durations, sizes and rates: how fast work goes, and how people say it."""

from __future__ import annotations

from collections import deque

LEAST_SECONDS = 1.0
"""A rate is said once it was measured over this time: sections that end together would promise thousands a second."""
_WINDOW_SECONDS = 60.0
"""Rates are those of the last minute: blocks that are only skipped must not promise an early end."""
_PERIODS = ((1, "s"), (60, "min"), (3600, "h"), (86400, "day"))
_SI = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
_SYMBOLS = {"voxel": "px", "byte": "B"}


class Pace:
    """How fast work goes, over the last minute of it.

    The time before the first piece counts: what several threads finish together took as long as the first of it.

    Parameters
    ----------
    started : float
        When the work began, in seconds of any clock.

    Examples
    --------
    >>> pace = Pace(started=0.0)
    >>> for _ in range(2):
    ...     pace.note(8.0, 1)
    >>> pace.per_second
    0.25
    """

    def __init__(self, started: float) -> None:
        self._marks = deque([(started, 0.0)])

    def note(self, now: float, amount: float) -> None:
        """Count the amount of work that was finished by now."""
        self._marks.append((now, self._marks[-1][1] + amount))
        # The first mark is the last one before the minute, so that a block that takes longer has a rate as well.
        while self._marks[1][0] <= now - _WINDOW_SECONDS:
            self._marks.popleft()

    @property
    def per_second(self) -> float | None:
        """The rate; None while it is not known."""
        (begin, before), (end, after) = self._marks[0], self._marks[-1]
        return (after - before) / (end - begin) if end - begin >= LEAST_SECONDS and after > before else None


def rate_text(per_second: float, unit: str) -> str:
    """Return a rate in units that people know; nothing where the unit is empty.

    Examples
    --------
    >>> rate_text(1_234_567, "voxel"), rate_text(12.3, "section"), rate_text(0.05, "block"), rate_text(0.001, "net")
    ('1.2 Mpx/s', '12 sections/s', '3.0 blocks/min', '3.6 nets/h')
    >>> rate_text(34_000_000, "byte")
    '34 MB/s'
    """
    if not unit:
        return ""
    if unit in _SYMBOLS:
        factor, prefix = next(((f, p) for f, p in _SI if per_second >= f), (1.0, ""))
        return f"{_two_digits(per_second / factor)} {prefix}{_SYMBOLS[unit]}/s"
    seconds, period = next(((s, p) for s, p in _PERIODS if per_second * s >= 1), _PERIODS[-1])
    return f"{_two_digits(per_second * seconds)} {unit}s/{period}"


def time_text(seconds: float) -> str:
    """Return a duration for people.

    Examples
    --------
    >>> time_text(0.26), time_text(42.4), time_text(754), time_text(9000)
    ('0.3 s', '42 s', '13 min', '2 h 30 min')
    """
    if seconds < 100:
        return f"{_two_digits(seconds)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


def size_text(count: int) -> str:
    """Return an amount of bytes for people.

    Examples
    --------
    >>> size_text(900), size_text(12_345_678), size_text(4_200_000_000)
    ('1 kB', '12.3 MB', '4.2 GB')
    """
    for size, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{max(1, round(count / 1e3))} kB"


def _two_digits(value: float) -> str:
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"
