"""How far the work of a task is, on the page of its flow run: a bar for each piece of work, and now and then a line."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact

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
        self.bars: dict[str, UUID] = {}
        self.told: dict[str, float] = {}

    def show(self, what: str, share: float | None, line: str) -> None:
        if time.monotonic() - self.told.get(what, float("-inf")) >= SECONDS_BETWEEN_LINES:
            self.told[what] = time.monotonic()
            self.logger.info(line)
        if share is None:
            return
        if what in self.bars:
            update_progress_artifact(self.bars[what], 100 * share, description=line)
        else:
            made = create_progress_artifact(100 * share, key=key_of(what), description=line)
            self.bars[what] = cast(UUID, made)

    def fill(self) -> None:
        for what, bar in self.bars.items():
            update_progress_artifact(bar, 100.0, description=f"{what}: done")


def key_of(what: str) -> str:
    """Return what Prefect takes for the key of an artifact.

    Examples
    --------
    >>> key_of("segment Beta_2")
    'segment-beta-2'
    """
    return re.sub(r"[^a-z0-9]+", "-", what.lower()).strip("-")
