"""The service of a workspace: Prefect's server, a worker, the schedules and the reaper, as long as this process runs.

The server is a thread of this process, the worker and the flow runs are processes of their own. Flow runs outlive a
worker that is killed. They go on without this process too, and wait some minutes for an answer where they need one; the
next service knows by their leases which of them live, and starts the others again.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from flows.launch.deployments import POOL
from flows.launch.history import serve_history
from flows.launch.launcher import WORKSPACE
from flows.launch.lease import expired, leases_in
from flows.launch.service import PASSWORD, Service, check_environment, open_log
from flows.links import REPORTS, VARIABLE
from segem.config.service import ServeConfig
from segem.errors import WorkspaceError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

TICK_SECONDS = 0.5
REAP_SECONDS = 30.0
REAP_VARIABLE = "SEGEM_REAP_SECONDS"
"""Variable by which tests look at the leases more often."""
STOP_SECONDS = 30.0
"""How long a flow run has to tell the server that it is stopped."""
WORKED_SECONDS = 10.0
"""A worker that lasted this long had begun its work; what ended it was no fault of its start."""
LONGEST_BACKOFF = 60.0
DRAIN = signal.SIGUSR1


@dataclass(frozen=True)
class Serving:
    """A service that is up."""

    page: str
    """Address of Prefect's page."""
    reports: str
    """Address of the list of reports."""
    login: str
    """What both ask for: the page all of it, a browser the name before the colon and the password after it."""
    tunnel: str
    """Command that makes them reachable from another machine."""
    workspace: str
    """Root of the workspace."""


def run_service(
    workspace: Path, config: ServeConfig, announce: Callable[[Serving], None], say: Callable[[str], None]
) -> None:
    """Serve a workspace until SIGTERM or Ctrl-C, or until a drained service has nothing left to do.

    Parameters
    ----------
    workspace : Path
        Root of the workspace, absolute; made when missing.
    config : ServeConfig
        Port, and how many flow runs work at a time.
    announce : callable
        Called once, as soon as the service is up.
    say : callable
        Called with what happens later, a line each.

    Raises
    ------
    ConfigError
        When the shell is set up for another Prefect server.
    WorkspaceError
        When a service of this workspace runs already, or its files cannot be written.
    ServerError
        When the port is taken, or the server does not start.
    """
    check_environment(os.environ)
    service = Service(workspace)
    service.prepare()
    with ExitStack() as stack:
        stack.enter_context(service.hold())
        asked = stack.enter_context(_signals())
        address, client = stack.enter_context(serve_history(service, config.port))
        worker = _Worker(service, config.at_once, say)
        stack.callback(_stop, service, worker, client)
        worker.start()
        announce(_introduce(service, address))
        _watch(service, worker, client, asked, say)


def _introduce(service: Service, address: str) -> Serving:
    port = address.rpartition(":")[2]
    return Serving(
        page=address,
        reports=f"{address}{REPORTS}/",
        # Nothing secret in a journal or a log, which others may read.
        login=service.settings()[PASSWORD] if sys.stdout.isatty() else f"{PASSWORD} in {service.settings_file}",
        tunnel=f"ssh -L {port}:127.0.0.1:{port} {socket.gethostname()}",
        workspace=str(service.workspace),
    )


class _Asked:
    """What signals have asked for."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.drain = threading.Event()


@contextmanager
def _signals() -> Iterator[_Asked]:
    """Note signals instead of being ended by them; a second one to stop ends the process as usual."""
    asked = _Asked()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, DRAIN)}

    def note(number: int, _frame: FrameType | None) -> None:
        if number == DRAIN:
            asked.drain.set()
            return
        asked.stop.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, note)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Worker:
    """The worker's process, which is started again when it ends by itself."""

    def __init__(self, service: Service, limit: int, say: Callable[[str], None]) -> None:
        self.service, self.limit, self.say = service, limit, say
        self.process: subprocess.Popen[bytes] | None = None
        self.began, self.backoff, self.ended = 0.0, 1.0, 0.0

    def start(self) -> None:
        environment = {
            **os.environ,
            **self.service.client_environment(),
            WORKSPACE: str(self.service.workspace),
            VARIABLE: f"{self.service.address()}{REPORTS}",
            # A run goes on while the service is started again, which takes a minute on a busy machine.
            "PREFECT_CLIENT_MAX_RETRIES": "8",
        }
        # The password of the server is that of the clients; what else is the server's own is no business of flows.
        environment = {key: value for key, value in environment.items() if not key.startswith("PREFECT_SERVER_")}
        log = open_log(self.service.worker_log)
        try:
            # A session of its own: Ctrl-C is for the service, which ends the worker when the runs are told.
            self.process = subprocess.Popen(  # noqa: S603 - this Python, and a number
                [sys.executable, "-m", "flows.launch.worker", socket.gethostname(), str(self.limit)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        finally:
            os.close(log)
        self.began, self.ended = time.monotonic(), 0.0

    def keep_alive(self) -> None:
        """Start it again where it has ended, soon at first and later when it ends time and again."""
        if self.process is None or self.process.poll() is None:
            return
        now = time.monotonic()
        if not self.ended:
            self.ended = now
            worked = now - self.began > WORKED_SECONDS
            self.backoff = 1.0 if worked else min(2 * self.backoff, LONGEST_BACKOFF)
            self.say(
                f"the worker ended with code {self.process.returncode} and is started again in {self.backoff:.0f} s; "
                f"see {self.service.worker_log}"
            )
        if now - self.ended >= self.backoff:
            self.start()

    def stop(self) -> None:
        if self.process is None:
            return
        with suppress(ProcessLookupError):
            self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()


def _watch(
    service: Service, worker: _Worker, client: SyncPrefectClient, asked: _Asked, say: Callable[[str], None]
) -> None:
    from flows.launch.reaper import reap
    from flows.notices import tell_of

    every = float(os.environ.get(REAP_VARIABLE, REAP_SECONDS))
    reaped, draining, idle = float("-inf"), False, 0
    while not asked.stop.is_set():
        if time.monotonic() - reaped >= every:
            # Our own server, over loopback: what fails here is worth another look, not the end of the service.
            try:
                for found in reap(service.leases, client):
                    say(_describe(found.name, found.stopped, found.again))
                    if not found.stopped and found.again is None:
                        tell_of(service.workspace, found.run or found.name, "crashed", "its process ended unexpectedly")
            except Exception as error:
                say(f"warning: the runs could not be looked at: {error}")
            reaped = time.monotonic()
        if asked.drain.is_set() and not draining:
            _pause(client)
            draining = True
            say(f"drain: nothing new is started; {len(_living(service))} flow runs are finished first")
        # Twice: a run that the worker was just about to pick up is there at the second look.
        idle = idle + 1 if draining and not _living(service) else 0
        if idle > 2:
            say("drain: nothing is left to do")
            return
        worker.keep_alive()
        asked.stop.wait(TICK_SECONDS)


def _describe(name: str, stopped: bool, again: str | None) -> str:
    what = f"flow run {name} {'was cancelled, and has ended' if stopped else 'crashed: its process is gone'}"
    return f"{what}, and is started again" if again else what


def _living(service: Service) -> list[str]:
    """Return the flow runs whose leases are held."""
    living = []
    for lease in leases_in(service.leases):
        with expired(lease) as dead:
            if not dead:
                living.append(lease.flow_run)
    return living


def _stop(service: Service, worker: _Worker, client: SyncPrefectClient) -> None:
    """End the flow runs, then the worker; the server, which both report to, is ended by the caller."""
    from flows.launch.reaper import reap

    with suppress(Exception):
        _pause(client)
    for lease in leases_in(service.leases):
        process = lease.process()
        if process is not None:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while _processes(service) and time.monotonic() < deadline:
        time.sleep(0.1)
    worker.stop()
    with suppress(Exception):
        reap(service.leases, client)


def _processes(service: Service) -> list[int]:
    return [process.pid for lease in leases_in(service.leases) if (process := lease.process()) is not None]


def _pause(client: SyncPrefectClient) -> None:
    """Let the server hand out no run any more; the next service lifts this."""
    from prefect.client.schemas.actions import WorkPoolUpdate

    client.update_work_pool(POOL, WorkPoolUpdate(is_paused=True))


def drain(workspace: Path, say: Callable[[str], None]) -> None:
    """Let the running service finish what it does and end, and wait for that.

    Raises
    ------
    WorkspaceError
        When no service of this workspace runs.
    """
    service = Service(workspace)
    process = service.running()
    # Not 0 either, as long as a service that just begins has not written its number: it means this process and others.
    if not process:
        raise WorkspaceError(
            "no service of this workspace runs", where=workspace, fix="check --workspace; there is nothing to drain"
        )
    os.kill(process, DRAIN)
    say(f"drain: process {process} finishes what runs, and starts nothing new; Ctrl-C here leaves it at that")
    while service.running() == process:
        time.sleep(TICK_SECONDS)
