"""Decides when a training is scored on its validation sections."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from segem.config import Config

SHARE_OF_TIME = 0.05
"""Largest share of the time that looks may take, except for the first one."""
LOOKS = 200
"""Looks become rarer in a long training, so that the curve of a day is hardly longer than that of an hour."""


class Snapshot(Config):
    """The state of a training at one look."""

    step: int
    seconds: float
    loss: float
    """Running average."""
    validation_iou: float
    """Membrane IoU on the validation sections, at the best threshold."""


class Watch:
    """Decides when to look, so that looks take a small share of the time; they do not change the result.

    Parameters
    ----------
    seconds : float
        Least time between looks.

    Examples
    --------
    >>> watch = Watch(10.0)
    >>> watch.due()
    False
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._due = time.monotonic() + seconds

    def due(self) -> bool:
        """Return whether it is time for a look."""
        return time.monotonic() >= self._due

    @contextmanager
    def measure(self, seconds: float) -> Iterator[None]:
        """Measure what a look costs, and decide when it is time again; `seconds` is what the training took so far."""
        started = time.monotonic()
        yield
        ended = time.monotonic()
        # A look at large sections may take minutes, so its cost decides when the next one is due.
        self._due = ended + max(self._seconds, (ended - started) / SHARE_OF_TIME, seconds / LOOKS)
