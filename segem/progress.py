"""Progress with a rate and the time left, on stderr: bars for people who wait, lines for logs that are read later."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

_SI = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


SECONDS_BETWEEN_LINES = 30.0

_shown = False


class Advance(Protocol):
    """Takes the amount of work just finished, and a word on how it stands."""

    def __call__(self, amount: int, note: str = "") -> None: ...  # noqa: D102 - said above


@contextmanager
def shown() -> Iterator[None]:
    """Let `track` show how far the work is, in the whole process, while the body runs; the command line does.

    Without it nothing is drawn, so that a notebook, a worker or a program that calls segem stays quiet.

    Examples
    --------
    >>> with shown():
    ...     is_shown()
    True
    """
    global _shown
    before, _shown = _shown, True
    try:
        yield
    finally:
        _shown = before


def is_shown() -> bool:
    """Return whether somebody watches."""
    return _shown


@contextmanager
def track(description: str, total: int, unit: str = "voxel") -> Iterator[Advance]:
    """Show a progress bar while the body runs, where progress is `shown`.

    Parameters
    ----------
    description : str
        What is going on, for example ``"ingest isbi"``.
    total : int
        Amount of work.
    unit : str
        What is counted.

    Yields
    ------
    Advance
        Call it with the amount of work just finished; a note given with it is shown too.

    Examples
    --------
    >>> with track("count", 3, "section") as advance:
    ...     for _ in range(3):
    ...         advance(1)
    """
    console = Console(stderr=True)
    if not _shown:
        yield lambda amount, note="": None  # noqa: ARG005 - nobody looks
    elif console.is_terminal:
        with Progress(*_columns(unit), console=console) as bar:
            task = bar.add_task(description, total=total, note="")
            yield lambda amount, note="": bar.update(task, advance=amount, note=note)
    else:
        yield _Lines(description, total, unit).advance


def tell(text: str) -> None:
    """Print one line for people, where it does not get among results."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - stderr is for people


@contextmanager
def warnings_told() -> Iterator[None]:
    """Print each warning that segem logs on stderr while the body runs; one that is logged again is printed once.

    The command line does this. In a flow, Prefect shows the same log records on the page of the run. A program that
    calls segem handles them as it handles those of any library.

    Examples
    --------
    >>> with warnings_told():
    ...     logging.getLogger("segem.stages").warning("cortex: look at it")
    """
    logger, handler = logging.getLogger("segem"), _Teller(logging.WARNING)
    # Handlers of the root, as the one that Prefect installs, would print each line again.
    before, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = before


class _Teller(logging.Handler):
    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.told: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        line = f"{record.levelname.lower()}: {record.getMessage()}"
        # A learning curve trains on the same volume many times, and Prefect tries a step again.
        if line not in self.told:
            self.told.add(line)
            tell(line)


def _columns(unit: str) -> tuple[ProgressColumn, ...]:
    return (
        TextColumn("{task.description:<24}"),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f}%"),
        _Rate(unit),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )


class _Rate(ProgressColumn):
    def __init__(self, unit: str) -> None:
        super().__init__()
        self.unit = unit

    def render(self, task: Task) -> Text:
        return Text(f"{_short(task.speed or 0.0)}{self.unit}/s", style="cyan")


class _Lines:
    """Prints a line now and then, where a bar would fill a log file with control characters."""

    def __init__(self, description: str, total: int, unit: str) -> None:
        self.description, self.total, self.unit = description, total, unit
        self.done = 0
        self.started = self.said = time.monotonic()

    def advance(self, amount: int, note: str = "") -> None:
        self.done += amount
        now = time.monotonic()
        if now - self.said < SECONDS_BETWEEN_LINES or not self.done:
            return
        self.said = now
        rate = self.done / (now - self.started)
        left = timedelta(seconds=round((self.total - self.done) / rate))
        print(  # noqa: T201 - this is what the module is for
            f"{self.description}: {self.done / self.total:.0%}, {_short(rate)}{self.unit}/s, {left} left"
            + (f", {note}" if note else ""),
            file=sys.stderr,
            flush=True,
        )


def _short(value: float) -> str:
    for factor, prefix in _SI:
        if value >= factor:
            return f"{value / factor:.3g} {prefix}"
    return f"{value:.3g} "
