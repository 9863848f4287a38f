"""How far the work is, on stderr: bars on a terminal, a line every ten seconds in a pipe, a log or a batch job."""

from __future__ import annotations

import contextvars
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from segem.amounts import Pace, rate_text, time_text

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 10.0

_shown = False
_stopping = threading.Event()
_followers = 0
_follower: contextvars.ContextVar[object] = contextvars.ContextVar("follower", default=None)


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


@contextmanager
def stopping() -> Iterator[None]:
    """Let every stage that is tracked in any thread end as by Ctrl-C, at its next piece of work, while the body runs.

    The system gives Ctrl-C to the main thread alone, which waits for the others in the body.
    """
    _stopping.set()
    try:
        yield
    finally:
        _stopping.clear()


def _end_if_stopping() -> None:
    if _stopping.is_set():
        raise KeyboardInterrupt


@contextmanager
def followed(report: Callable[[str, float | None, str], None], seconds: float) -> Iterator[None]:
    """Report now and then, from a thread, how far the work is that the body tracks, while it runs.

    Nothing is drawn or printed for that; a flow puts it on the page of its run.

    Parameters
    ----------
    report : callable
        Called with what is going on, the share of 0 to 1 that is done where that is known, and a line that says so.
        What it raises is logged and stops nothing.
    seconds : float
        How long to wait before the first report and between two of them: what is done sooner is never reported.

    Examples
    --------
    >>> lines = []
    >>> with followed(lambda what, share, line: lines.append(line), 0.01), track("count", 2, "section") as advance:
    ...     advance(1)
    ...     time.sleep(0.1)
    >>> lines[0]
    'count: 50%'
    """
    global _followers
    over, own = threading.Event(), object()

    def look() -> None:
        while not over.wait(seconds):
            # Other steps may be under way in threads of their own, each with a follower of its own.
            for task in (task for task in _board.tasks() if task.fields["follower"] is own):
                try:
                    report(task.description, None if task.total is None else task.percentage / 100, progress_line(task))
                except Exception:
                    logger.debug("progress could not be reported", exc_info=True)

    # With the context of the caller, which may say what the reports belong to.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(look,), daemon=True)
    _followers += 1
    thread.start()
    token = _follower.set(own)
    try:
        yield
    finally:
        _follower.reset(token)
        over.set()
        thread.join()
        _followers -= 1


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

    Raises
    ------
    KeyboardInterrupt
        At the start and with each piece of work, while the process is `stopping`.

    Examples
    --------
    >>> with track("count", 3, "section") as advance:
    ...     for _ in range(3):
    ...         advance(1)
    """
    _end_if_stopping()
    if not (_shown or _followers):
        yield lambda amount, note="": _end_if_stopping()  # noqa: ARG005 - nobody looks
        return
    pace = Pace(time.monotonic())
    fields = {"unit": unit, "note": "", "pace": pace, "earlier": done, "follower": _follower.get()}
    display, task = _board.enter(description, total, done, fields)

    def advance(amount: float, note: str = "") -> None:
        _end_if_stopping()
        pace.note(time.monotonic(), amount)
        display.update(task, advance=amount, note=note)

    try:
        yield advance
        # Only here: what failed is said by its error.
        if _shown:
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
                if _shown and _draws_bars(self.display.console):
                    self.display.start()
                elif _shown:
                    threading.Thread(target=_say_lines, args=(self.display, self.over), daemon=True).start()
            return self.display, self.display.add_task(description, total=total, completed=done, **fields)

    def tasks(self) -> list[Task]:
        with self.lock:
            return [] if self.display is None else list(self.display.tasks)

    def leave(self, display: Progress, task: TaskID) -> None:
        with self.lock:
            display.remove_task(task)
            if display.tasks:
                return
            self.over.set()
            self.display = None
            if display.live.is_started:
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
