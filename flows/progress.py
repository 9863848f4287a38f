"""How far the work of a task is, on the page of its flow run: a bar for each piece of work, and now and then a line."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from prefect import get_run_logger

from flows.pages import show_bar
from segem.progress import followed

SECONDS_BETWEEN_BARS = 5.0
SECONDS_BETWEEN_LINES = 30.0


@contextmanager
def progress_shown() -> Iterator[None]:
    """Show all tracked work of the body; called in a task or a flow. What takes only seconds is not shown.

    The bar of a piece of work that ended well is full; that of one that failed stays where it was.
    """
    page = _Page()
    with followed(page.show, SECONDS_BETWEEN_BARS):
        yield
    page.fill()


class _Page:
    def __init__(self) -> None:
        self.logger = get_run_logger()
        self.bars: dict[str, UUID | None] = {}
        self.told: dict[str, float] = {}

    def show(self, what: str, share: float | None, line: str) -> None:
        if time.monotonic() - self.told.get(what, float("-inf")) >= SECONDS_BETWEEN_LINES:
            self.told[what] = time.monotonic()
            self.logger.info(line)
        if share is not None:
            self.bars[what] = show_bar(key_of(what), self.bars.get(what), share, line)

    def fill(self) -> None:
        for what, bar in self.bars.items():
            show_bar(key_of(what), bar, 1.0, f"{what}: done")


def key_of(what: str) -> str:
    """Return what Prefect takes for the key of an artifact.

    Examples
    --------
    >>> key_of("segment Beta_2")
    'segment-beta-2'
    """
    return re.sub(r"[^a-z0-9]+", "-", what.lower()).strip("-")
