"""How a step of the library becomes a Prefect task: what is retried, what is kept, what it is called."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun

from segem.errors import ConfigError, InputError, ModelError

P = ParamSpec("P")
R = TypeVar("R")

# Prefect takes segem's log lines to the pages of a run (PREFECT_LOGGING_EXTRA_LOGGERS) but sets no level of theirs, and
# that of the root logger, WARNING, would keep back how many blocks were computed.
logging.getLogger("segem").setLevel(logging.INFO)

RETRY_DELAYS_S = [2.0, 10.0]
LASTING = (ConfigError, InputError, ModelError)
"""What is wrong now and will be wrong again: the settings, the data, the model."""


def transient(_task: Task[..., Any], _task_run: TaskRun, state: State[Any]) -> bool:
    """Tell whether a failed task may succeed when it is tried again."""
    return not isinstance(state.data, LASTING)


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
        A decorator. The task keeps no result and no cache, since the ledger of blocks decides what is done already;
        it is tried three times, unless its error is lasting.
    """
    return task(
        name=name,
        task_run_name=run_name,
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=len(RETRY_DELAYS_S),
        retry_delay_seconds=RETRY_DELAYS_S,
        retry_condition_fn=transient,
    )
