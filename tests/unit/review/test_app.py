"""The review over http: who may, what is refused, and what comes of what is sent."""

from __future__ import annotations

import io
import re
import uuid

import httpx
import numpy as np
import pytest
from PIL import Image

from segem.io.reviewed import open_log, replay
from segem.io.volume import Volume
from segem.kernels.runs import decode_runs, encode_runs
from segem.review.app import FILES, make_app
from segem.review.session import Review
from segem.serving import listen, serve
from tests.fabricate import add_model, add_pyramids, add_volume, guess, new_workspace, tissue

SHAPE = (3, 300, 700)
ANA, BO = "ana-" * 8, "bo--" * 8


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    space = new_workspace(tmp_path_factory.mktemp("review") / "w")
    image, truth = tissue(SHAPE)
    add_volume(space, "v", image.astype(np.uint16) * 100)
    add_model(space, "r", "v", guess(truth))
    add_pyramids(space, "r", "v")
    return space


@pytest.fixture(scope="module")
def review(workspace):
    opened = Review(workspace, "r")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def address(review):
    with listen() as listener, serve(make_app(review), listener, {ANA: "Ana", BO: "Bo"}.get):
        yield listener


def client(listener, token=ANA):
    return httpx.Client(base_url=listener.address, headers={"Authorization": f"Bearer {token}"}, trust_env=False)


@pytest.fixture(scope="module")
def ana(address):
    with client(address) as opened:
        yield opened


@pytest.fixture(scope="module")
def bo(address):
    with client(address, BO) as opened:
        yield opened


def keys(http):
    (volume,) = http.get("/api/review").json()["volumes"]
    return volume


def correction(place, flips, tool="brush"):
    return {"id": str(uuid.uuid4()), "place": place, "runs": encode_runs(flips), "tool": tool, "active_seconds": 1.5}


def at(z, y, x, height, width):
    return {"volume": "v", "z": z, "y": y, "x": x, "height": height, "width": width}


def seen(http, z=0):
    return http.get(f"/api/changes/v/{z}?page=t").json()["seen"]


def post(http, path, body, known):
    return http.post(path, json=body, headers={"If-Match": f'"{known}"'})


def mask_of(http, z, row=0, column=0, level=0):
    answer = http.get(f"/api/mask/v/{level}/{z}/{row}/{column}")
    height, width = map(int, answer.headers["X-Shape"].split(","))
    bits = np.unpackbits(np.frombuffer(answer.content, np.uint8))[: height * width]
    return bits.reshape(height, width).astype(bool)


@pytest.mark.parametrize(
    "path",
    [
        *(f"/tiles/{{raw}}/{tile}" for tile in ("9/0/0/0", "0/9/0/0", "0/0/9/0", "0/0/0/-1", "-1/0/0/0")),
        *(f"/crops/{{raw}}/0/{crop}" for crop in ("0/0/513", "9999/0/64", "0/0/0")),
        *(f"/api/mask/v/{tile}" for tile in ("0/9/0/0", "9/0/0/0", "0/3/0/0")),
        *("/api/neighbour/below/v/0/0/0/8/8", "/api/neighbour/above/v/0/299/0/8/8"),
        "/api/neighbour/above/v/0/0/0/9999/8",
        *("/api/questions/v/77", "/api/questions/other/0", "/api/changes/other/0?page=t"),
    ],
)
def test_what_does_not_exist_is_not_found(ana, path):
    assert ana.get(path.format(raw=keys(ana)["raw"])).status_code == 404


BAD = [
    {},
    {"place": at(0, 0, 0, 1, 1)},
    {"place": at(0, 0, 0, 2, 2), "runs": [9, 9]},
    {"place": at(0, 0, 0, 2, 2), "runs": [-1]},
    {"place": at(0, 0, 0, 0, 2), "runs": []},
    {"place": at(0, 0, 0, 5000, 5000), "runs": [0, 1]},
    {"place": at(0, 299, 0, 2, 2), "runs": [0, 4]},
    {"place": at(3, 0, 0, 2, 2), "runs": [0, 4]},
    {"place": at(0, 0, 0, 2, 2) | {"volume": "../v"}, "runs": [0, 4]},
    {"place": at(0, 0, 0, 2, 2), "runs": [0, 4], "tool": "chisel"},
    {"place": at(0, 0, 0, 2, 2), "runs": [0, 4], "id": "1"},
    {"place": at(0, 0, 0, 2, 2), "runs": [0, 4], "active_seconds": -1},
    {"place": at(0, 0, 0, 2, 2), "runs": [0, 4], "active_seconds": 1e99},
    {"place": at(0, 0, 0, 2, 2), "runs": [0, 4], "author": "Bo"},
]


@pytest.mark.parametrize("body", BAD, ids=lambda body: str(sorted(body))[:30])
def test_a_malformed_correction_is_refused_and_changes_nothing(ana, review, body):
    before = review.log.head()
    sent = {"id": str(uuid.uuid4()), "tool": "brush"} | body
    assert 400 <= post(ana, "/api/corrections", sent, seen(ana)).status_code < 500
    assert review.log.head() == before


@pytest.mark.parametrize("given", ["*", "7", '"x"', '"-1"', 'W/"1"', ""])
def test_who_does_not_say_what_was_seen_is_refused(ana, given):
    body = correction(at(0, 0, 0, 1, 1), np.ones((1, 1), bool))
    assert ana.post("/api/corrections", json=body, headers={"If-Match": given}).status_code == 400
    assert ana.post("/api/corrections", json=body).status_code == 428


def test_the_tiles_are_the_image_and_may_be_kept(ana, workspace):
    found = keys(ana)
    answer = ana.get(f"/tiles/{found['raw']}/0/1/0/1")
    shown = np.asarray(Image.open(io.BytesIO(answer.content)))
    voxels = Volume.open(workspace.volume("v")).raw[1, :, 512:].astype(float)
    assert shown.shape == (300, 188)
    assert np.corrcoef(shown.ravel(), voxels.ravel())[0, 1] > 0.99
    assert "immutable" in answer.headers["cache-control"]
    probability = np.asarray(Image.open(io.BytesIO(ana.get(f"/tiles/{found['probability']}/0/1/0/0").content)))
    assert np.array_equal(probability, Volume.open(workspace.result("r", "v")).raw[1, :, :512])
    crop = np.asarray(Image.open(io.BytesIO(ana.get(f"/crops/{found['probability']}/1/-20/-10/64").content)))
    assert not crop[:20].any()
    assert not crop[:, :10].any()
    assert np.array_equal(crop[20:, 10:], probability[:44, :54])


def test_what_is_painted_is_on_the_mask_of_every_level_and_in_the_layer(ana, review, workspace):
    before = [mask_of(ana, 2, column=column) for column in (0, 1)]
    flips = np.random.default_rng(0).random((60, 200)) < 0.5
    place = at(2, 101, 403, 60, 200)
    saved = post(ana, "/api/corrections", correction(place, flips), seen(ana, 2))
    assert saved.status_code == 201
    entry = saved.json()["entry"]
    assert (entry["author"], entry["active_seconds"]) == ("Ana", 1.5)
    assert np.array_equal(decode_runs(entry["runs"], (60, 200)), flips)
    expected = np.concatenate(before, axis=1)
    expected[101:161, 403:603] ^= flips
    assert np.array_equal(np.concatenate([mask_of(ana, 2, column=c) for c in (0, 1)], axis=1), expected)
    for level, factor in ((1, 2),):
        coarse = expected[:300, :700].reshape(300 // factor, factor, 700 // factor, factor).max((1, 3))
        assert np.array_equal(mask_of(ana, 2, level=level), coarse)
    with open_log(workspace, "r") as log:
        assert np.array_equal(replay(workspace, "r", "v", log)[2], expected)


def test_the_loser_of_two_is_shown_what_the_other_did(ana, bo):
    known = seen(ana, 1)
    place = at(1, 10, 10, 4, 4)
    first = post(ana, "/api/corrections", correction(place, np.eye(4, dtype=bool)), known)
    second = post(bo, "/api/corrections", correction(place, np.ones((4, 4), bool)), known)
    assert (first.status_code, second.status_code) == (201, 412)
    (change,) = second.json()["changes"]
    assert change["author"] == "Ana"
    assert change["runs"] == list(encode_runs(np.eye(4, dtype=bool)))
    assert (
        post(bo, "/api/decisions", {"id": str(uuid.uuid4()), "place": place, "decision": "accept"}, known).status_code
        == 412
    )
    again = post(bo, "/api/corrections", correction(place, ~np.eye(4, dtype=bool)), change["number"])
    assert again.status_code == 201


def test_a_decision_is_shown_in_the_queue_of_everybody(ana, bo):
    region = bo.get("/api/queue/v").json()[1]
    note = "<script>alert(1)</script>"
    body = {"id": str(uuid.uuid4()), "place": region["place"], "decision": "unsure", "note": note}
    assert post(ana, "/api/decisions", body, seen(ana, region["place"]["z"])).status_code == 201
    shown = bo.get("/api/queue/v").json()[1]
    assert (shown["decision"], shown["note"], shown["person"]) == ("unsure", note, "Ana")
    assert ana.get("/api/history/v").json()[0]["detail"]["decision"] == "unsure"


def test_an_entry_is_taken_back(ana, bo):
    before = mask_of(ana, 0)
    made = post(ana, "/api/corrections", correction(at(0, 50, 50, 9, 9), np.ones((9, 9), bool)), seen(ana))
    number = made.json()["entry"]["number"]
    back = bo.post("/api/reverts", json={"id": str(uuid.uuid4()), "number": number})
    assert back.status_code == 201
    assert np.array_equal(mask_of(ana, 0), before)
    assert bo.post("/api/reverts", json={"id": str(uuid.uuid4()), "number": 10**6}).status_code == 404


def test_who_else_is_in_the_section_is_said(ana, bo):
    ana.get("/api/changes/v/2?page=tab-of-ana&y=7&x=9")
    others = bo.get("/api/changes/v/2?page=tab-of-bo").json()["others"]
    assert {"person": "Ana", "y": 7, "x": 9} in others
    assert all(other["person"] != "Bo" for other in others)


def test_the_neighbouring_sections_propose_a_mask(ana):
    place = (40, 60, 33, 47)
    window = (slice(40, 73), slice(60, 107))
    path = "/".join(map(str, place))
    for of, z in (("below", 0), ("above", 2)):
        answer = ana.get(f"/api/neighbour/{of}/v/1/{path}")
        found = np.unpackbits(np.frombuffer(answer.content, np.uint8))[: 33 * 47].reshape(33, 47)
        assert np.array_equal(found, mask_of(ana, z)[window])
    assert ana.get(f"/api/neighbour/between/v/1/{path}").status_code == 200


def test_the_page_is_made_of_files_that_are_there(ana):
    page = ana.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "<script>" not in page.text
    assert " style=" not in page.text
    for name in FILES:
        assert ana.get(f"/static/{name}").status_code == 200


def test_every_button_has_a_key_and_no_place_on_the_keyboard_two_meanings():
    keys, page = (FILES["main.js"].parent / name for name in ("keys.js", "index.html"))
    found = re.findall(r'\["([a-z-]+)", "([A-Za-z0-9+]+)", "', keys.read_text(encoding="utf-8"))
    actions, codes = zip(*found, strict=True)
    assert len(set(codes)) == len(codes) > 40
    assert set(re.findall(r'data-action="([a-z-]+)"', page.read_text(encoding="utf-8"))) <= set(actions)
    # By place (`code`), never by the letter that a layout has there.
    assert all(re.fullmatch(r"(Shift\+)?(Key[A-Z]|Digit\d|[A-Z][a-zA-Z]+)", code) for code in codes)


def test_no_two_actions_have_the_same_key():
    text = (FILES["keys.js"]).read_text(encoding="utf-8")
    keys = re.findall(r'\["([a-z0-9-]+)", "((?:Shift\+)?[A-Z][A-Za-z0-9]+)", "', text)
    assert len(keys) > 40
    assert len({code for _, code in keys}) == len(keys)
