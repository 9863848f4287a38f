"""Controls and second readings: people see them as they see everything else, and they leave no trace in the result."""

from __future__ import annotations

import io
import secrets
import threading
import time
import uuid
from contextlib import ExitStack, contextmanager

import httpx
import numpy as np
import pytest
from PIL import Image

from segem.io.readings import list_readings
from segem.io.review_standing import count_decided
from segem.io.reviewed import replay, trusted_places
from segem.io.reviewed_labels import open_reviewed
from segem.io.reviewers import invite
from segem.io.reviews import LOG, ReviewLog
from segem.io.volume import Volume
from segem.kernels.intervals import bound_share
from segem.kernels.plants import disguise, plant_gap, plant_spur
from segem.kernels.runs import encode_runs
from segem.records.review import SHEET, WORK, Draft, Place
from segem.records.review_findings import Seen
from segem.review import session
from segem.review.apart import Apart, Checks
from segem.review.app import make_app
from segem.review.controls import plan_controls
from segem.review.progress import find_progress
from segem.review.session import Review
from segem.review.volumes import place_of
from segem.serving import listen, serve
from segem.stages.reporting.findings import find_review
from segem.stages.reporting.read import read_report
from segem.stages.reporting.reviewed import list_findings
from segem.stages.reporting.write import report
from tests.fabricate import add_model, add_volume, guess, new_workspace, tissue

SHAPE = (4, 512, 1024)
TOKENS = {"ana-" * 8: "Ana", "bo--" * 8: "Bo", "cy--" * 8: "Cy"}


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    made = new_workspace(tmp_path_factory.mktemp("apart") / "w")
    image, truth = tissue(SHAPE)
    add_volume(made, "v", image)
    Volume.open(made.volume("v")).build_pyramid(None)
    for run in ("one", "other", "two", "sampled", "controls"):
        add_model(made, run, "v", guess(truth))
        for label in (None, "membrane"):
            Volume.open(made.result(run, "v")).build_pyramid(label)
    return made


class Http:
    """The review as people have it over http."""

    def __init__(self, address, key):
        self.people = {
            name: httpx.Client(base_url=address, headers={"Authorization": f"Bearer {token}"}, trust_env=False)
            for token, name in TOKENS.items()
        }
        self.key = key

    def get(self, person, path):
        return self.people[person].get(path)

    def mask(self, person, z, level=0):
        tiles = []
        for column in range(2 if level == 0 else 1):
            answer = self.get(person, f"/api/mask/v/{level}/{z}/0/{column}")
            height, width = map(int, answer.headers["X-Shape"].split(","))
            bits = np.unpackbits(np.frombuffer(answer.content, np.uint8))[: height * width]
            tiles.append(bits.reshape(height, width).astype(bool))
        return np.concatenate(tiles, axis=1)

    def probability(self, person, z, level=0):
        tiles = [
            np.asarray(Image.open(io.BytesIO(self.get(person, f"/tiles/{self.key}/{level}/{z}/0/{x}").content)))
            for x in range(2 if level == 0 else 1)
        ]
        return np.concatenate(tiles, axis=1)

    def queue(self, person):
        return self.get(person, "/api/queue/v").json()

    def news(self, person, z, seen=0):
        return self.get(person, f"/api/changes/v/{z}?page={person}&seen={seen}").json()

    def post(self, person, path, body, seen=None):
        z = body["place"]["z"]
        seen = self.news(person, z)["seen"] if seen is None else seen
        sent = {"id": str(uuid.uuid4()), **body}
        return self.people[person].post(f"/api/{path}", json=sent, headers={"If-Match": f'"{seen}"'})

    def correct(self, person, place, flips, seen=None):
        return self.post(person, "corrections", {"place": place, "runs": encode_runs(flips), "tool": "brush"}, seen)

    def decide(self, person, place, decision="accept"):
        return self.post(person, "decisions", {"place": place, "decision": decision})


@contextmanager
def served(space, run, checks):
    review = Review(space, run, checks=checks)
    with (
        listen() as listener,
        serve(make_app(review), listener, TOKENS.get),
        ExitStack() as stack,
    ):
        http = Http(listener.address, review.volumes["v"].probability.key)
        for client in http.people.values():
            stack.enter_context(client)
        yield review, http


@pytest.fixture(scope="module")
def controlled(space):
    with served(space, "one", Checks(control_every=15)) as found:
        yield found


@pytest.fixture(scope="module")
def twice(space):
    with served(space, "two", Checks(second_share=1.0)) as found:
        yield found


def window(place):
    return np.s_[place["y"] : place["y"] + place["height"], place["x"] : place["x"] + place["width"]]


def test_one_region_in_fifteen_is_a_control_and_each_person_has_their_own(controlled):
    review, http = controlled
    assert len(http.queue("Ana")) == len(http.queue("Bo")) == 32
    held = review.volumes["v"]
    planted = {name: dict(review.apart.controls(name, "v").items()) for name in ("Ana", "Bo")}
    assert [len(one) for one in planted.values()] == [2, 2]
    for name, controls in planted.items():
        for cell, flips in controls.items():
            assert flips.any()
            place = cell.model_dump()
            base = held.read(cell)
            assert np.array_equal(http.mask(name, cell.z)[window(place)], base ^ flips)
            assert np.array_equal(http.mask("Cy", cell.z)[window(place)], base) or cell in dict(
                review.apart.controls("Cy", "v").items()
            )


def test_the_secret_decides_and_a_restart_changes_nothing(controlled, space):
    review, http = controlled
    http.queue("Ana")
    before = dict(review.apart.controls("Ana", "v").items())
    again = Review(space, "one", checks=Checks(control_every=15))
    again.held("Ana", "v")
    assert {cell: flips.tobytes() for cell, flips in again.apart.controls("Ana", "v").items()} == {
        cell: flips.tobytes() for cell, flips in before.items()
    }
    again.close()
    other = Review(space, "other", checks=Checks(control_every=15))
    other.held("Ana", "v")
    assert other.apart.seed != review.apart.seed
    assert set(dict(other.apart.controls("Ana", "v").items())) != set(before)
    other.close()


def test_the_probability_agrees_with_the_planted_mask_at_every_zoom(controlled):
    review, http = controlled
    for cell, flips in review.apart.controls("Ana", "v").items():
        place = cell.model_dump()
        shown, true = http.probability("Ana", cell.z), http.probability("Cy", cell.z)
        assert np.array_equal(shown >= 128, http.mask("Ana", cell.z))
        assert (shown != true)[window(place)][flips].all()
        outside = np.ones(shown.shape, bool)
        outside[window(place)] = False
        assert np.array_equal(http.mask("Ana", cell.z, 1), http.mask("Ana", cell.z).reshape(256, 2, 512, 2).max((1, 3)))
        coarse = shown.reshape(256, 2, 512, 2).mean((1, 3))
        assert np.abs(coarse - http.probability("Ana", cell.z, 1)).max() <= 0.5
        crop = http.get("Ana", f"/crops/{http.key}/{cell.z}/{cell.y}/{cell.x}/200").content
        pixels = np.asarray(Image.open(io.BytesIO(crop)))
        assert np.array_equal(pixels, shown[cell.y : cell.y + 200, cell.x : cell.x + 200])


def test_what_is_done_about_a_control_is_answered_like_all_else_and_never_enters_the_result(controlled, space):
    review, http = controlled
    http.queue("Ana")
    (cell, flips), *_ = review.apart.controls("Ana", "v").items()
    place = cell.model_dump()
    plain = next(
        one["place"]
        for one in http.queue("Ana")
        if one["place"]["z"] == cell.z and Place(**one["place"]) not in review.apart.controls("Ana", "v")
    )
    told = []
    for where, change in ((plain, np.roll(flips, 5, 1)), (place, flips)):
        saved = http.correct("Ana", where, change)
        assert saved.status_code == 201
        answer = saved.json()
        assert answer["entry"]["place"] == where
        assert answer["entry"]["runs"] == list(encode_runs(change))
        decided = http.decide("Ana", where, "fix").json()["entry"]
        told.append((sorted(answer["entry"]), decided["number"] - answer["entry"]["number"], decided["place"] == where))
    assert told[0] == told[1]
    # All of it is there after a reload.
    assert np.array_equal(http.mask("Ana", cell.z)[window(place)], review.volumes["v"].read(cell))
    mine = [one["place"] for one in http.news("Ana", cell.z)["changes"]]
    assert mine == [plain, place]
    shown = {tuple(one["place"].values()): one["decision"] for one in http.queue("Ana")}
    assert [shown[tuple(one.values())] for one in (plain, place)] == ["fix", "fix"]
    kinds = [(one["kind"], one["place"]) for one in http.get("Ana", "/api/history/v").json()]
    assert kinds == [(kind, one) for one in (place, plain) for kind in ("decision", "correction")]
    # Others know nothing of it, and neither does what is made of the review.
    assert [one["place"] for one in http.news("Cy", cell.z)["changes"]] == [plain]
    assert trusted_places(review.log, "v") == [Place(**plain)]
    assert count_decided(review.log) == 1
    keep = {"id": str(uuid.uuid4()), "places": [place], "name": "Cy", "hours": 1}
    assert http.people["Cy"].post("/api/claims", json=keep).status_code == 201
    assert [(one.origin.people, list(one.regions)) for one in open_reviewed(space, "one")] == [
        (("Ana",), [Place(**plain)])
    ]
    reviewed = replay(space, "one", "v", review.log)[cell.z]
    expected = np.array(Volume.open(space.result("one", "v")).label("membrane")[cell.z])
    expected[window(plain)] ^= np.roll(flips, 5, 1)
    assert np.array_equal(reviewed, expected)


def test_no_answer_holds_a_word_of_controls(controlled):
    review, http = controlled
    http.queue("Bo")
    (cell, _), *_ = review.apart.controls("Bo", "v").items()
    http.correct("Bo", cell.model_dump(), np.eye(cell.height, cell.width, dtype=bool))
    http.decide("Bo", cell.model_dump())
    paths = [
        "/api/review",
        "/api/queue/v",
        f"/api/questions/v/{cell.z}",
        "/api/history/v",
        f"/api/changes/v/{cell.z}?page=p",
    ]
    for path in paths:
        answer = http.get("Bo", path)
        assert answer.status_code == 200
        found = answer.text
        assert not any(word in found for word in ("plant", "control", SHEET, "segem", "seed", "has_membrane")), path
    sheet = review.apart.sheet("Bo", "v")
    assert http.get("Bo", f"/api/history/{sheet}").status_code == 404
    assert (
        http.correct(
            "Bo", cell.model_dump() | {"volume": sheet}, np.eye(cell.height, cell.width, dtype=bool)
        ).status_code
        == 404
    )
    number = review.log.entries(("plant",), sheet)[0].number
    back = http.people["Bo"].post("/api/reverts", json={"id": str(uuid.uuid4()), "number": number})
    assert back.status_code == 404


def test_a_stroke_over_the_edge_of_a_control_counts_outside_of_it_and_is_one_stroke_to_its_author(controlled):
    review, http = controlled
    http.queue("Cy")
    (cell, _), *_ = review.apart.controls("Cy", "v").items()
    x = cell.x - 20 if cell.x else cell.x + cell.width - 20
    place = {"volume": "v", "z": cell.z, "y": cell.y + 40, "x": x, "height": 3, "width": 40}
    flips, before, seen = np.ones((3, 40), bool), http.mask("Cy", cell.z), http.news("Cy", cell.z)["seen"]
    mine = str(uuid.uuid4())
    sent = {"id": mine, "place": place, "runs": encode_runs(flips), "tool": "brush"}
    first, second = (http.post("Cy", "corrections", sent, seen).json()["entry"] for _ in range(2))
    assert first == second
    assert (first["id"], first["place"], first["runs"]) == (mine, place, [0, 120])
    expected = before.copy()
    expected[window(place)] ^= True
    assert np.array_equal(http.mask("Cy", cell.z), expected)
    parts = [entry.place for entry in review.log.entries() if entry.id.startswith(mine)]
    assert sorted(part.width for part in parts) == [20, 20]
    assert sorted(SHEET in part.volume for part in parts) == [False, True]
    back = http.people["Cy"].post("/api/reverts", json={"id": str(uuid.uuid4()), "number": first["number"]})
    assert back.json()["entry"]["place"]["volume"] == "v"


def test_the_second_reader_sees_the_mask_as_the_model_left_it(twice, space):
    review, http = twice
    place = http.queue("Ana")[3]["place"]
    z, base = place["z"], http.mask("Ana", place["z"])
    rng = np.random.default_rng(0)
    first, second = (rng.random((place["height"], place["width"])) < 0.01 for _ in range(2))
    assert http.correct("Ana", place, first).status_code == 201
    assert http.decide("Ana", place, "fix").status_code == 201
    for person in ("Bo", "Cy"):
        assert np.array_equal(http.mask(person, z), base)
        assert np.array_equal(http.mask(person, z, 1), base.reshape(256, 2, 512, 2).max((1, 3)))
        assert http.news(person, z)["changes"] == http.get(person, "/api/history/v").json() == []
        assert http.queue(person)[3]["decision"] is None
    # Not told of what they cannot see, either.
    assert http.correct("Bo", place, second, 0).status_code == 201
    assert http.queue("Cy")[3]["decision"] is None
    assert http.decide("Bo", place, "accept").status_code == 201
    shown = {person: http.queue(person)[3] for person in TOKENS.values()}
    assert {name: (one["decision"], one["person"]) for name, one in shown.items()} == {
        "Ana": ("fix", "Ana"),
        "Bo": ("accept", "Bo"),
        "Cy": ("fix", "Ana"),
    }
    expected = [base.copy(), base.copy()]
    for mask, flips in zip(expected, (first, second), strict=True):
        mask[window(place)] ^= flips
    assert np.array_equal(http.mask("Ana", z), expected[0])
    assert np.array_equal(http.mask("Bo", z), expected[1])
    assert np.array_equal(replay(space, "two", "v", review.log)[z] == 1, expected[0]), "the first one counts"


def test_as_many_regions_are_read_twice_as_was_said_when_the_review_began(controlled, tmp_path):
    review, _ = controlled
    with ReviewLog(tmp_path / LOG) as log:
        apart = Apart(log, Checks(second_share=0.05))
        again = Apart(log, Checks(control_every=3))
    cells = [Place(volume="v", z=z, y=256 * y, x=0, height=256, width=256) for z in range(200) for y in range(20)]
    assert 140 < sum(map(apart.is_twice, cells)) < 260
    assert list(map(apart.is_twice, cells)) == list(map(again.is_twice, cells))
    assert again.checks == Checks(control_every=3, second_share=0.05)
    assert not any(map(review.apart.is_twice, cells))


@pytest.mark.parametrize("plant", [plant_gap, plant_spur])
@pytest.mark.parametrize("given", [True, False])
def test_a_planted_error_is_a_clear_one(plant, given):
    _, truth = tissue((1, 256, 256), seed=3)
    probability = guess(truth)[0]
    mask = probability >= 128
    for seed in range(3):
        flips = plant(mask, probability if given else None, np.random.default_rng(seed))
        assert flips.any()
        assert mask[flips].all() == (plant is plant_gap)
        assert np.array_equal(disguise(probability, flips, mask) >= 128, mask ^ flips)
    for nothing in (np.zeros((64, 64), bool), np.ones((64, 64), bool)):
        assert plant(nothing, None, np.random.default_rng(0)) is None


def test_two_readings_that_differ_are_decided_by_a_third_who_sees_both(twice, space):
    review, http = twice
    place = http.queue("Ana")[5]["place"]
    first, second = (np.zeros((place["height"], place["width"]), bool) for _ in range(2))
    first[20:100, 20:100], second[150:200, 100:220] = True, True
    base = http.mask("Ana", place["z"])[window(place)]
    for person, flips, decision in (("Ana", first, "fix"), ("Bo", second, "fix")):
        assert http.correct(person, place, flips).status_code == 201
        assert http.decide(person, place, decision).status_code == 201
    where = f"v/{place['z']}/{place['y']}/{place['x']}"
    for person in ("Ana", "Bo"):
        assert place not in [one["place"] for one in http.get(person, "/api/disagreements/v").json()]
        assert http.get(person, f"/api/readings/second/{where}").status_code == 404
        assert http.post(person, "verdicts", {"place": place, "take": "first"}, 0).status_code == 404
    assert place in [one["place"] for one in http.get("Cy", "/api/disagreements/v").json()]
    for which, flips in (("first", first), ("second", second)):
        packed = np.frombuffer(http.get("Cy", f"/api/readings/{which}/{where}").content, np.uint8)
        assert np.array_equal(np.unpackbits(packed)[: flips.size].reshape(flips.shape), base ^ flips)
    said = {"place": place, "take": "second", "active_seconds": 4.5}
    assert http.post("Cy", "verdicts", said, 0).status_code == 201
    assert sum(one.active_seconds for one in review.log.entries(WORK) if one.author == "Cy") == 4.5
    assert http.post("Cy", "verdicts", {"place": place, "take": "first"}, 0).status_code == 404
    assert place not in [one["place"] for one in http.get("Cy", "/api/disagreements/v").json()]
    reviewed = np.asarray(replay(space, "two", "v", review.log)[place["z"]])
    assert np.array_equal(reviewed[window(place)] == 1, base ^ second)
    assert Place(**place) in trusted_places(review.log, "v")
    # What was agreed before the verdict stays what it was.
    agreement = find_review(space, "two").agreement
    readings = [one for one in list_readings(review.log, "v", review.volumes["v"].read) if one.place == Place(**place)]
    assert [
        np.array_equal(mask, base ^ flips) for mask, flips in zip(readings[0].masks, (first, second), strict=True)
    ] == [
        True,
        True,
    ]
    assert agreement.source == "2 regions that two people have read"
    assert 0.2 < agreement.scores["iou"] < 1
    assert agreement.intervals["iou"].too_few == "2 regions read twice; 10 or more are needed"


def test_the_hit_rate_counts_what_was_mended_or_rejected(space):
    review = Review(space, "other", checks=Checks(control_every=2))
    touched = {place_of(one) for one in review.regions("v")[::5]}
    for cell in touched:
        dot = cell.model_copy(update={"y": cell.y + 9, "x": cell.x + 9, "height": 1, "width": 1})
        review.log.append(
            draft("correction", dot, np.ones((1, 1), bool), {"tool": "brush"}),
            "Bo",
            review.log.head().entries,
            review.volumes["v"].read,
        )
    review.held("Eve", "v")
    plants = list(review.apart.controls("Eve", "v").items())
    assert len(plants) == (32 - len(touched)) // 2
    assert not touched & {cell for cell, _ in plants}, "what somebody has changed is left alone"
    for number, (cell, flips) in enumerate(plants[:12]):
        seen = review.log.head().entries
        if number % 2:
            # More than half of what was planted.
            part = flips & (np.cumsum(flips).reshape(flips.shape) <= 0.7 * flips.sum())
            review.append(draft("correction", cell, part, {"tool": "brush"}), "Eve", seen)
            seen = review.log.head().entries
        words = {"decision": "reject" if number == 0 else "accept", "note": ""}
        review.append(draft("decision", cell, None, words), "Eve", seen)
    eve = find_review(space, "other").reviewers[-1]
    assert (eve.name, eve.decided, eve.planted) == ("Eve", 12, Seen(regions=12, seen=7, rate=bound_share(7, 12)))
    page = report("other", space).index
    said = "Eve decided 12 regions in 1 minute and saw 7 of 12 planted errors (0.320 to 0.807)."
    assert said in page.read_text(encoding="utf-8")
    assert read_report(page.parent).reviewing == find_review(space, "other")
    review.close()


def test_where_a_volume_has_labels_they_say_whether_an_error_of_the_model_was_seen(space):
    _, truth = tissue((1, 256, 1024), seed=5)
    add_volume(space, "labelled", truth * 99, truth)
    mask = truth == 1
    cells = [Place(volume="labelled", z=0, y=0, x=256 * k, height=256, width=256) for k in range(4)]
    wrong = [np.zeros((256, 256), bool) for _ in cells[:3]]
    for cell, flips in zip(cells, wrong, strict=False):
        flips[100:140, 100:140] = mask[0, 100:140, cell.x + 100 : cell.x + 140]
        mask[0, :, cell.x : cell.x + 256] ^= flips
    add_model(space, "known", "labelled", mask * np.uint8(255))
    review = Review(space, "known")
    done = [
        ("Ana", 0, wrong[0], "fix"),
        ("Ana", 1, None, "accept"),
        ("Ana", 2, None, "reject"),
        # Where nothing is wrong, or no longer, there is nothing to see; what another did not see still is.
        ("Ana", 3, None, "accept"),
        ("Bo", 0, None, "accept"),
        ("Bo", 1, wrong[1], "fix"),
    ]
    for person, k, flips, decision in done:
        if flips is not None:
            stroke = draft("correction", cells[k], flips, {"tool": "brush"})
            review.append(stroke, person, review.log.head().entries)
        decided = draft("decision", cells[k], None, {"decision": decision, "note": ""})
        review.append(decided, person, review.log.head().entries)
    review.close()
    ana, bo = find_review(space, "known").reviewers
    assert (ana.labelled.regions, ana.labelled.seen, bo.labelled.regions, bo.labelled.seen) == (3, 2, 1, 1)
    assert ana.planted.regions == 0
    said = "Ana put right or rejected 2 of 3 regions plainly wrong by the labels of the volumes"
    assert any(one.startswith(said) for one in list_findings(find_review(space, "known")))


def test_controls_of_who_is_invited_meanwhile_are_there_before_they_come(space):
    review = Review(space, "other", checks=Checks(control_every=15))
    ahead = threading.Thread(target=review.prepare, args=("Ana",))
    ahead.start()
    invite(review.log, "Dora", "Ana")
    sheet, patience = review.apart.sheet("Dora", "v"), time.monotonic() + 120
    while not review.log.entries(("plant",), sheet):
        assert time.monotonic() < patience
        time.sleep(0.05)
    review.close()
    ahead.join()


def test_the_second_volume_is_planted_ahead_and_keeps_nobody_waiting_at_the_first(tmp_path, monkeypatch):
    space, (image, truth) = new_workspace(tmp_path / "w"), tissue((2, 256, 512))
    for name in ("first", "second"):
        add_volume(space, name, image)
        add_model(space, "run", name, guess(truth))
    review = Review(space, "run", checks=Checks(control_every=2))
    begun, let_on = threading.Event(), threading.Event()

    def plan_slowly(apart, person, queue, held, probability):
        if held.name == "second":
            begun.set()
            assert let_on.wait(120)
        return plan_controls(apart, person, queue, held, probability)

    monkeypatch.setattr(session, "plan_controls", plan_slowly)
    ahead = threading.Thread(target=review.prepare, args=("Ana",))
    ahead.start()
    assert begun.wait(120)
    assert review.apart.controls("Ana", "first")
    assert review.regions("first")
    assert review.tile("Ana", "first", 0, 0, (0, 0))[1].shape == (256, 512)
    assert not review.log.entries(("plant",), review.apart.sheet("Ana", "second"))
    let_on.set()
    review.held("Ana", "second")
    assert review.log.entries(("plant",), review.apart.sheet("Ana", "second"))
    review.close()
    ahead.join()


def test_regions_drawn_at_random_count_in_their_order_and_controls_among_them_without_their_error(space, monkeypatch):
    review = Review(space, "controls", checks=Checks(control_every=4, sample=8))
    held, planted = review.held("Ana", "v"), review.apart.controls("Ana", "v")
    assert len(planted) == 2
    kept, regions = {}, review.regions("v", drawn=True)
    # What is decided out of turn counts when all before it are decided.
    for at, counted in zip((2, 0, 1, 3, 4, 5, 6, 7), (0, 1, 3, 4, 5, 6, 7, 8), strict=True):
        region = regions[at]
        place, dot = place_of(region), np.zeros((region.height_px, region.width_px), bool)
        dot[:20, :20] = True
        # The planted error is not seen, and something else is mended.
        review.append(draft("correction", place, dot, {"tool": "brush"}), "Ana", review.log.head().entries)
        decided = draft("decision", place, None, {"decision": "fix", "note": ""})
        review.append(decided, "Ana", review.log.head().entries)
        kept[place] = held.read(place) ^ (dot & ~planted.get(place, np.zeros_like(dot)))
        assert find_progress(review, "Ana", "v", (), drawn=True).sampled.decided == counted
    both, either = (
        sum(int(op(held.read(place), mask).sum()) for place, mask in kept.items())
        for op in (np.logical_and, np.logical_or)
    )
    shown = find_progress(review, "Ana", "v", (), drawn=True).sampled
    (found,) = find_review(space, "controls").sampled
    # What was counted once is not read again, but for the region that has changed since.
    asked, left = [], review.apart.left

    def read(person, cell, held):
        asked.append(cell)
        return left(person, cell, held)

    monkeypatch.setattr(review.apart, "left", read)
    assert find_progress(review, "Ana", "v", (), drawn=True).sampled == shown
    assert asked == []
    third = place_of(regions[2])
    stroke = draft("correction", third, np.ones((third.height, third.width), bool), {"tool": "brush"})
    review.append(stroke, "Ana", review.log.head().entries)
    assert find_progress(review, "Ana", "v", (), drawn=True).sampled != shown
    assert asked == [third]
    review.close()
    assert shown == found
    assert found.iou == pytest.approx(both / either)


def draft(kind, place, flips, detail):
    runs = () if flips is None else encode_runs(flips)
    return Draft(id=uuid.uuid4().hex, kind=kind, place=place, runs=runs, detail=detail, active_seconds=2)


def test_regions_drawn_at_random_say_what_the_volume_is(space, monkeypatch):
    """The reviewer's answer is the truth, so the estimate of all regions is the IoU of the volume."""
    # The same seed each time: of an interval of 95 %, one draw in twenty must lie outside.
    drawn = secrets.token_hex
    monkeypatch.setattr(secrets, "token_hex", lambda count: "5e" * count if count == 32 else drawn(count))
    truth = tissue(SHAPE)[1] == 1
    found = {}
    for count in (12, 32):
        review = Review(space, "sampled", checks=Checks(sample=count))
        regions = review.regions("v", drawn=True)
        assert len({(one.z, one.y, one.x) for one in regions}) == len(regions) == count
        held = review.volumes["v"]
        for region in regions:
            place, seen = place_of(region), review.log.head().entries
            there = np.s_[place.z, place.y : place.y + place.height, place.x : place.x + place.width]
            flips = truth[there] ^ review.apart.see("Ana", place, held)
            if flips.any():
                review.append(draft("correction", place, flips, {"tool": "brush"}), "Ana", seen)
            review.append(
                draft("decision", place, None, {"decision": "fix", "note": ""}), "Ana", review.log.head().entries
            )
        (found[count],) = find_review(space, "sampled").sampled
        # The page says the same, by what its person sees.
        shown = find_progress(review, "Ana", "v", (), drawn=True).sampled
        assert shown == found[count]
        review.close()
    mask = Volume.open(space.result("sampled", "v")).label("membrane")[:] == 1
    iou = (mask & truth).sum() / (mask | truth).sum()
    assert (found[12].regions, found[12].chosen, found[12].decided) == (32, 12, 12)
    assert found[12].interval.low < iou < found[12].interval.high
    assert found[12].interval.high - found[12].interval.low < 0.1
    # Where every region is known, nothing is left to be unsure of.
    assert found[32].iou == pytest.approx(iou)
    assert found[32].interval.low == found[32].interval.high == pytest.approx(iou)
