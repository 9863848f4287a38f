"""How a step of the library becomes a Prefect task: its name, when it is retried, and what Prefect keeps of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun

from flows.progress import progress_shown
from segem.errors import ConfigError, InputError, ModelError

P = ParamSpec("P")
R = TypeVar("R")

# Prefect shows segem's log lines on the page of a run (PREFECT_LOGGING_EXTRA_LOGGERS), but sets no level for them, so
# that lines below WARNING, the level of the root logger, would be dropped.
logging.getLogger("segem").setLevel(logging.INFO)

RETRY_DELAYS_S = [2.0, 10.0]
PERMANENT = (ConfigError, InputError, ModelError)
"""Errors that a retry cannot cure: settings, data or model are wrong."""


def may_pass(_task: Task[..., Any], _task_run: TaskRun, state: State[Any]) -> bool:
    """Return whether a failed task may succeed when it is tried again."""
    return not isinstance(state.data, PERMANENT)


def step(name: str, run_name: str) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a task of a function that does one step for one volume.

    Parameters
    ----------
    name : str
        Name of the task.
    run_name : str
        Name of one run of it, a template over the function's parameters, such as ``"segment {volume}"``.

    Returns
    -------
    callable
        A decorator. The task keeps no result and no cache, since the ledger of blocks says what is done already. It
        is tried three times, unless its error is one of `PERMANENT`. How far it is, the page of the flow run shows.
    """
    prefect_task = task(
        name=name,
        task_run_name=run_name,
        # Prefect's default cache key holds the id of the run, so it would skip nothing after a kill; the ledger does.
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=len(RETRY_DELAYS_S),
        retry_delay_seconds=RETRY_DELAYS_S,
        retry_condition_fn=may_pass,
    )

    def register(function: Callable[P, R]) -> Task[P, R]:
        @wraps(function)
        def shown(*args: P.args, **kwargs: P.kwargs) -> R:
            with progress_shown():
                return function(*args, **kwargs)

        return prefect_task(shown)

    return register
