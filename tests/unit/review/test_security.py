"""Who may do what: every route of the page, found by asking the application, and everything that somebody may send."""

from __future__ import annotations

import http.client
import json
import re
import socket
import uuid

import httpx
import numpy as np
import psutil
import pytest
from starlette.routing import Route

from segem.guard import SECURITY_HEADERS
from segem.io.reviewers import find_reviewer, invite, revoke
from segem.kernels.runs import encode_runs
from segem.review.app import MOST_BYTES, make_app, make_routes
from segem.review.session import Review
from segem.serving import listen, serve
from tests.fabricate import add_model, add_volume, guess, new_workspace, tissue

TOKEN = "ana-" * 8
# One value that exists for each part of an address. A new part needs one here before it is tested.
PARTS = {
    **dict.fromkeys(("level", "z", "row", "column", "y", "x"), "0"),
    **dict.fromkeys(("size", "height", "width"), "8"),
    "volume": "v",
    "name": "main.js",
    "of": "above",
    "which": "first",
}
# What needs more than the address: page of who asks, two readings that differ.
QUERIES = {"/api/changes/{volume}/{z}": "?page=t"}
ABSENT = {"/api/readings/{which}/{volume}/{z}/{y}/{x}"}


@pytest.fixture(scope="module")
def review(tmp_path_factory):
    space = new_workspace(tmp_path_factory.mktemp("security") / "w")
    image, truth = tissue((2, 64, 90))
    add_volume(space, "v", image)
    add_model(space, "r", "v", guess(truth))
    opened = Review(space, "r")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def address(review):
    def identify(token):
        return {TOKEN: "Ana"}.get(token) or find_reviewer(review.log, token)

    with listen() as listener, serve(make_app(review), listener, identify):
        yield listener.address


@pytest.fixture(scope="module")
def ana(address):
    with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False) as opened:
        yield opened


@pytest.fixture(scope="module")
def routes(review):
    """Return method, template and address of every route that there is."""
    parts = PARTS | {"key": review.volumes["v"].raw.key}
    found = []
    for route in make_routes(review).routes:
        # What is not a route of its own would be walked past.
        assert isinstance(route, Route), route
        for method in sorted(route.methods - {"HEAD"}):
            filled = re.sub(r"{(\w+)}", lambda part: parts[part[1]], route.path)
            found.append((method, route.path, filled + QUERIES.get(route.path, "")))
    assert len(found) >= 20
    return found


@pytest.mark.slow
def test_no_route_answers_without_a_token_or_to_another_site(routes, ana, address):
    port = address.rpartition(":")[2]
    with httpx.Client(base_url=address, trust_env=False) as nobody:
        for method, template, path in routes:
            for headers in (
                {},
                {"Authorization": "Bearer " + "x" * 43},
                {"Authorization": f"Basic {TOKEN}"},
                {"Cookie": f"segem-{port}=x"},
                {"Cookie": f"segem-1={TOKEN}"},
            ):
                assert nobody.request(method, path, headers=headers).status_code == 401, (method, path, headers)
            for headers in (
                {"Origin": "https://evil.example"},
                {"Origin": "null"},
                {"Origin": f"http://127.0.0.1:{int(port) ^ 1}"},
                {"Host": "evil.example"},
                {"Host": f"evil.example:{port}"},
            ):
                assert ana.request(method, path, headers=headers).status_code == 403, (method, path, headers)
            answer = ana.request(method, path)
            expected = {422, 428} if method == "POST" else {404} if template in ABSENT else {200}
            assert answer.status_code in expected, (method, path, answer.text[:200])
            assert {key: answer.headers[key] for key in SECURITY_HEADERS} == SECURITY_HEADERS


def test_every_route_takes_the_methods_that_it_is_made_for_and_no_other(routes, ana):
    for method, _, path in routes:
        for other in {"GET", "POST", "PUT", "PATCH", "DELETE"} - {method}:
            assert ana.request(other, path).status_code == 405, (other, path)


UP = [
    "..",
    "../../run.json",
    "%2e%2e",
    "%2e%2e/%2e%2e/run.json",
    "..%2f..%2frun.json",
    "%2e%2e%2f%2e%2e%2f",
    "%252e%252e%252f",
    "....//....//run.json",
    "..\\..\\run.json",
    "%5c..%5c..",
    "/etc/passwd",
    "%2fetc%2fpasswd",
    "file:%2f%2f%2fetc%2fpasswd",
    "%00",
    "main.js%00.png",
    "reviews.sqlite",
    "index.html",
    "vendor/sources.json",
    "vendor%2fsources.json",
    "~root",
    "%c0%ae%c0%ae%c0%af",
    "..;/",
    ".%2e/.%2e/run.json",
    "v/../v",
    "%2e",
    "*",
    "%25",
    "%0d%0aSet-Cookie:%20a=b",
    "con",
    "a" * 5000,
]


@pytest.mark.slow
@pytest.mark.parametrize("holder", ["/static/{}", "/tiles/{}/0/0/0/0", "/api/queue/{}", "/api/progress/{}", "/{}"])
def test_thirty_ways_out_lead_nowhere(address, holder):
    assert len(UP) == 30
    host = address.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=20)
    for up in UP:
        # Not by httpx, which would tidy the path up.
        path = holder.format(up)
        connection.request("GET", path, headers={"Authorization": f"Bearer {TOKEN}"})
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status == 404, (path, answer.status)
        assert b"root:" not in content
        assert "set-cookie" not in {name.lower() for name, _ in answer.getheaders()}
    connection.close()


@pytest.mark.slow
def test_a_malformed_body_is_refused_and_changes_nothing(routes, ana, review):
    before = review.log.head()
    bodies = [b"", b"{", b"\xff", b"[1]", b"null", b'{"a":' * 5000, b"[" * 100_000, b'{"id": 1e999}', b"\x00" * 100]
    bodies += [json.dumps({"id": "../x", "place": {"volume": "v" * 10**5}, "runs": [10**30]}).encode()]
    others = ["text/plain", "multipart/form-data; boundary=x", "application/json; charset=utf-7"]
    for method, _, path in routes:
        for number, body in enumerate(bodies if method == "POST" else ()):
            for kind in ("application/json", others[number % len(others)]):
                answer = ana.post(path, content=body, headers={"If-Match": '"0"', "Content-Type": kind})
                assert 400 <= answer.status_code < 500, (path, body[:40], kind)
    assert review.log.head() == before


@pytest.mark.slow
def test_an_oversized_body_is_refused_without_being_held(routes, ana):
    """24 bodies of 64 MB, told or not told to be so long, leave the process as large as it was."""

    def pieces():
        for _ in range(1024):
            yield b" " * 65536

    process, posts = psutil.Process(), [path for method, _, path in routes if method == "POST"]
    for path in posts:
        assert ana.post(path, content=b" " * (MOST_BYTES + 1), headers={"If-Match": '"0"'}).status_code == 413
    before = process.memory_info().rss
    for number in range(24):
        try:
            answer = ana.post(posts[number % len(posts)], content=pieces(), headers={"If-Match": '"0"'})
        except httpx.TransportError:
            # The server has hung up, as it may while so much is still being sent.
            continue
        assert answer.status_code == 413
    assert process.memory_info().rss - before < 24 * 2**20


def test_a_revoked_token_is_refused_at_once_also_where_something_is_on_its_way(address, review):
    token = invite(review.log, "Ida", "Ana")
    place = {"volume": "v", "z": 0, "y": 0, "x": 0, "height": 2, "width": 2}
    sent = {"id": str(uuid.uuid4()), "place": place, "runs": encode_runs(np.ones((2, 2), bool)), "tool": "brush"}
    body = json.dumps(sent).encode()
    host, port = address.removeprefix("http://").split(":")
    with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {token}"}, trust_env=False) as ida:
        assert ida.get("/api/review").json()["person"] == "Ida"
        with socket.create_connection((host, int(port)), timeout=20) as upload:
            head = f"POST /api/corrections HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {token}\r\n"
            head += f'If-Match: "0"\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n'
            upload.sendall(head.encode() + body[:20])
            # The request was taken up: a later one of the same person was answered.
            assert ida.get("/api/history/v").status_code == 200
            revoke(review.log, "Ida", "Ana")
            assert ida.get("/api/review").status_code == 401
            before = review.log.head()
            upload.sendall(body[20:])
            assert upload.recv(100).startswith(b"HTTP/1.1 401 ")
        assert review.log.head() == before
