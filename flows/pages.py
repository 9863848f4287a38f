"""What the page of a flow run shows beside Prefect's own: tables, links, bars and labels.

They are made by clients of their own, which Prefect lets fail at once where nobody answers, while the flow run itself
waits for its server to come back. A page that lacks a table for a while is no reason to end hours of work.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast
from uuid import UUID

import httpx
from prefect.artifacts import (
    create_link_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run

T = TypeVar("T")
PATIENCE_S = 300.0
"""How long what matters later waits for the server, which the run cannot end without anyway."""
PAUSE_S = 2.0
log = logging.getLogger(__name__)


def show_table(key: str, rows: Sequence[dict[str, Any]], description: str, *, passing: bool = False) -> None:
    """Show a table.

    Parameters
    ----------
    key : str
        What the table is called; a later one of the same key takes its place.
    rows : sequence of dict
        A mapping from columns to cells for each row.
    description : str
        One line above it.
    passing : bool
        Whether another one follows soon, so that this one is left out where the server does not answer.
    """
    _put(lambda: create_table_artifact(list(rows), key=key, description=description), key, 0 if passing else PATIENCE_S)


def show_link(key: str, address: str, text: str, description: str) -> None:
    """Show a link."""
    _put(lambda: create_link_artifact(address, link_text=text, key=key, description=description), key, PATIENCE_S)


def label_run(label: str, value: str) -> None:
    """Label the flow run that this is called in."""
    _put(lambda: _label(label, value), label, PATIENCE_S)


def _label(label: str, value: str) -> None:
    with get_client(sync_client=True) as client:
        client.update_flow_run_labels(UUID(flow_run.get_id()), {label: value})


def show_bar(key: str, bar: UUID | None, share: float, description: str | None = None) -> UUID | None:
    """Show how far something is, and return the bar to move.

    Parameters
    ----------
    key : str
        What the bar is called.
    bar : UUID or None
        What this returned before; None makes a new bar.
    share : float
        From 0 to 1.
    description : str, optional
        One line beside it; that from before when absent.

    Returns
    -------
    UUID or None
        The bar. None where the server does not answer; the next call tries again.
    """
    if bar is None:
        return cast(
            "UUID | None",
            _put(lambda: create_progress_artifact(100 * share, key=key, description=description), key, 0),
        )
    _put(lambda: update_progress_artifact(bar, 100 * share, description=description), key, 0)
    return bar


def _put(send: Callable[[], T], what: str, patience_s: float) -> T | None:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return send()
        except httpx.HTTPError as error:
            if isinstance(error, httpx.HTTPStatusError) and error.response.is_client_error:
                raise
            if time.monotonic() >= deadline:
                log.warning("the page of the run lacks %r, since its server does not answer: %s", what, error)
                return None
            time.sleep(PAUSE_S)
