"""A Prefect server in a thread of this process, which ends with it; only its history of runs stays on disk.

It listens on loopback, with a new random password each time.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import StateType
from prefect.context import refresh_global_settings_context
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogHandler
from prefect.server.api.server import create_app
from prefect.states import Crashed

from flows.launch.proxies import spare_loopback
from segem.errors import ServerError, WorkspaceError
from segem.serving import listen, serve

SENDING_S = 10.0
UNFINISHED = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]


@contextmanager
def serve_prefect(home: Path) -> Iterator[str]:
    """Serve Prefect's API to this process while the body runs.

    Parameters
    ----------
    home : Path
        Folder of the server's database. Several processes may serve the same one.

    Yields
    ------
    str
        Address of the API.

    Raises
    ------
    WorkspaceError
        When the server cannot start, as when its database is damaged.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as stack:
        listener = stack.enter_context(listen())
        # The server reads its settings when it is created, and they hold its address, so the port is taken first.
        stack.enter_context(_set_environment(_make_settings(listener.address, home)))
        try:
            # Prefect asks for a password itself, so requests need no token of ours.
            stack.enter_context(serve(create_app(ephemeral=True), listener))
        except ServerError as error:
            raise WorkspaceError(
                "Prefect's server does not start",
                where=home,
                found=error.found,
                fix="run again with --verbose to see why; a busy machine may need a second try; if the history of runs "
                "is damaged, move this folder away: it holds nothing else",
            ) from error
        stack.callback(_send_what_is_queued)
        stack.enter_context(_mark_in_use(home))
        yield f"{listener.address}/api"


def _make_settings(address: str, home: Path) -> dict[str, str | None]:
    password = f"segem:{secrets.token_urlsafe(32)}"
    return {
        **_find_useless_proxies(),
        **spare_loopback(),
        "PREFECT_API_AUTH_STRING": password,
        "PREFECT_API_URL": f"{address}/api",
        # Home and database can be set independently; both must be this server's own.
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{home}/prefect.db",
        "PREFECT_SERVER_API_AUTH_STRING": password,
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": address,
        "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",
    }


def _find_useless_proxies() -> dict[str, None]:
    """Return the variables that name a SOCKS proxy where the package for it is missing.

    httpx prepares all proxies that are named before it looks at NO_PROXY, so without that package there would be no
    client for this server either, though nothing that is sent to it leaves the machine.
    """
    if find_spec("socksio") is not None:
        return {}
    names = {"all_proxy", "http_proxy", "https_proxy"}
    return {
        key: None for key, value in os.environ.items() if key.lower() in names and value.lower().startswith("socks")
    }


@contextmanager
def _set_environment(changes: Mapping[str, str | None]) -> Iterator[None]:
    """Change environment variables while the body runs, None removes one, and make Prefect read them again."""
    before = {key: os.environ.get(key) for key in changes}
    _update_environment(changes)
    try:
        yield
    finally:
        _update_environment(before)


def _update_environment(changes: Mapping[str, str | None]) -> None:
    for key, value in changes.items():
        if value is None:
            os.environ.pop(key, None)
        else:
            os.environ[key] = value
    refresh_global_settings_context()


@contextmanager
def _mark_in_use(home: Path) -> Iterator[None]:
    """Hold a shared lock on the folder; the first process to take it closes the runs that killed ones left open."""
    with (home / "in-use.lock").open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _close_runs_of_dead_processes()
        except BlockingIOError:
            # Another live process serves the same history: runs that look unfinished may be its own.
            pass
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield


def _send_what_is_queued() -> None:
    EventsWorker.drain_all(timeout=SENDING_S)
    APILogHandler().flush()


def _close_runs_of_dead_processes() -> None:
    """Mark runs that a killed process left unfinished as crashed; they would be shown as running forever."""
    unfinished = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=UNFINISHED)))
    with get_client(sync_client=True) as client:
        for flow_run in client.read_flow_runs(flow_run_filter=unfinished):
            client.set_flow_run_state(flow_run.id, Crashed(message="its process ended unexpectedly"), force=True)
