"""A web server in a thread of this process that answers only the user, see `segem.guard`.

The thread cannot outlive the process, however that ends.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from segem.errors import ConfigError, ServerError
from segem.guard import LOOPBACK, SECURITY_HEADERS, Identify, guard, is_loopback

THREAD = "segem-server"
POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Tls:
    """A certificate and its private key, in PEM files."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class ServerConfig:
    """Where a server listens, and how long it may take to start and to stop.

    Parameters
    ----------
    host : str
        Name or IPv4 address that the server listens on and is called by. Without `tls` it must be this machine's own
        (``127.0.0.1`` or ``localhost``), since the token would cross the network readable.
    port : int
        0 takes a free one.
    tls : Tls, optional
        Serve https.
    public : str, optional
        What the server is called by where a proxy on this machine stands before it, which speaks https to the others.
    startup_seconds, shutdown_seconds : float
        How long to wait for the server.

    Raises
    ------
    ConfigError
        When a value is not allowed, or a file of `tls` is missing.
    """

    host: str = LOOPBACK
    port: int = 0
    tls: Tls | None = None
    public: str | None = None
    startup_seconds: float = 120.0
    shutdown_seconds: float = 10.0

    def __post_init__(self) -> None:
        if not 0 <= self.port < 2**16:
            raise ConfigError("no such port", expected="0 to 65535", found=self.port, fix="give another port, or 0")
        if self.host in {"", "0.0.0.0", "::"}:  # noqa: S104 - refused
            raise ConfigError(
                "a server must know the name that it is called by, to tell its own requests from forged ones",
                where="host",
                found=self.host or "no name",
                fix="give the name or address of this machine that others use",
            )
        if self.tls is None and not is_loopback(self.host):
            raise ConfigError(
                "other machines are served over https only",
                where="host",
                expected=f"{LOOPBACK}, or a certificate and its key",
                found=self.host,
                fix="give both files, or reach this machine through an SSH tunnel (ssh -L)",
            )
        for path in (self.tls.certificate, self.tls.key) if self.tls is not None else ():
            if not path.is_file():
                raise ConfigError("no such file", where=path, fix="check the paths of the certificate and of its key")

    @property
    def scheme(self) -> str:
        """``"http"``, or ``"https"`` with TLS."""
        return "http" if self.tls is None else "https"


LOCAL = ServerConfig()
"""A free port of this machine."""


@dataclass(frozen=True)
class Listener:
    """A bound socket that accepts connections, and where it is reached."""

    config: ServerConfig
    socket: socket.socket
    address: str
    """As in ``"http://127.0.0.1:8123"``."""


@contextmanager
def listen(config: ServerConfig = LOCAL) -> Iterator[Listener]:
    """Take a port while the body runs, so that the address is known before anything is served.

    Parameters
    ----------
    config : ServerConfig
        Host and port.

    Yields
    ------
    Listener

    Raises
    ------
    ServerError
        When the port is in use, the host is not one of this machine, or the system refuses.
    """
    try:
        bound = socket.create_server((config.host, config.port))
    except OSError as error:
        raise ServerError(
            "cannot listen here",
            where=f"{config.host}:{config.port}",
            found=error.strerror or str(error),
            fix=f"choose another port, or see what listens there (`ss -ltnp 'sport = :{config.port}'`)",
        ) from error
    with bound:
        yield Listener(config, bound, config.public or f"{config.scheme}://{config.host}:{bound.getsockname()[1]}")


@contextmanager
def serve(
    app: ASGIApp,
    listener: Listener,
    token: str | Identify | None = None,
    *,
    headers: Mapping[str, str] = SECURITY_HEADERS,
) -> Iterator[None]:
    """Serve an application from a thread while the body runs.

    Parameters
    ----------
    app : ASGIApp
        The application, with a lifespan. It sees only requests that pass `guard`.
    listener : Listener
        What `listen` gave.
    token : str or callable, optional
        Secret that each request must bring, or what knows the secrets of several people. Leave it out only where the
        application has a password of its own.
    headers : mapping
        Added to every answer, in place of what the application has of them.

    Raises
    ------
    ServerError
        When the server does not start.

    Examples
    --------
    >>> import secrets
    >>> import httpx
    >>> from starlette.applications import Starlette
    >>> from starlette.responses import PlainTextResponse
    >>> from starlette.routing import Route
    >>> app = Starlette(routes=[Route("/", lambda request: PlainTextResponse("hello"))])
    >>> token = secrets.token_urlsafe(32)
    >>> with listen() as listener, serve(app, listener, token):
    ...     httpx.get(listener.address, headers={"Authorization": f"Bearer {token}"}, trust_env=False).text
    'hello'
    """
    tls = listener.config.tls
    server = uvicorn.Server(
        uvicorn.Config(
            guard(app, listener.address, token, headers),
            access_log=False,  # it would keep the token of the first visit
            lifespan="on",  # an application that fails to start is an error, not a warning
            log_config=None,  # logging belongs to the program, not to the server
            proxy_headers=False,  # what a client says of itself is not believed
            server_header=False,
            ssl_certfile=tls.certificate if tls else None,
            ssl_keyfile=tls.key if tls else None,
            # Open connections, such as event streams, would otherwise keep the server from stopping.
            timeout_graceful_shutdown=2,
        )
    )
    failures: list[BaseException] = []

    def run() -> None:
        # SystemExit too: uvicorn exits when it cannot start, which in a thread would go unnoticed.
        try:
            server.run([listener.socket])
        except BaseException as error:
            failures.append(error)

    # A daemon, so that it never keeps a process alive that has nothing else to do.
    thread = threading.Thread(target=run, name=THREAD, daemon=True)
    thread.start()
    try:
        _wait_until_started(server, thread, listener, failures)
        yield
    finally:
        server.should_exit = True
        thread.join(listener.config.shutdown_seconds)


def _wait_until_started(
    server: uvicorn.Server, thread: threading.Thread, listener: Listener, failures: list[BaseException]
) -> None:
    limit = listener.config.startup_seconds
    deadline = time.monotonic() + limit
    while not server.started:
        if not thread.is_alive():
            reasons = [str(error) for error in failures if not isinstance(error, SystemExit)]
            raise ServerError(
                "the server does not start",
                where=listener.address,
                found="; ".join(reasons) or "it stopped at once",
                fix="the server's log names the reason; a certificate must fit its key",
            )
        if time.monotonic() > deadline:
            raise ServerError(
                "the server does not start",
                where=listener.address,
                found=f"no answer in {limit:.0f} s",
                fix="the machine may be too busy (look with `top`): wait and run again",
            )
        time.sleep(POLL_SECONDS)
