"""Neuroglancer's page beside a review: off unless wanted, for those with a token, nothing but what is to be seen."""

from __future__ import annotations

import httpx
import pytest
import zarr

import segem.review.threed as threed
from segem.errors import ConfigError
from segem.guard import SECURITY_HEADERS
from segem.io.reviewed import replay
from segem.review.app import make_app
from segem.review.session import Review
from segem.review.threed import add_three_d
from segem.serving import listen, serve
from tests.fabricate import add_model, add_volume, guess, new_workspace, tissue

TOKEN = "ana-" * 8


@pytest.fixture(scope="module")
def review(tmp_path_factory):
    space = new_workspace(tmp_path_factory.mktemp("three") / "w")
    image, truth = tissue((3, 64, 90))
    add_volume(space, "v", image)
    add_model(space, "r", "v", guess(truth))
    opened = Review(space, "r")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def address(review):
    with listen() as listener, serve(make_app(review, three_d=True), listener, {TOKEN: "Ana"}.get):
        yield listener.address


@pytest.fixture(scope="module")
def ana(address):
    with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False) as opened:
        yield opened


def routes_of(ana):
    layer = ana.get("/3d/layers/v").json()[0]
    return [
        "/3d/layers/v",
        f"/3d/volumes/{layer['key']}/zarr.json",
        "/3d/v/view/index.html",
        "/3d/events/view",
    ]


def test_it_is_there_where_it_was_asked_for_alone(review, ana):
    paths = routes_of(ana)
    assert len(add_three_d(review).routes) == len(paths), "all of them are in the matrix below"
    with listen() as listener, serve(make_app(Review(review.workspace, "r")), listener, {TOKEN: "Ana"}.get):
        headers = {"Authorization": f"Bearer {TOKEN}"}
        assert [httpx.get(listener.address + path, headers=headers, trust_env=False).status_code for path in paths] == [
            404
        ] * 4


def test_without_neuroglancer_the_reason_is_one_line(review, monkeypatch):
    monkeypatch.setattr(threed, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'segem\[3d\]'"):
        make_app(review, three_d=True)


def test_each_route_is_for_those_with_a_token_from_this_page(address, ana):
    for path in routes_of(ana):
        with httpx.Client(base_url=address, trust_env=False) as nobody:
            assert nobody.get(path).status_code == 401
            assert nobody.head(path).status_code == 401
        assert ana.get(path, headers={"Origin": "https://evil.example"}).status_code == 403
        assert ana.get(path, headers={"Host": "evil.example"}).status_code == 403
        assert ana.post(path).status_code == 405
        with ana.stream("GET", path) as answer:
            assert answer.status_code == 200
            kept = {key: value for key, value in SECURITY_HEADERS.items() if key != "Content-Security-Policy"}
            assert {key: answer.headers[key] for key in kept} == kept


def test_a_stream_ends_when_its_token_is_revoked(review):
    tokens = {TOKEN: "Ana"}
    with (
        listen() as listener,
        serve(make_app(Review(review.workspace, "r"), three_d=True), listener, tokens.get),
        httpx.Client(base_url=listener.address, headers={"Authorization": f"Bearer {TOKEN}"}, trust_env=False) as ana,
        ana.stream("GET", "/3d/events/view", timeout=30) as stream,
    ):
        told = stream.iter_raw()
        assert next(told) == b": nothing\n\n"
        tokens.clear()
        assert list(told) == []


def test_the_page_talks_to_this_server_alone_and_makes_no_code_of_text(ana):
    policy = ana.get("/3d/v/view/index.html").headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'self'; ")
    assert "connect-src" not in policy
    assert "'unsafe-eval'" not in policy.replace("'wasm-unsafe-eval'", "")
    assert ana.get("/").headers["Content-Security-Policy"] == SECURITY_HEADERS["Content-Security-Policy"]


def test_what_people_have_corrected_is_not_shown_to_a_second_reader(review, ana):
    replay(review.workspace, "r", "v", review.log)
    mask = next(layer for layer in ana.get("/3d/layers/v").json() if layer["name"] == "mask")
    found = [
        ana.get(f"/3d/volumes/{mask['key']}/labels/{name}/zarr.json").status_code for name in ("membrane", "reviewed")
    ]
    assert found == [200, 404]


@pytest.mark.parametrize(
    "inside",
    [
        "..%2F..%2Fruns%2Fr%2Frun.json",
        "../../runs/r/reviews.sqlite",
        "%2e%2e/%2e%2e/runs/r/reviews.sqlite",
        "labels/..%2fzarr.json",
        "labels/..%2f..%2fzarr.json",
        "0/c/0/0/..%2f0",
        "0//zarr.json",
        "/etc/passwd",
        "0/c/0/0/0%00",
        "0/c/9/9/9",
        "",
    ],
)
def test_no_path_leads_out_of_a_volume(ana, inside):
    key = ana.get("/3d/layers/v").json()[0]["key"]
    assert ana.get(f"/3d/volumes/{key}/{inside}").status_code == 404
    assert ana.get(f"/3d/volumes/{'0' * 32}/zarr.json").status_code == 404
    for name in ("..%2findex.html", "server.py", "main.js.map"):
        assert ana.get(f"/3d/v/view/{name}").status_code == 404


def test_what_it_reads_is_what_the_run_holds(ana, review):
    layers = {layer["name"]: layer for layer in ana.get("/3d/layers/v").json()}
    assert list(layers) == ["raw", "probability", "mask"]
    for name, path in (("raw", review.workspace.volume("v")), ("mask", review.workspace.result("r", "v"))):
        layer = layers[name]
        base = f"/3d/volumes/{layer['key']}/{layer['inside']}".rstrip("/")
        described = ana.get(f"{base}/0/zarr.json").json()
        kept = zarr.open_array(path / layer["inside"] / "0", mode="r")
        assert tuple(described["shape"]) == kept.shape
        shard = (path / layer["inside"] / "0" / "c/0/0/0").read_bytes()
        assert int(ana.head(f"{base}/0/c/0/0/0").headers["Content-Length"]) == len(shard)
        part = ana.get(f"{base}/0/c/0/0/0", headers={"Range": "bytes=4-11"})
        assert (part.status_code, part.content) == (206, shard[4:12])
