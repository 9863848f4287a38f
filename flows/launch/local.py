"""Runs a campaign or a retraining on this machine, without a Prefect server having to be started.

Importing this module does not import Prefect: Prefect reads its settings from the environment when it is first
imported, and `use_prefect` sets them before.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from segem.config import ExecutionConfig
from segem.errors import ConfigError
from segem.progress import track
from segem.signals import exit_on_sigterm

if TYPE_CHECKING:
    from flows.campaign import CampaignOutcome
    from segem.stages.campaign import Campaign
    from segem.stages.training.retrain import Promotion, Retraining

DEFAULT_EXECUTION = ExecutionConfig()
PREFECT_SETTINGS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "segem",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS": "false",
}
"""No telemetry leaves the machine, and segem's log lines are shown on the page of a run."""
QUIET_CONSOLE = {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING", "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL"}
"""Keeps Prefect's own log lines off the console."""


def run_campaign(
    job: Campaign, *, execution: ExecutionConfig = DEFAULT_EXECUTION, verbose: bool = False
) -> CampaignOutcome:
    """Run the campaign flow, on a private Prefect server unless the user has one.

    Parameters
    ----------
    job : Campaign
        What `segem.stages.campaign.open_campaign` returned.
    execution : ExecutionConfig
        Device, engine, workers, memory.
    verbose : bool
        Show Prefect's own log lines on stderr.

    Returns
    -------
    CampaignOutcome

    Raises
    ------
    WorkspaceError
        When another campaign works on the same run.
    SegemError
        When nothing could start, or, as IncompleteError, when volumes failed; the message names each with its reason.
    """
    from segem.stages.campaign import hold_run

    # The flow locks the run itself; trying here first refuses a run in use before a server is started.
    with hold_run(job):
        pass
    with use_prefect(job.workspace.root / ".prefect", verbose=verbose):
        from flows.campaign import campaign

        # Prefect returns what is in the state that the flow returns.
        outcome = campaign(job.source, job.run, job.workspace.root, job.data_root, execution, job.replace)
        return cast("CampaignOutcome", outcome)


def run_retraining(job: Retraining, *, verbose: bool = False) -> Promotion:
    """Run the retraining flow, on a private Prefect server unless the user has one.

    Parameters
    ----------
    job : Retraining
        What `segem.stages.training.retrain.open_retraining` returned.
    verbose : bool
        Show Prefect's own log lines on stderr.

    Returns
    -------
    Promotion
        The decision on the new model, which may be kept aside.

    Raises
    ------
    SegemError
        When nothing could start, the training failed, or nothing could be judged.
    """
    with use_prefect(job.workspace.root / ".prefect", verbose=verbose):
        from flows.retrain import retrain_opened

        return retrain_opened(job)


@contextmanager
def use_prefect(home: Path, *, verbose: bool = False) -> Iterator[None]:
    """Connect flows to a server while the body runs: the one that PREFECT_API_URL names, or else a private one.

    Parameters
    ----------
    home : Path
        Folder for Prefect's own files, in an existing folder. A private server keeps its history of runs here, whatever
        PREFECT_HOME says: it closes runs that a killed process left open, and must not do that to those of others.
    verbose : bool
        Show Prefect's own log lines on stderr.

    Raises
    ------
    ConfigError
        When PREFECT_API_URL names a server that does not answer.
    WorkspaceError
        When the private server cannot start.
    """
    for key, value in {**PREFECT_SETTINGS, **({} if verbose else QUIET_CONSOLE)}.items():
        os.environ.setdefault(key, value)
    with _set_home(home.absolute()), _quiet_console(verbose), exit_on_sigterm():
        from prefect.settings import PREFECT_API_URL

        if PREFECT_API_URL.value():
            _check_answers(PREFECT_API_URL.value())
            yield
        else:
            with ExitStack() as stack:
                with track("start Prefect", 1, unit="") as advance:
                    from flows.launch.private_server import serve_prefect

                    stack.enter_context(serve_prefect(home.absolute()))
                    advance(1)
                yield


@contextmanager
def _set_home(home: Path) -> Iterator[None]:
    """Keep Prefect's files out of the user's home folder, unless PREFECT_HOME is set."""
    if "PREFECT_HOME" in os.environ:
        yield
        return
    os.environ["PREFECT_HOME"] = str(home)
    try:
        yield
    finally:
        del os.environ["PREFECT_HOME"]


def _check_answers(url: str) -> None:
    from prefect.client.orchestration import get_client

    try:
        with get_client(sync_client=True) as client:
            client.api_version()
    except ImportError as error:
        raise ConfigError(
            "a proxy of this machine needs a package that is missing",
            where="ALL_PROXY, HTTP_PROXY or HTTPS_PROXY",
            found=error,
            fix="run pip install 'httpx[socks]', or unset the variable for this command",
        ) from error
    except Exception as error:
        raise ConfigError(
            "the Prefect server does not answer, or refuses the password",
            where=url,
            found=str(error),
            fix="start it and check PREFECT_API_AUTH_STRING, or unset PREFECT_API_URL to run without it",
        ) from error


@contextmanager
def _quiet_console(verbose: bool) -> Iterator[None]:
    """Keep Prefect's log lines, tracebacks above all, off the console unless asked for; its pages show them."""
    logger = logging.getLogger("prefect")
    before = logger.propagate
    logger.propagate = verbose
    try:
        yield
    finally:
        logger.propagate = before
