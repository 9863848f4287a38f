"""Several people at one review, as their pages show it: names and notes, what is kept for whom, and two readings."""

from __future__ import annotations

import uuid

import httpx
import numpy as np
import pytest

from segem.io.reviewed import open_mask, reader_of
from segem.kernels.runs import encode_runs
from segem.records.review import Place
from segem.review.apart import Checks
from segem.review.app import make_app
from segem.review.session import Review
from segem.serving import listen, serve
from tests.browser.review_page import opening
from tests.fabricate import add_model, add_pyramids, add_volume, guess, new_workspace, tissue

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SHAPE = (2, 512, 768)
SCRIPTS = [
    "<script>window.ran=1</script>",
    "<img src=x onerror=window.ran=1>",
    "<svg onload=window.ran=1>",
    "<svg><script>window.ran=1</script></svg>",
    "<body onload=window.ran=1>",
    "<details open ontoggle=window.ran=1>",
    "<video><source onerror=window.ran=1>",
    "<input autofocus onfocus=window.ran=1>",
    "<a href=javascript:window.ran=1>x</a>",
    "javascript:window.ran=1",
    "'\"><img src=x onerror=window.ran=1>",
    '" onmouseover="window.ran=1',
    "' autofocus onfocus='window.ran=1",
    "</option><script>window.ran=1</script>",
    "</li></ol><script>window.ran=1</script>",
    "<iframe srcdoc='<script>parent.ran=1</script>'>",
    "<object data=javascript:window.ran=1>",
    "<math><mtext><img src=x onerror=window.ran=1>",
    "{{constructor.constructor('window.ran=1')()}}",
    "${window.ran=1}",
]
ANA, BO, CY = "ana-" * 8, "bo--" * 8, "cy--" * 8
TOKENS = {ANA: "Ana", BO: "Bo", CY: "Cy"} | {f"script-{n:02}-" * 3: script for n, script in enumerate(SCRIPTS)}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    space = new_workspace(tmp_path_factory.mktemp("people") / "w")
    image, truth = tissue(SHAPE)
    add_volume(space, "cortex", image)
    add_model(space, "monday", "cortex", guess(truth))
    add_pyramids(space, "monday", "cortex")
    review = Review(space, "monday", checks=Checks(second_share=1.0))
    with listen() as listener, serve(make_app(review), listener, TOKENS.get):
        yield space, review, listener.address


@pytest.fixture
def open_page(browser, served):
    with opening(browser) as open_at:
        yield lambda token, size=(1280, 900): open_at(served[2], token, size=size)


def post(address, token, path, body):
    headers = {"Authorization": f"Bearer {token}"}
    news = httpx.get(f"{address}/api/changes/cortex/0?page=test", headers=headers, trust_env=False)
    headers["If-Match"] = f'"{news.json()["seen"]}"'
    sent = {"id": str(uuid.uuid4()), **body}
    answer = httpx.post(f"{address}/api/{path}", json=sent, headers=headers, trust_env=False)
    assert answer.status_code == 201, answer.text


def queue_of(address, token):
    headers = {"Authorization": f"Bearer {token}"}
    return [one["place"] for one in httpx.get(f"{address}/api/queue/cortex", headers=headers, trust_env=False).json()]


def test_what_one_keeps_is_not_given_to_others_who_go_on_where_they_stopped(served, open_page):
    _, _, address = served
    ana = open_page(ANA)
    assert ana.locator("#region-list [aria-current]").count() == 1
    ana.keyboard.press("i")
    ana.wait_for_selector("#message:has-text('10 regions are kept for you')")
    assert ana.locator(".state:has-text('kept by Ana')").count() == 10
    bo = open_page(BO)
    places = queue_of(address, BO)
    current = bo.locator("#region-list [aria-current] .where")
    assert current.inner_text() == f"Section {places[10]['z']} at x {places[10]['x']}, y {places[10]['y']}"
    bo.locator("#filter").select_option("free")
    assert bo.locator("#region-list li").count() == len(places) - 10
    bo.locator("#filter").select_option("kept")
    assert bo.locator("#region-list li").count() == 10
    # Ana decides three; where she comes back, the fourth is open, and the page knows how long the rest will take.
    for key in "123":
        ana.keyboard.press(key)
        ana.wait_for_selector("#saved.saved")
    ana.goto(address)
    ana.wait_for_selector("body[data-ready]")
    assert ana.locator("#region-list [aria-current] .where").inner_text() == (
        f"Section {places[3]['z']} at x {places[3]['x']}, y {places[3]['y']}"
    )
    assert "left" in ana.locator("#time-left").inner_text()
    ana.keyboard.press("Shift+I")
    ana.wait_for_selector("#message:has-text('7 regions are open to everybody again')")
    assert ana.complaints == bo.complaints == []


@pytest.mark.parametrize("width", [820, 1280])
def test_a_third_person_decides_between_two_readings_by_keys(served, open_page, width):
    space, review, address = served
    place = queue_of(address, CY)[-1 if width == 820 else -2]
    base = reader_of(open_mask(space, "monday", "cortex"))(Place(**place))
    marks = []
    for token, row in ((BO, 30), (CY, 120)):
        flips = np.zeros(base.shape, bool)
        flips[row : row + 60, 20:120] = True
        marks.append(base ^ flips)
        post(address, token, "corrections", {"place": place, "runs": encode_runs(flips), "tool": "brush"})
        post(address, token, "decisions", {"place": place, "decision": "fix"})
    page = open_page(ANA, (width, 1000))
    page.wait_for_selector("#tab-compare:not([hidden])")
    page.keyboard.press("v")
    page.wait_for_selector("#caption-second:has-text('fixed')")
    page.wait_for_timeout(500)
    size = max(place["height"], place["width"])
    for which, mask in zip(("first", "second"), marks, strict=True):
        shown = np.array(
            page.evaluate(
                """([id, rows, columns, size]) => {
                    const canvas = document.getElementById(id);
                    const step = canvas.width / size;
                    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
                    const middle = (n) => Math.floor((n + 0.5) * step);
                    const at = (y, x) => (middle(y) * canvas.width + middle(x)) * 4;
                    return rows.map((y) => columns.map((x) => data[at(y, x)] - data[at(y, x) + 2]));
                }""",
                [f"compare-{which}", list(range(place["height"])), list(range(place["width"])), size],
            )
        )
        assert np.array_equal(shown > 20, mask), which
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(page).response
    assert [one for one in found["violations"] if one["impact"] in {"serious", "critical"}] == []
    with page.expect_response("**/api/verdicts"):
        page.keyboard.press("6")
    page.wait_for_selector("#compare-progress:has-text('Nothing is left')")
    assert np.array_equal(review.log.mask(Place(**place), review.volumes["cortex"].read), marks[1])
    assert page.complaints == []


def test_twenty_scripts_as_names_and_notes_are_text(served, open_page):
    _, _, address = served
    assert len(SCRIPTS) == 20
    places = queue_of(address, ANA)
    for number, (token, script) in enumerate(list(TOKENS.items())[3:]):
        # Two readings hide others' decisions, so what they say is looked at in their own pages too.
        place = places[number % len(places)]
        post(address, token, "decisions", {"place": place, "decision": "unsure", "note": script})
        keep = {"places": [places[(number + 1) % len(places)]], "name": script, "hours": 1}
        post(address, token, "claims", keep)
    for token in (list(TOKENS)[3], list(TOKENS)[11], ANA):
        page = open_page(token)
        shown = page.locator("#region-list").inner_text() + page.locator("#whose").inner_text()
        assert sum(script in shown for script in SCRIPTS) >= 2
        page.locator("summary").click()
        for key in ("i", "q", "v"):
            page.keyboard.press(key)
            page.wait_for_timeout(200)
        page.locator("#tab-history").click()
        page.wait_for_selector("#history-list li, #history-list:has-text('Nothing')")
        assert page.evaluate("window.ran") is None
        assert page.locator("main script, main iframe, main object, main svg, main img").count() == 0
        assert page.complaints == []
