"""A look now and then at how a training does on its validation sections."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from segem.config import Config

SHARE_OF_TIME = 0.05
"""Largest share of the time that looking may take, but for the first look."""
SECONDS_BETWEEN = 10.0
LOOKS = 200
"""Looks become rarer in a long training, so that the curve of a day is hardly longer than that of an hour."""


class Snapshot(Config):
    """How a training stood at one moment."""

    step: int
    seconds: float
    loss: float
    """Running average."""
    validation_iou: float
    """Membrane IoU on the validation sections, by the threshold that suits best."""


class Watch:
    """Decides when to look, so that looking takes a small share of the time and has no part in what is learned.

    Examples
    --------
    >>> watch = Watch()
    >>> watch.due()
    False
    """

    def __init__(self) -> None:
        self._due = time.monotonic() + SECONDS_BETWEEN

    def due(self) -> bool:
        """Return whether it is time for a look."""
        return time.monotonic() >= self._due

    @contextmanager
    def measure(self, seconds: float) -> Iterator[None]:
        """Measure what a look costs, and decide when it is time again; `seconds` is what the training took so far."""
        started = time.monotonic()
        yield
        ended = time.monotonic()
        self._due = ended + max(SECONDS_BETWEEN, (ended - started) / SHARE_OF_TIME, seconds / LOOKS)
