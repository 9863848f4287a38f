"""Lets an application see only requests that the user sent.

Any web page that the user's browser shows can send requests to a port of this machine, and any program of another user
can open it. So each request is checked three times before the application sees it. The ``Host`` header must be this
server's own, which stops DNS rebinding. The ``Origin`` header, where there is one, must be the same, which stops what
other pages forge. And the token that was printed at the start must be there.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from segem.errors import ConfigError

Identify = Callable[[str], str | None]
"""Returns the name of who holds a token; None where nobody does."""

LOOPBACK = "127.0.0.1"
PERSON = "segem.person"
"""Key of an ASGI scope under which an application finds who asks, where each person has a token."""
OWN_HEADERS = "segem.headers"
"""Key of an ASGI scope under which an application puts what it must say otherwise than `SECURITY_HEADERS` do."""
STILL = "segem.still"
"""Key under which it finds a function that says whether that person may still ask, as after a long upload."""
# 16 characters of base64 are 96 bits: nobody guesses that over a network.
LEAST_TOKEN = 16

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""On every answer: scripts and styles from files of this server only, never inline; no page may frame it."""


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine, by its name or its address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


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


def _hosts_of(scheme: str, host: str, port: int | None) -> set[str]:
    """Return what a browser may send as ``Host``; it leaves out the default port of the scheme."""
    names = {host, "localhost", LOOPBACK} if is_loopback(host) else {host}
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
