"""How far the work is, on stderr: bars on a terminal, a line every ten seconds in a pipe, a log or a batch job."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

SECONDS_BETWEEN_LINES = 10.0

LEAST_SECONDS = 1.0
"""A rate is said once it was measured over this time: sections that end together would promise thousands a second."""
_WINDOW_SECONDS = 60.0
"""Rates are those of the last minute: blocks that are only skipped must not promise an early end."""
_PERIODS = ((1, "s"), (60, "min"), (3600, "h"), (86400, "day"))
_SI = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
_SYMBOLS = {"voxel": "px", "byte": "B"}

_shown = False


class Advance(Protocol):
    """Takes the amount of work just finished, and a note to show with it."""

    def __call__(self, amount: float, note: str = "") -> None: ...  # noqa: D102 - said above


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
    """Return whether progress is shown."""
    return _shown


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


@contextmanager
def track(description: str, total: float | None, unit: str = "voxel", *, done: int = 0) -> Iterator[Advance]:
    """Show how far a stage is while the body runs, and say when it is done, where progress is `shown`.

    Several stages may be tracked at a time, from several threads.

    Parameters
    ----------
    description : str
        What is going on, for example ``"ingest isbi"``.
    total : float or None
        Amount of work; None where nobody knows.
    unit : str
        What is counted, in the singular; a section is flat, so its voxels are shown as pixels. Empty where the amount
        means nothing to people: then only the share and the time left are shown.
    done : int
        Amount that was finished earlier; it counts in the share, not in the rate.

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
    if not _shown:
        yield lambda amount, note="": None  # noqa: ARG005 - nobody looks
        return
    pace = Pace(time.monotonic())
    display, task = _board.enter(description, total, done, {"unit": unit, "note": "", "pace": pace, "earlier": done})

    def advance(amount: float, note: str = "") -> None:
        pace.note(time.monotonic(), amount)
        display.update(task, advance=amount, note=note)

    try:
        yield advance
        # Only here: what failed is said by its error.
        tell(end_line(next(each for each in display.tasks if each.id == task)))
    finally:
        _board.leave(display, task)


@dataclass
class Part:
    """One piece of the work that reports its own share of 0 to 1, such as a training with a budget of minutes.

    Parameters
    ----------
    advance : Advance
        Of the tracked work, of which this piece counts as 1.

    Examples
    --------
    >>> with track("learning curve", 2, "training") as advance:
    ...     part = Part(advance)
    ...     part(0.25)
    ...     part(1.0)
    """

    advance: Advance
    share: float = 0.0

    def __call__(self, share: float, note: str = "") -> None:
        """Move the tracker to this share of the piece."""
        self.advance(share - self.share, note)
        self.share = share


def tell(text: str) -> None:
    """Print one line for people on stderr, apart from results."""
    # Work goes on where nobody listens any more, or the log's disk is full.
    with suppress(OSError):
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


class _Board:
    """All work in progress in this process, drawn as bars or printed in lines.

    One display serves every stage and thread, since a terminal has one last line. It exists while anything is tracked.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.display: Progress | None = None
        self.over = threading.Event()

    def enter(
        self, description: str, total: float | None, done: int, fields: dict[str, Any]
    ) -> tuple[Progress, TaskID]:
        with self.lock:
            if self.display is None:
                self.display, self.over = _display(Console(stderr=True)), threading.Event()
                if _draws_bars(self.display.console):
                    self.display.start()
                else:
                    threading.Thread(target=_say_lines, args=(self.display, self.over), daemon=True).start()
            return self.display, self.display.add_task(description, total=total, completed=done, **fields)

    def leave(self, display: Progress, task: TaskID) -> None:
        with self.lock:
            display.remove_task(task)
            if display.tasks:
                return
            self.over.set()
            self.display = None
            if _draws_bars(display.console):
                display.stop()


_board = _Board()


def _display(console: Console) -> Progress:
    return Progress(*_columns(console.width), console=console, transient=True)


def _draws_bars(console: Console) -> bool:
    return console.is_terminal and not console.is_dumb_terminal


def _say_lines(display: Progress, over: threading.Event) -> None:
    while not over.wait(SECONDS_BETWEEN_LINES):
        for task in display.tasks:
            tell(progress_line(task))


def progress_line(task: Task) -> str:
    """Return how far a stage is, in a line for a log."""
    return f"{task.description}: {_facts(task) or 'under way'}"


def end_line(task: Task) -> str:
    """Return what is said of a stage that is done: how long it took, and its mean rate."""
    elapsed, work = task.elapsed or 0.0, task.completed - task.fields["earlier"]
    rate = rate_text(work / elapsed, task.fields["unit"]) if elapsed and work else ""
    return f"{task.description}: {_listed(f'done in {time_text(elapsed)}', rate)}"


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


def _facts(task: Task) -> str:
    """Return share, rate, time left and note of a stage that is under way."""
    rate = task.fields["pace"].per_second
    share = "" if task.total is None else f"{task.percentage:.0f}%"
    speed = "" if rate is None else rate_text(rate, task.fields["unit"])
    left = "" if rate is None or task.remaining is None else f"{time_text(task.remaining / rate)} left"
    return _listed(share, speed, left, task.fields["note"])


def _listed(*facts: str) -> str:
    return ", ".join(fact for fact in facts if fact)


def _columns(width: int) -> tuple[ProgressColumn, ...]:
    """Return the columns of a bar that fits into a terminal of this width."""
    name, bar = (40, 30) if width >= 140 else (20, 10)

    def column(longest: int) -> Column:
        return Column(no_wrap=True, overflow="ellipsis", max_width=longest)

    facts = max(width - name - bar - 2, len("100%"))
    return (
        TextColumn("{task.description}", table_column=column(name)),
        BarColumn(bar_width=bar),
        _Facts(facts, table_column=column(facts)),
    )


class _Facts(ProgressColumn):
    def __init__(self, width: int, table_column: Column) -> None:
        super().__init__(table_column)
        self.width = width

    def render(self, task: Task) -> Text:
        facts = _facts(task)
        # A number that is cut in two is another number: what does not fit is left out whole.
        while len(facts) > self.width and ", " in facts:
            facts = facts.rpartition(", ")[0]
        return Text(facts)
