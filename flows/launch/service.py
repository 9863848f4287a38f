"""The service of a workspace: where its files lie, the settings it is reached by, and who runs it.

Nothing here imports Prefect, which reads its settings from the environment when it is first imported.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from flows.launch.local import PREFECT_SETTINGS
from flows.launch.proxies import spare_loopback
from segem.errors import ConfigError, WorkspaceError
from segem.guard import LOOPBACK

DEFAULT_PORT = 4200
LARGEST_LOG = 10_000_000
USER = "segem"
URL, PASSWORD, HOME = "PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_HOME"
VACUUM = "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED"


@dataclass(frozen=True)
class Service:
    """The files of the service of one workspace; they need not exist.

    Parameters
    ----------
    workspace : Path
        Root of the workspace, absolute.
    """

    workspace: Path

    @property
    def root(self) -> Path:
        """Folder of all that the service keeps, for its owner only."""
        return self.workspace / ".service"

    @property
    def home(self) -> Path:
        """Prefect's own folder, with the database of schedules and runs."""
        return self.root / "prefect"

    @property
    def database(self) -> Path:
        """Prefect's database."""
        return self.home / "prefect.db"

    @property
    def leases(self) -> Path:
        """Folder with a lease for each flow run that a worker has picked up."""
        return self.root / "leases"

    @property
    def settings_file(self) -> Path:
        """Lines of ``KEY=VALUE`` that a shell and systemd can read; they hold the password."""
        return self.root / "settings.env"

    @property
    def worker_log(self) -> Path:
        """What the worker prints."""
        return self.root / "worker.log"

    @property
    def flows_log(self) -> Path:
        """What the processes of the runs print; segem's own lines are on the pages of the runs too."""
        return self.root / "flows.log"

    @property
    def lock(self) -> Path:
        """Held while the service runs, with the id of its process."""
        return self.root / "service.lock"

    def prepare(self, port: int | None = None) -> dict[str, str]:
        """Make the folders and the settings where they are missing, and return the settings.

        Parameters
        ----------
        port : int, optional
            Where the server is to listen from now on; the port of the last time when absent.

        Returns
        -------
        dict
            The settings that clients need; the password is made once.

        Raises
        ------
        WorkspaceError
            When the workspace cannot be written.
        """
        try:
            for folder in (self.root, self.home, self.leases):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                folder.chmod(0o700)
            before = self.settings()
            settings = {
                URL: f"http://{LOOPBACK}:{port}/api" if port else before.get(URL, _default_url()),
                PASSWORD: before.get(PASSWORD) or f"{USER}:{secrets.token_urlsafe(32)}",
                HOME: str(self.home),
            }
            if settings != before:
                _write_secret(
                    self.settings_file, "".join(f"{key}={shlex.quote(value)}\n" for key, value in settings.items())
                )
        except OSError as error:
            raise WorkspaceError(
                "the service cannot keep its files here",
                where=error.filename or self.root,
                found=error.strerror,
                fix="check the rights of the workspace and the free space of its disk",
            ) from error
        return settings

    def settings(self) -> dict[str, str]:
        """Return the settings that clients need; empty where the service was never started."""
        try:
            lines = self.settings_file.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return {}
        pairs = (line.partition("=") for line in lines if line.strip())
        return {key: "".join(shlex.split(value)) for key, _, value in pairs}

    def client_environment(self) -> dict[str, str]:
        """Return the environment in which a client, a worker or a flow reaches the server."""
        return {**PREFECT_SETTINGS, **self.settings(), **spare_loopback()}

    def server_environment(self) -> dict[str, str]:
        """Return the environment of the server itself."""
        settings = self.settings()
        return {
            **self.client_environment(),
            "PREFECT_SERVER_API_AUTH_STRING": settings[PASSWORD],
            "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": settings[URL].removesuffix("/api"),
            "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
            # On disk: a run that goes on while the service is started again keeps its slot. From memory it would be
            # lost, so that Prefect ends the run at the next look, and the slot of one that died meanwhile stays taken.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            # Home and database can be set independently; both must be this service's own.
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{self.database}",
            # A SQLite that is busy for a moment fills pages with tracebacks; clients are told to come back, and do.
            "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
            "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",
            # Relative, so that the page works by the name it was called by: localhost, or the end of an ssh tunnel.
            "PREFECT_SERVER_UI_API_URL": "/api",
            "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
            "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(self.home / "ui"),
            # Old events only, which nobody reads: the history of runs is the user's.
            VACUUM: "events",
        }

    def address(self) -> str:
        """Return where the server is, or was last, as in ``"http://127.0.0.1:4200"``."""
        return self.settings().get(URL, _default_url()).removesuffix("/api")

    def running(self) -> int | None:
        """Return the id of the process that runs the service; None where nobody does."""
        try:
            with self.lock.open("r") as handle:
                try:
                    fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return int(handle.read() or 0)
        except (FileNotFoundError, ValueError):
            return None
        return None

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Be the one process that runs the service while the body runs.

        Raises
        ------
        WorkspaceError
            When another one does.
        """
        with self.lock.open("a+") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise WorkspaceError(
                    "the service of this workspace runs already",
                    where=self.workspace,
                    found=f"process {self.running()} at {self.address()}",
                    fix="use that one, or stop it first: segem serve --drain, or Ctrl-C where it runs",
                ) from None
            handle.truncate(0)
            handle.write(str(os.getpid()))
            handle.flush()
            try:
                yield
            finally:
                with suppress(OSError):
                    handle.truncate(0)


def open_log(path: Path) -> int:
    """Open a log to add to, and put it aside first where it has grown large; one older log is kept.

    Returns
    -------
    int
        The descriptor.
    """
    with suppress(FileNotFoundError):
        if path.stat().st_size > LARGEST_LOG:
            path.replace(path.with_suffix(f"{path.suffix}.1"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def check_environment(environment: Mapping[str, str]) -> None:
    """Refuse to serve where the environment belongs to another Prefect server.

    Raises
    ------
    ConfigError
        When PREFECT_API_URL is set.
    """
    if environment.get(URL):
        raise ConfigError(
            "this shell is set up for another Prefect server",
            where=URL,
            found=environment[URL],
            fix=f"unset {URL}, and start the service again",
        )


def _default_url() -> str:
    return f"http://{LOOPBACK}:{DEFAULT_PORT}/api"


def _write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner can read, from its first byte on, and in one step."""
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
