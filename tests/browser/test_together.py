"""Several strokes that wait while others paint at the same place: nobody's work is undone, and nothing is lost."""

from __future__ import annotations

import secrets

import numpy as np
import pytest

from segem.errors import WorkspaceError
from segem.io.reviewed import open_log, open_mask, reader_of
from segem.kernels.runs import encode_runs
from segem.records.review import Draft, Place
from segem.review.app import make_app
from segem.review.session import Review
from segem.serving import listen, serve
from tests.browser.review_page import opening, settle
from tests.fabricate import add_model, add_pyramids, add_volume, new_workspace, tissue

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SHAPE = (6, 300, 600)
ANA = "ana-" * 8
CENTRE = (150.5, 300.5)
ZOOM = 2


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    space = new_workspace(tmp_path_factory.mktemp("together") / "w")
    add_volume(space, "cortex", tissue(SHAPE)[0])
    # Without membrane, so that whatever is there was painted.
    add_model(space, "monday", "cortex", np.zeros(SHAPE, np.uint8))
    add_pyramids(space, "monday", "cortex")
    return space


@pytest.fixture(scope="module")
def review(workspace):
    return Review(workspace, "monday")


@pytest.fixture(scope="module")
def address(review):
    with listen() as listener, serve(make_app(review), listener, {ANA: "Ana"}.get):
        yield listener.address


@pytest.fixture
def open_page(browser, address):
    with opening(browser) as open_at:
        yield lambda z, **options: open_at(address, ANA, f"cortex/{z}/{CENTRE[0]}/{CENTRE[1]}/{ZOOM}", **options)


def mask_of(workspace, z):
    """Return the mask of a section with all that was acknowledged."""
    read = reader_of(open_mask(workspace, "monday", "cortex"))
    with open_log(workspace, "monday") as log:
        return log.mask(Place(volume="cortex", z=z, y=0, x=0, height=SHAPE[1], width=SHAPE[2]), read)


def shown_of(page, y, x):
    """Return whether a pixel is drawn as membrane."""
    offsets = [round((at - centre + 0.5) * ZOOM) for at, centre in zip((y, x), CENTRE, strict=True)]
    return page.evaluate(
        """([dy, dx]) => {
            const canvas = document.getElementById("mask");
            const at = [canvas.width / 2 + dx, canvas.height / 2 + dy].map(Math.floor);
            return canvas.getContext("2d").getImageData(...at, 1, 1).data[3] > 127;
        }""",
        offsets,
    )


def at(page, y, x):
    """Return where a pixel lies in the window."""
    box = page.locator("#stage").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    # The middle of the stage is CENTRE, as long as the stage keeps its size.
    return middle[0] + (x + 0.5 - CENTRE[1]) * ZOOM, middle[1] + (y + 0.5 - CENTRE[0]) * ZOOM


def paint_as_bo(review, z, y, x):
    """Make a square of 3 x 3 pixels membrane, as somebody else."""
    place = Place(volume="cortex", z=z, y=y - 1, x=x - 1, height=3, width=3)
    runs = encode_runs(np.ones((3, 3), bool))
    draft = Draft(id=secrets.token_hex(16), kind="correction", place=place, runs=runs, detail={"tool": "brush"})
    review.append(draft, "Bo", review.log.head().entries)


def test_what_two_have_painted_stays_painted_however_many_strokes_wait(open_page, workspace, review):
    page = open_page(0)
    stage = page.locator("#stage").bounding_box()
    page.context.set_offline(True)
    page.mouse.click(*at(page, 100, 200))
    page.mouse.click(*at(page, 100, 400))
    page.wait_for_selector("#saved.offline:has-text('2 kept')")
    # What is said of it may not move the section under the pointer.
    assert page.locator("#stage").bounding_box() == stage
    paint_as_bo(review, 0, 100, 400)
    page.context.set_offline(False)
    settle(page)
    mask = mask_of(workspace, 0)
    assert mask[100, 200]
    assert mask[99:102, 399:402].all()
    assert mask[99:102, 402].tolist() == [True] * 3
    assert shown_of(page, 100, 400)


def test_a_server_that_cannot_save_says_why_and_saves_when_it_can(open_page, workspace, review):
    page = open_page(5)
    pages = review.log._db.execute("PRAGMA page_count").fetchone()[0]
    review.log._db.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(WorkspaceError, match="full"):  # noqa: PT012 - how many fit depends on the page size
        for column in range(10, 400):
            paint_as_bo(review, 0, 280, column)
    page.mouse.click(*at(page, 100, 200))
    page.wait_for_selector("#saved.offline:has-text('The server cannot save: 1 kept here, sent when it can')")
    assert "full" in page.locator("#saved").get_attribute("title")
    assert "Not saved yet: " in page.locator("#message").inner_text()
    review.log._db.execute(f"PRAGMA max_page_count={2**30}")
    settle(page)
    assert mask_of(workspace, 5)[100, 200]
    assert not page.locator("#saved").get_attribute("title")


def test_what_was_painted_and_undone_before_the_page_was_closed_is_undone(open_page, workspace):
    page = open_page(1)
    page.context.set_offline(True)
    page.mouse.click(*at(page, 100, 200))
    page.keyboard.press("z")
    page.mouse.click(*at(page, 120, 200))
    page.wait_for_selector("#saved.offline:has-text('3 kept')")
    context = page.context
    page.close()
    context.set_offline(False)
    again = open_page(1, context=context)
    assert again.locator("#clash[open]").count() == 0
    mask = mask_of(workspace, 1)
    assert not mask[98:103].any()
    assert mask[120, 200]


def test_the_stroke_that_is_taken_back_is_the_one_that_met_others_work(open_page, workspace, review):
    page = open_page(2)
    page.context.set_offline(True)
    page.mouse.click(*at(page, 100, 200))
    page.mouse.click(*at(page, 100, 400))
    page.wait_for_selector("#saved.offline:has-text('2 kept')")
    paint_as_bo(review, 2, 110, 200)
    page.context.set_offline(False)
    page.get_by_role("button", name="Take my stroke back").click()
    settle(page)
    mask = mask_of(workspace, 2)
    assert not mask[100, 200]
    assert mask[110, 200]
    assert mask[100, 400]


def test_a_stroke_that_is_being_made_takes_nothing_back_that_others_have_painted(open_page, workspace, review):
    page = open_page(3)
    page.mouse.move(*at(page, 100, 200))
    page.mouse.down()
    paint_as_bo(review, 3, 100, 200)
    paint_as_bo(review, 3, 100, 400)
    # By the news that pages ask for, while the button is held.
    while not shown_of(page, 100, 400):
        page.wait_for_timeout(100)
    page.mouse.move(*at(page, 100, 205))
    page.mouse.move(*at(page, 100, 200))
    page.mouse.up()
    settle(page)
    assert mask_of(workspace, 3)[99:102, 199:207].all()
    assert shown_of(page, 100, 200)


def test_a_decision_that_waits_is_not_about_what_others_did_meanwhile(browser, address, review):
    with opening(browser) as open_at:
        page = open_at(address, ANA)
        z, y, x = (round(float(one)) for one in page.evaluate("location.hash").split("/")[1:4])
        page.context.set_offline(True)
        box = page.locator("#stage").bounding_box()
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.keyboard.press("2")
        page.wait_for_selector("#saved.offline:has-text('2 kept')")
        paint_as_bo(review, z, y + 20, x + 20)
        page.context.set_offline(False)
        page.wait_for_selector("#message:has-text('somebody else has changed this region meanwhile')")
        page.wait_for_selector("#saved.saved")
    assert not review.log.entries(("decision",))


def test_strokes_are_sent_where_the_browser_has_no_room_to_keep_them(open_page, workspace):
    page = open_page(1)
    before = mask_of(workspace, 1)
    page.evaluate(
        """() => {
            for (let size = 1 << 22; size >= 1; size /= 2)
                try { for (let n = 0; ; n += 1) localStorage.setItem(`full-${size}-${n}`, "x".repeat(size)); } catch {}
        }"""
    )
    page.context.set_offline(True)
    page.mouse.click(*at(page, 160, 300))
    page.wait_for_selector("#saved.offline:has-text('1 in this page alone, which is to stay open')")
    page.context.set_offline(False)
    settle(page)
    assert mask_of(workspace, 1)[160, 300] > before[160, 300]
    page.evaluate("localStorage.clear()")
