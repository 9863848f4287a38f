"""A web server in a thread of this process that answers only the user.

Any web page that the user's browser shows can send requests to a port of this machine, and any program of another user
can open it. So each request is checked three times before the application sees it. The ``Host`` header must be this
server's own, which stops DNS rebinding. The ``Origin`` header, where there is one, must be the same, which stops what
other pages forge. And the token that was printed at the start must be there.

The thread cannot outlive the process, however that ends.
"""

from __future__ import annotations

import hmac
import ipaddress
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

import uvicorn
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from segem.errors import ConfigError, ServerError

Identify = Callable[[str], str | None]
"""Returns the name of who holds a token; None where nobody does."""

LOOPBACK = "127.0.0.1"
PERSON = "segem.person"
"""Key of an ASGI scope under which an application finds who asks, where each person has a token."""
OWN_HEADERS = "segem.headers"
"""Key of an ASGI scope under which an application puts what it must say otherwise than `SECURITY_HEADERS` do."""
STILL = "segem.still"
"""Key under which it finds a function that says whether that person may still ask, as after a long upload."""
THREAD = "segem-server"
# 16 characters of base64 are 96 bits: nobody guesses that over a network.
LEAST_TOKEN = 16
POLL_SECONDS = 0.02

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""On every answer: scripts and styles from files of this server only, never inline; no page may frame it."""


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


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
        if self.tls is None and not _is_loopback(self.host):
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


def guard(
    app: ASGIApp, address: str, token: str | Identify | None = None, headers: Mapping[str, str] = SECURITY_HEADERS
) -> ASGIApp:
    """Wrap an application so that it sees only requests that the user sent.

    A request is refused with 403 when its ``Host`` is not that of `address`, or its ``Origin`` is another site's, and
    with 401 when it brings no token or a wrong one. Websockets are checked in the same way.

    Parameters
    ----------
    app : ASGIApp
        The application.
    address : str
        Where it is served, as in ``"http://127.0.0.1:8123"``. A loopback address may also be called ``localhost``.
    token : str or callable, optional
        Expected in the header ``Authorization: Bearer TOKEN``, or in a cookie. A first visit with ``?token=TOKEN`` gets
        the cookie and is redirected to the same page without the token, to keep it out of the browser's history. Where
        each person has one, it is called with what a request brings, at each request, so that a token that is revoked
        is refused at once; the application finds the name under `PERSON` in the scope, and can ask again under `STILL`.
    headers : mapping
        Added to every answer, in place of what the application has of them.

    Returns
    -------
    ASGIApp

    Raises
    ------
    ConfigError
        When the token is so short that it can be guessed.
    """
    if isinstance(token, str) and len(token) < LEAST_TOKEN:
        raise ConfigError(
            "the token is too short",
            expected=f"{LEAST_TOKEN} characters or more",
            found=len(token),
            fix="use secrets.token_urlsafe(32)",
        )
    served = urlsplit(address)
    hosts = _hosts_of(served.scheme, served.hostname or "", served.port)
    # Browsers send a cookie to every port of a host, so two servers with the same name for it would overwrite it.
    cookie = f"segem-{served.port}"
    identify = (lambda given: "" if _is_same(given, token) else None) if isinstance(token, str) else token

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        # Start and stop of the server itself, not a request.
        if scope["type"] == "lifespan":
            await app(scope, receive, send)
            return
        request = HTTPConnection(scope)
        refusal = _check_site(request, hosts, served.scheme)
        if refusal is None and identify is not None:
            person = _check_token(request, identify, cookie, served.scheme)
            if isinstance(person, str):
                scope[PERSON] = person
                scope[STILL] = lambda: _check_token(request, identify, cookie, served.scheme) == person
            else:
                refusal = person
        scope[OWN_HEADERS] = own = dict[str, str]()
        await (refusal or app)(scope, receive, _with_headers(send, headers, own))

    return guarded


@contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end the body by `SystemExit`, so that what is open is closed; exit code 143.

    It does nothing outside the main thread, or where the program has a handler of its own.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    # An exception, unlike the default action, lets `with` and `finally` close what is open.
    def leave(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _hosts_of(scheme: str, host: str, port: int | None) -> set[str]:
    """Return what a browser may send as ``Host``; it leaves out the default port of the scheme."""
    names = {host, "localhost", LOOPBACK} if _is_loopback(host) else {host}
    implied = port in {None, {"http": 80, "https": 443}[scheme]}
    return {f"{name}:{port}" for name in names} | (names if implied else set())


def _check_site(request: HTTPConnection, hosts: set[str], scheme: str) -> Response | None:
    called = [value.lower() for value in request.headers.getlist("host")]
    # Two Host headers could be read differently by this check and by the application.
    if len(called) != 1 or called[0] not in hosts:
        return PlainTextResponse(f"This server answers at {', '.join(sorted(hosts))} only.", 403)
    # "null", which sandboxed pages and local files send, is another site too.
    if any(origin != f"{scheme}://{called[0]}" for origin in request.headers.getlist("origin")):
        return PlainTextResponse("This request comes from a page of another site.", 403)
    return None


def _check_token(request: HTTPConnection, identify: Identify, cookie: str, scheme: str) -> Response | str:
    """Return who asks, or the answer to somebody who may not or who comes for the first time."""
    first = request.query_params.get("token", "")
    if first and request.scope.get("method") in {"GET", "HEAD"} and identify(first) is not None:
        # An absolute address, because a path that starts with // would be taken for another host, and by the scheme of
        # the browser, which a proxy in between may change.
        place = request.url.remove_query_params("token").replace(scheme=scheme)
        answer = RedirectResponse(place, 303, {"Cache-Control": "no-store"})
        answer.set_cookie(cookie, first, httponly=True, samesite="strict", secure=scheme == "https")
        return answer
    kind, _, credentials = request.headers.get("authorization", "").partition(" ")
    for given in (credentials if kind.lower() == "bearer" else "", request.cookies.get(cookie, "")):
        if given and (person := identify(given)) is not None:
            return person
    told = "This page needs its token: open the address that was printed when the server started."
    return PlainTextResponse(told, 401)


def _is_same(given: str, secret: str) -> bool:
    """Compare in constant time, so that the time does not tell how much of a guess is right."""
    return hmac.compare_digest(given.encode(), secret.encode())


def _with_headers(send: Send, headers: Mapping[str, str], own: Mapping[str, str]) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] in {"http.response.start", "websocket.http.response.start"}:
            MutableHeaders(scope=message).update({**headers, **own})
        await send(message)

    return sent


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
