"""Runs a campaign, or a retraining, on this machine with nothing started by hand.

Importing this module does not import Prefect, because Prefect reads its settings from the environment when it is first
imported: they are set here, before.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

from segem.config import ExecutionConfig
from segem.errors import ConfigError
from segem.serving import exit_on_sigterm

if TYPE_CHECKING:
    from flows.campaign import CampaignOutcome
    from segem.stages.campaign import Campaign
    from segem.stages.training.retrain import Promotion, Retraining

DEFAULT = ExecutionConfig()
QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "segem",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS": "false",
}
"""Nothing is sent to anyone, and the library's log lines reach the pages of a run."""
SILENT = {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "WARNING", "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL"}
"""Only what matters to the user reaches the console."""


def run_campaign(job: Campaign, *, execution: ExecutionConfig = DEFAULT, verbose: bool = False) -> CampaignOutcome:
    """Run the campaign flow, with a private Prefect server unless the user has one.

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
    from segem.stages.campaign import held

    with held(job):
        pass  # the flow takes the run for itself; this refuses at once what it would refuse after a server has started
    with prefect_ready(job.workspace.root / ".prefect", verbose=verbose):
        from flows.campaign import campaign

        return campaign(job.source, job.run, job.workspace.root, job.data_root, execution, job.replace)


def run_retraining(job: Retraining, *, verbose: bool = False) -> Promotion:
    """Run the flow that makes a better model, with a private Prefect server unless the user has one.

    Parameters
    ----------
    job : Retraining
        What `segem.stages.training.retrain.open_retraining` returned.
    verbose : bool
        Show Prefect's own log lines on stderr.

    Returns
    -------
    Promotion
        What was decided about the new model, which may be kept aside.

    Raises
    ------
    SegemError
        When nothing could start, the training failed, or nothing could be judged.
    """
    with prefect_ready(job.workspace.root / ".prefect", verbose=verbose):
        from flows.retrain import retrain

        return cast("Promotion", retrain(job.source, job.config, job.workspace.root, job.data_root))


@contextmanager
def prefect_ready(home: Path, *, verbose: bool = False) -> Iterator[None]:
    """Let flows run while the body does: on the user's server where PREFECT_API_URL names one, else on a private one.

    Parameters
    ----------
    home : Path
        Folder for Prefect's own files; its parent exists. The private server keeps its history here whatever
        PREFECT_HOME says, since a history that others write to is not its own to tidy up.
    verbose : bool
        Show Prefect's own log lines on stderr.

    Raises
    ------
    ConfigError
        When PREFECT_API_URL names a server that does not answer.
    WorkspaceError
        When the private server cannot start.
    """
    for key, value in {**QUIET, **({} if verbose else SILENT)}.items():
        os.environ.setdefault(key, value)
    with _home_unless_given(home.absolute()), _console(verbose), exit_on_sigterm():
        from prefect.settings import PREFECT_API_URL

        if PREFECT_API_URL.value():
            _check_answers(PREFECT_API_URL.value())
            yield
        else:
            from flows.launch.private_server import private_server

            with private_server(home.absolute()):
                yield


@contextmanager
def _home_unless_given(home: Path) -> Iterator[None]:
    """Keep Prefect out of the user's home folder, unless the user has told it where to live."""
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
    except Exception as error:
        raise ConfigError(
            "the Prefect server does not let us in",
            where=url,
            found=str(error),
            fix="start it and check PREFECT_API_AUTH_STRING, or unset PREFECT_API_URL to run without it",
        ) from error


@contextmanager
def _console(verbose: bool) -> Iterator[None]:
    """Keep Prefect's log lines, tracebacks above all, off the console unless asked for; its pages have them."""
    logger = logging.getLogger("prefect")
    before = logger.propagate
    logger.propagate = verbose
    try:
        yield
    finally:
        logger.propagate = before
