"""Defers Ctrl-C to the end of a training step, when a checkpoint can be written."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def defer_interrupt() -> Iterator[Callable[[], bool]]:
    """Keep Ctrl-C from ending the body at once: the body asks whether it was pressed; a second one ends it anywhere.

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
    # Python sets signal handlers in the main thread only, and another handler, as of a debugger, is to be left alone.
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
