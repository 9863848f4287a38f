"""Who is served and who is not, by real requests to a real port; and how a server ends."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from segem.errors import ConfigError, ServerError
from segem.guard import SECURITY_HEADERS, guard
from segem.serving import THREAD, Listener, ServerConfig, Tls, listen, serve
from tests.processes import clean_environment, free_port, listening, python, started, wait_for

TOKEN = secrets.token_urlsafe(32)
BEARER = {"Authorization": f"Bearer {TOKEN}"}
ENDED: list[str] = []


async def answer(request: Request) -> Response:
    """Say what was asked for; a header that weakens the page is set, as a careless application might."""
    text = f"{request.method} {request.url.path}?{request.url.query}"
    return PlainTextResponse(text, headers={"Referrer-Policy": "unsafe-url"})


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(await websocket.receive_text())


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    yield
    ENDED.append("closed")


APP = Starlette(
    routes=[WebSocketRoute("/echo", echo), Route("/{path:path}", answer, methods=["GET", "POST"])], lifespan=lifespan
)


@pytest.fixture(scope="module")
def served() -> Iterator[Listener]:
    with listen() as listener, serve(APP, listener, TOKEN):
        yield listener


def ask(address: str, path: str = "/page", method: str = "GET", **headers: str) -> httpx.Response:
    return httpx.request(method, f"{address}{path}", headers=headers, trust_env=False)


def port_of(listener: Listener) -> int:
    port: int = listener.socket.getsockname()[1]
    return port


def test_the_right_token_passes_and_every_answer_is_sealed(served: Listener) -> None:
    for method in ("GET", "POST"):
        passed = ask(served.address, method=method, **BEARER)
        assert (passed.status_code, passed.text) == (200, f"{method} /page?")
        assert {key: passed.headers[key] for key in SECURITY_HEADERS} == SECURITY_HEADERS
        assert "server" not in passed.headers
    assert "'unsafe-inline'" not in SECURITY_HEADERS["Content-Security-Policy"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": TOKEN},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer \u00e9"},
        {"Cookie": "segem=1"},
    ],
)
def test_no_token_or_a_wrong_one_is_refused(served: Listener, headers: dict[str, str]) -> None:
    raw = {key.encode("latin-1"): value.encode("latin-1") for key, value in headers.items()}
    for method in ("GET", "POST"):
        refused = httpx.request(method, f"{served.address}/page", headers=raw, trust_env=False)
        assert refused.status_code == 401
        assert "/page" not in refused.text
        assert refused.headers["content-security-policy"] == SECURITY_HEADERS["Content-Security-Policy"]
    assert ask(served.address, f"/page?token={TOKEN[1:]}").status_code == 401
    assert ask(served.address, f"/page?token={TOKEN}", method="POST").status_code == 401


@pytest.mark.parametrize("name", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "127.0.0.1.evil"])
def test_a_host_that_only_resolves_here_is_refused(served: Listener, name: str) -> None:
    host = name.format(port=port_of(served))
    assert ask(served.address, Host=host, **BEARER).status_code == 403
    assert ask(served.address, f"/page?token={TOKEN}", Host=host).status_code == 403


def test_this_machine_has_two_names(served: Listener) -> None:
    for name in ("localhost", "LOCALHOST", "127.0.0.1"):
        assert ask(served.address, Host=f"{name}:{port_of(served)}", **BEARER).status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1", "https://127.0.0.1:{port}", "http://localhost:{port}"]
)
def test_a_request_of_another_page_is_refused_even_with_the_token(served: Listener, origin: str) -> None:
    foreign = origin.format(port=port_of(served))
    for method in ("GET", "POST"):
        assert ask(served.address, method=method, Origin=foreign, **BEARER).status_code == 403
    assert ask(served.address, Origin=served.address, **BEARER).status_code == 200


def test_two_hosts_or_none_are_no_host(served: Listener) -> None:
    for hosts in ("", f"Host: 127.0.0.1:{port_of(served)}\r\nHost: evil.example\r\n"):
        with socket.create_connection(("127.0.0.1", port_of(served))) as line:
            line.sendall(f"GET / HTTP/1.1\r\n{hosts}Authorization: Bearer {TOKEN}\r\n\r\n".encode())
            assert line.recv(64).split()[1] in {b"400", b"403"}


def test_the_first_visit_gets_a_cookie_and_loses_the_token_from_its_address(served: Listener) -> None:
    with httpx.Client(trust_env=False) as browser:
        first = browser.get(f"{served.address}//evil.example/a?x=1&token={TOKEN}&y=2")
        assert first.status_code == 303
        assert first.headers["location"] == f"{served.address}//evil.example/a?x=1&y=2"
        assert first.headers["cache-control"] == "no-store"
        name, *attributes = first.headers["set-cookie"].lower().split("; ")
        assert name.startswith(f"segem-{port_of(served)}=")
        assert {"httponly", "samesite=strict", "path=/"} <= set(attributes)
        assert "secure" not in attributes
        # The cookie lets in, also with the token in the address once more.
        assert browser.get(f"{served.address}/a?x=1").text == "GET /a?x=1"
        assert browser.post(f"{served.address}/a", headers={"Origin": served.address}).status_code == 200
        assert browser.post(f"{served.address}/a", headers={"Origin": "http://evil.example"}).status_code == 403
        assert browser.get(f"{served.address}/a?token={TOKEN}").status_code == 303


def test_websockets_are_guarded_too(served: Listener) -> None:
    address = f"{served.address.replace('http', 'ws')}/echo"
    with connect(address, additional_headers=BEARER) as line:
        line.send("hello")
        assert line.recv() == "hello"
    for headers, status in (
        ({}, 401),
        ({"Authorization": "Bearer guess"}, 401),
        ({**BEARER, "Origin": "http://evil.example"}, 403),
    ):
        with pytest.raises(InvalidStatus) as refused, connect(address, additional_headers=headers):
            pass
        assert refused.value.response.status_code == status
    with pytest.raises(InvalidStatus), connect(f"{address}?token={TOKEN}"):
        pass


def test_a_token_that_can_be_guessed_is_none() -> None:
    for token in ("", "secret"):
        with pytest.raises(ConfigError, match="token is too short"):
            guard(APP, "http://127.0.0.1:1", token)


def test_an_application_with_a_password_of_its_own_needs_no_token() -> None:
    with listen() as listener, serve(APP, listener):
        assert ask(listener.address).status_code == 200
        assert ask(listener.address, Host="evil.example").status_code == 403
        assert ask(listener.address, Origin="http://evil.example").status_code == 403


def test_it_listens_on_loopback_and_ends_with_the_body() -> None:
    def threads() -> int:
        return [thread.name for thread in threading.enumerate()].count(THREAD)

    before = threads()

    def fail_while_served() -> None:
        with serve(APP, listener, TOKEN):
            assert listening(os.getpid()) == {"127.0.0.1"}
            assert threads() == before + 1
            assert ask(listener.address, **BEARER).status_code == 200
            raise KeyError

    ENDED.clear()
    with listen() as listener:
        with pytest.raises(KeyError):
            fail_while_served()
        assert ENDED == ["closed"]
        assert threads() == before
    with pytest.raises(httpx.ConnectError):
        ask(listener.address)


def test_a_port_in_use_is_one_clear_error(served: Listener) -> None:
    port = port_of(served)
    with pytest.raises(ServerError, match=rf"127\.0\.0\.1:{port}: cannot listen here.*Fix: choose another port"):
        listen(ServerConfig(port=port)).__enter__()
    with listen(ServerConfig(port=free_port())) as other:
        assert other.address == f"http://127.0.0.1:{port_of(other)}"


def test_an_application_that_does_not_start_is_one_clear_error() -> None:
    @asynccontextmanager
    async def fail(_: Starlette) -> AsyncIterator[None]:
        raise RuntimeError("no database")
        yield

    with (
        listen() as listener,
        pytest.raises(ServerError, match=r"the server does not start.*it stopped at once"),
        serve(Starlette(lifespan=fail), listener),
    ):
        pass


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"host": "192.0.2.1"}, "other machines are served over https only.*found 192.0.2.1.*ssh -L"),
        ({"host": "lab.example"}, "https only"),
        ({"host": "0.0.0.0"}, "must know the name that it is called by"),
        ({"host": ""}, "must know the name"),
        ({"port": 65536}, "no such port; expected 0 to 65535, found 65536"),
        ({"port": -1}, "no such port"),
        ({"host": "lab.example", "tls": Tls(Path("no.pem"), Path("no.key"))}, "no.pem: no such file"),
    ],
)
def test_only_this_machine_is_served_without_tls(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ServerConfig(**changes)  # type: ignore[arg-type]


def certificate(folder: Path) -> Tls:
    """Make a certificate of this machine that it signed itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "segem")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    made = Tls(folder / "certificate.pem", folder / "key.pem")
    made.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    made.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made


def test_over_https_the_cookie_never_leaves_it(tmp_path: Path) -> None:
    tls = certificate(tmp_path)
    with listen(ServerConfig(tls=tls)) as listener, serve(APP, listener, TOKEN):
        assert listener.address.startswith("https://127.0.0.1:")
        trusted = ssl.create_default_context(cafile=tls.certificate)
        with httpx.Client(verify=trusted, trust_env=False, base_url=listener.address) as browser:
            first = browser.get(f"/a?token={TOKEN}")
            assert first.headers["location"] == f"{listener.address}/a"
            assert "secure" in first.headers["set-cookie"].lower().split("; ")
            assert browser.get("/a", headers={"Origin": listener.address}).status_code == 200
            plain = listener.address.replace("https", "http")
            assert browser.get("/a", headers={"Origin": plain}).status_code == 403


def test_a_key_of_another_certificate_is_one_clear_error(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    mixed = Tls(certificate(tmp_path / "one").certificate, certificate(tmp_path / "other").key)
    with (
        listen(ServerConfig(tls=mixed)) as listener,
        pytest.raises(ServerError, match=r"does not start; found .*KEY_VALUES_MISMATCH.*a certificate must fit"),
        serve(APP, listener, TOKEN),
    ):
        pass


WAIT = """
import sys, time
from tests.integration.test_serving import APP, TOKEN
from segem.serving import listen, serve
from segem.signals import exit_on_sigterm
try:
    with exit_on_sigterm(), listen() as listener, serve(APP, listener, TOKEN):
        print("at", listener.address, flush=True)
        while True:
            time.sleep(0.1)
finally:
    from tests.integration.test_serving import ENDED
    print(ENDED, flush=True)
"""


def test_sigterm_closes_what_is_open(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with started(python(WAIT), log, clean_environment()) as process:
        wait_for(lambda: b"at http" in log.read_bytes(), 60, log)
        assert listening(process.pid) == {"127.0.0.1"}
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 128 + signal.SIGTERM
    assert log.read_text().endswith("['closed']\n")


def test_behind_a_proxy_it_answers_to_the_name_that_people_call() -> None:
    public = "https://review.example.org"
    with listen(ServerConfig(public=public)) as listener, serve(APP, listener, TOKEN):
        assert listener.address == public
        local = f"http://127.0.0.1:{port_of(listener)}"
        called = {"Host": "review.example.org"}
        first = ask(local, f"/page?token={TOKEN}&a=1", **called)
        assert (first.status_code, first.headers["location"]) == (303, f"{public}/page?a=1")
        assert "; Secure" in first.headers["set-cookie"]
        for method in ("GET", "POST"):
            assert ask(local, method=method, Origin=public, **called, **BEARER).status_code == 200
            assert ask(local, method=method, Origin="http://review.example.org", **called, **BEARER).status_code == 403
            assert ask(local, method=method, **BEARER).status_code == 403, "called by the name of the machine"
