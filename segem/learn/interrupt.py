"""Ctrl-C between two steps of a training, when what it has learned can be saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def defer_interrupt() -> Iterator[Callable[[], bool]]:
    """Keep Ctrl-C from ending the body at once: it is noted, and the body asks; a second one ends it where it is.

    Where Ctrl-C is ignored or means something else, and in threads, which get no signals, nothing changes.

    Yields
    ------
    callable
        Tells whether Ctrl-C was pressed.

    Examples
    --------
    >>> with defer_interrupt() as interrupted:
    ...     signal.raise_signal(signal.SIGINT)
    ...     interrupted()
    True
    """
    pressed, usual = threading.Event(), signal.default_int_handler
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not usual:
        yield pressed.is_set
        return

    def note(_number: int, _frame: FrameType | None) -> None:
        pressed.set()
        signal.signal(signal.SIGINT, usual)

    signal.signal(signal.SIGINT, note)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, usual)
