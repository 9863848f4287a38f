"""The review as a neurologist has it: by pointer and keys, and nothing is lost or drawn beside its place."""

from __future__ import annotations

import json
from itertools import takewhile

import numpy as np
import pytest
import tifffile

from segem.io.reviewed import open_log, open_mask, reader_of
from segem.kernels.questions import draw_ridge, erase_ridge
from segem.records.review import Place
from segem.review.app import make_app
from segem.review.session import Review
from segem.serving import listen, serve
from segem.stages.segmentation.export import export
from tests.browser.review_page import opening, settle
from tests.fabricate import add_model, add_pyramids, add_volume, guess, new_workspace, tissue

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SHAPE = (4, 620, 1100)
TOKENS = {"ana-" * 8: "Ana", "bo--" * 8: "Bo"}
ANA, BO = TOKENS


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    space = new_workspace(tmp_path_factory.mktemp("review") / "w")
    image, truth = tissue(SHAPE)
    add_volume(space, "cortex", image)
    add_model(space, "monday", "cortex", guess(truth))
    add_pyramids(space, "monday", "cortex")
    return space


@pytest.fixture(scope="module")
def address(workspace):
    with listen() as listener, serve(make_app(Review(workspace, "monday")), listener, TOKENS.get):
        yield listener.address


@pytest.fixture
def open_page(browser, address):
    with opening(browser) as open_at:
        yield lambda place="", *, token=ANA, **options: open_at(address, token, place, **options)


def mask_of(workspace, z):
    """Return the mask of a section with all that was acknowledged."""
    read = reader_of(open_mask(workspace, "monday", "cortex"))
    with open_log(workspace, "monday") as log:
        return log.mask(Place(volume="cortex", z=z, y=0, x=0, height=SHAPE[1], width=SHAPE[2]), read)


def stage_of(page):
    box = page.locator("#stage").bounding_box()
    return box["x"], box["y"], box["width"], box["height"]


def region_at(workspace, z, y, x):
    """Return the region that holds a pixel."""
    (found,) = (
        one
        for one in Review(workspace, "monday").regions("cortex")
        if one.z == z and 0 <= y - one.y < one.height_px and 0 <= x - one.x < one.width_px
    )
    return found


def brushed(path, size):
    """Return a function of pixels (y, x): whether a round brush that follows a path of pixels covers them."""

    def covers(y, x):
        covered = np.zeros(y.shape, bool)
        for (y0, x0), (y1, x1) in zip(path, path[1:] or path, strict=False):
            length = (y1 - y0) ** 2 + (x1 - x0) ** 2
            along = np.clip(((y - y0) * (y1 - y0) + (x - x0) * (x1 - x0)) / max(length, 1), 0, 1)
            covered |= (y - y0 - along * (y1 - y0)) ** 2 + (x - x0 - along * (x1 - x0)) ** 2 <= size**2 / 4 + 1e-6
        return covered

    return covers


@pytest.mark.parametrize(("zoom", "z", "device"), [(0.25, 0, 1), (1, 1, 2), (3, 2, 1), (3, 3, 2)])
def test_what_is_painted_is_saved_and_shown_pixel_for_pixel(open_page, workspace, zoom, z, device):
    centre = (310.4, 550.3)
    page = open_page(f"cortex/{z}/{centre[0]}/{centre[1]}/{zoom}", scale=device)
    left, top, width, height = stage_of(page)
    expected = mask_of(workspace, z)
    y, x = np.indices(SHAPE[1:])
    points = [(-60, -90), (20, 10), (25, 120)]
    for key, value, offset in (("b", True, 0), ("e", False, 40)):
        page.keyboard.press(key)
        screen = [(left + width / 2 + dx, top + height / 2 + dy + offset) for dy, dx in points]
        page.mouse.move(*screen[0])
        page.mouse.down()
        for point in screen[1:]:
            page.mouse.move(*point)
        page.mouse.up()
        path = [
            (
                int(np.floor(centre[0] + (sy - top - height / 2) / zoom)),
                int(np.floor(centre[1] + (sx - left - width / 2) / zoom)),
            )
            for sx, sy in screen
        ]
        expected[brushed(path, 5)(y, x)] = value
    settle(page)
    assert np.array_equal(mask_of(workspace, z), expected)
    if zoom >= 1:
        # The middle of every pixel that is seen, as it is drawn.
        first_y, first_x = centre[0] - height / 2 / zoom, centre[1] - width / 2 / zoom
        ys = np.arange(max(0, int(first_y) + 2), min(SHAPE[1], int(first_y + height / zoom) - 2))
        xs = np.arange(max(0, int(first_x) + 2), min(SHAPE[2], int(first_x + width / zoom) - 2))
        shown = page.evaluate(
            """([ys, xs]) => {
                const canvas = document.getElementById("mask");
                const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
                return ys.map(y => xs.map(x => data[(y * canvas.width + x) * 4 + 3] > 127 ? 1 : 0).join(""));
            }""",
            [
                ((ys + 0.5 - first_y) * zoom * device).astype(int).tolist(),
                ((xs + 0.5 - first_x) * zoom * device).astype(int).tolist(),
            ],
        )
        drawn = np.array([[cell == "1" for cell in row] for row in shown])
        assert np.array_equal(drawn, expected[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1])
    assert page.complaints == []


def test_a_review_by_keys_is_all_there_after_a_reload(open_page, workspace):
    page = open_page()
    before = mask_of(workspace, 0)
    left, top, width, height = stage_of(page)
    page.keyboard.press("BracketRight")
    for number in range(3):
        page.mouse.click(left + width / 2 + 40 * number, top + height / 2)
    settle(page)
    painted = mask_of(workspace, 0)
    assert (painted & ~before).sum() > 30
    page.keyboard.press("z")
    settle(page)
    undone = mask_of(workspace, 0)
    assert before.sum() < undone.sum() < painted.sum()
    page.keyboard.press("Shift+z")
    settle(page)
    assert np.array_equal(mask_of(workspace, 0), painted)
    page.keyboard.press("Meta+z")
    page.keyboard.press("Control+z")
    settle(page)
    page.keyboard.press("d")
    page.keyboard.press("a")
    page.keyboard.press("t")
    page.keyboard.type("two membranes, b e g f 1 2 3")
    page.keyboard.press("Enter")
    for key in "1113":
        page.keyboard.press(key)
        settle(page)
    assert page.locator("#progress").inner_text().startswith("4 of ")
    corrected = mask_of(workspace, 0)
    assert before.sum() < corrected.sum() < undone.sum()
    # A page that is left tells of the tiles that it does not wait for.
    assert page.complaints == []
    page.reload()
    page.wait_for_selector("body[data-ready]")
    settle(page)
    assert page.locator("#progress").inner_text().startswith("4 of ")
    states = page.locator(".state").all_inner_texts()
    assert [state.split(" ")[0] for state in states] == ["accepted"] * 3 + ["rejected"]
    assert states[0] == "accepted by Ana: two membranes, b e g f 1 2 3"
    out = workspace.root.parent / "reviewed.tif"
    export("monday", "cortex", "reviewed", out, workspace)
    assert np.array_equal(tifffile.imread(out)[0], corrected * 255)
    export("monday", "cortex", "reviewed-regions", out, workspace, force=True)
    trusted = np.full(SHAPE, 128)
    with open_log(workspace, "monday") as log:
        for entry in log.entries(("decision",)):
            p = entry.place
            window = np.s_[p.z, p.y : p.y + p.height, p.x : p.x + p.width]
            if entry.detail["decision"] == "accept":
                trusted[window] = mask_of(workspace, p.z)[window[1:]] * 255
    assert (trusted != 128).any()
    assert np.array_equal(tifffile.imread(out), trusted)


def test_questions_are_answered_by_one_key_each(open_page, workspace):
    z = 3
    asked = list(Review(workspace, "monday").questions("cortex", z).values())[:3]
    before = mask_of(workspace, z)
    expected = before.astype(np.uint8)
    page = open_page(f"cortex/{z}/310.4/550.3/1")
    page.keyboard.press("q")
    for number, (question, key) in enumerate(zip(asked, "ynu", strict=True), 1):
        page.wait_for_selector(f"#question-progress:has-text('Question {number} of')")
        settle(page)
        draw = draw_ridge if key == "y" else erase_ridge
        if key != "u" and (key == "y") != question.has_membrane:
            expected = draw(expected, question.ridge, question.width_px)
        page.keyboard.press(key)
    page.wait_for_selector("#question-progress:has-text(', 3 answered')")
    settle(page)
    assert np.array_equal(mask_of(workspace, z), expected)
    # Undo takes answers back, the last one first, and asks again.
    for number in (3, 2, 1):
        page.keyboard.press("Control+z")
        page.wait_for_selector(f"#question-progress:has-text('Question {number} of')")
        settle(page)
    assert np.array_equal(mask_of(workspace, z), before)
    for number, key in enumerate("ynu", 1):
        page.keyboard.press(key)
        page.wait_for_selector(f"#question-progress:has-text(', {number} answered')")
        settle(page)
    assert np.array_equal(mask_of(workspace, z), expected)
    page.reload()
    page.wait_for_selector("body[data-ready]")
    page.keyboard.press("q")
    page.wait_for_selector("#question-progress:has-text('Question 4 of')")


def test_no_question_is_answered_that_is_out_of_sight(open_page, workspace):
    z = 3
    page = open_page(f"cortex/{z}/310.4/550.3/1")
    page.keyboard.press("q")
    page.wait_for_selector("#question-progress:has-text('answered')")
    with open_log(workspace, "monday") as log:
        before = len(log.entries(("answer",), "cortex"))
    # The section is not all there before it is known what others have done in it.
    page.route(f"**/api/changes/cortex/{z - 1}*", lambda route: None)
    page.keyboard.press("a")
    page.wait_for_function("z => document.getElementById('z').value === String(z)", arg=z - 1)
    page.keyboard.press("y")
    page.wait_for_selector("#message:has-text('still loading')")
    page.unroute(f"**/api/changes/cortex/{z - 1}*")
    page.wait_for_selector("#question-progress:has-text('0 answered'), #question-progress:has-text('no questions')")
    settle(page)
    assert page.complaints == []
    with open_log(workspace, "monday") as log:
        assert len(log.entries(("answer",), "cortex")) == before


def test_the_field_of_the_section_shows_the_section_that_is_open(open_page):
    page = open_page()
    last = page.locator("#z").get_attribute("max")
    for typed in ("99", "98"):
        page.fill("#z", typed)
        page.press("#z", "Enter")
        assert page.input_value("#z") == last
        settle(page)
    for _ in range(2):
        page.fill("#z", "")
        page.press("#z", "Enter")
        assert page.input_value("#z") == "0"
        settle(page)


def test_a_region_is_taken_from_between_its_neighbours_and_taken_back(open_page, workspace):
    page = open_page()
    z = 1
    before = mask_of(workspace, z)
    region = next(one for one in Review(workspace, "monday").regions("cortex") if one.z == z)
    window = np.s_[region.y : region.y + region.height_px, region.x : region.x + region.width_px]
    page.locator("#region-list button", has_text=f"Section {z} at x {region.x}, y {region.y}").first.click()
    settle(page)
    with page.expect_response("**/api/corrections"):
        page.keyboard.press("k")
    settle(page)
    between = mask_of(workspace, z)
    changed = between != before
    assert changed[window].any()
    assert changed.sum() == changed[window].sum()
    assert (between & before)[window].any()
    # Keys are those of the review, too, after a list was chosen by the pointer.
    page.locator("#tab-history").click()
    page.locator("#tab-regions").click()
    with page.expect_response("**/api/corrections"):
        page.keyboard.press("j")
    settle(page)
    assert np.array_equal(mask_of(workspace, z)[window], mask_of(workspace, z - 1)[window])
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    settle(page)
    assert np.array_equal(mask_of(workspace, z), before)


def test_regions_drawn_at_random_say_by_key_what_the_volume_is(open_page, workspace):
    page = open_page()
    page.keyboard.press("h")
    assert "drawn at random" in page.locator("#keys").inner_text()
    page.keyboard.press("h")
    page.wait_for_selector("#help:not([open])", state="attached")
    page.keyboard.press("Shift+R")
    page.wait_for_selector("#sampled:has-text('regions, in random order')")
    # Asked for beside it, and maybe there later.
    page.wait_for_selector("#region-list .why:has-text('drawn at random')")
    with open_log(workspace, "monday") as log:
        chosen = [Place(**one) for one in json.loads(str(log.entries(("sample",), "cortex")[-1].detail["regions"]))]
    shown = page.locator("#region-list .where")
    assert [text.split(" at ") for text in shown.all_inner_texts()] == [
        [f"Section {one.z}", f"x {one.x}, y {one.y}"] for one in chosen
    ]
    # One is cleared and fixed, the other taken as it is.
    for number, keys in enumerate((("w", "2"), ("1",))):
        shown.nth(number).click()
        settle(page)
        for key in keys:
            page.keyboard.press(key)
            settle(page)
    read = reader_of(open_mask(workspace, "monday", "cortex"))
    with open_log(workspace, "monday") as log:
        decided = {one.place: one.detail["decision"] for one in log.entries(("decision",), "cortex")}
        # In their order, up to the first that is open.
        right = [one for one in takewhile(decided.__contains__, chosen) if decided[one] in {"accept", "fix"}]
        pairs = [(read(one), log.mask(one, read)) for one in right]
    assert set(chosen[:2]) <= set(right)
    iou = sum((a & b).sum() for a, b in pairs) / sum((a | b).sum() for a, b in pairs)
    page.wait_for_selector(f"#sampled:has-text('{len(right)} accepted or fixed, the mask has an IoU of {iou:.3f}')")
    # It stays so after a reload, with the region that was open.
    here = page.locator("#region-list [aria-current] .where").inner_text()
    page.reload()
    page.wait_for_selector("body[data-ready]")
    assert page.locator("[data-action=drawn]").get_attribute("aria-pressed") == "true"
    assert page.locator("#region-list [aria-current] .where").inner_text() == here
    page.locator("[data-action=drawn]").click()
    page.wait_for_selector("#region-list .why:has-text('drawn at random')", state="detached")
    page.wait_for_selector("#sampled", state="hidden")


def test_what_is_not_in_sight_is_neither_decided_nor_changed(open_page, workspace):
    def count():
        with open_log(workspace, "monday") as log:
            return len(log.entries(("decision", "correction")))

    page = open_page()
    before = count()
    page.keyboard.press("q")
    settle(page)
    for key in "1w":
        page.keyboard.press(key)
        settle(page)
    assert page.locator("[data-action=clear]").is_hidden()
    assert count() == before
    # A place stays where it is in other sections and pictures, and is decided about where it can be seen.
    page.locator("#tab-regions").click()
    settle(page)
    section, place = 1, "310.00/550.00/1.5000"
    cell = region_at(workspace, section, 310, 550)
    page.evaluate("place => { location.hash = place; }", f"cortex/{section}/{place}")
    page.wait_for_selector(f"[aria-current] .where:has-text('Section {section} at x {cell.x}, y {cell.y}')")
    settle(page)
    for key in "dp":
        page.keyboard.press(key)
        page.wait_for_function("z => document.getElementById('z').value === z", arg=str(section + 1))
        settle(page)
        assert page.evaluate("location.hash") == f"#cortex/{section + 1}/{place}"
    page.keyboard.press("p")
    page.keyboard.press("1")
    page.wait_for_selector(f"#message:has-text('The region is in section {section}')")
    settle(page)
    assert page.locator("#z").input_value() == str(section)
    assert count() == before
    # After a click, Space hides the mask, and does not press the button again.
    here = page.locator("[aria-current] .where").inner_text()
    page.locator("[data-action=accept]").click()
    settle(page)
    page.keyboard.down("Space")
    assert page.locator("[data-action=hide]").get_attribute("aria-pressed") == "true"
    page.keyboard.up("Space")
    assert page.locator("[data-action=hide]").get_attribute("aria-pressed") == "false"
    settle(page)
    assert count() == before + 1
    assert page.locator("[aria-current] .where").inner_text() != here
    page.keyboard.press("z")
    settle(page)
    assert page.locator("[aria-current] .where").inner_text() == here
    assert count() == before + 1
    # A click on Hide lasts until the next one.
    for hidden in ("true", "false"):
        page.locator("[data-action=hide]").click()
        assert page.locator("[data-action=hide]").get_attribute("aria-pressed") == hidden


def test_polygon_and_fill_are_painted(open_page, workspace):
    page = open_page("cortex/3/400.4/400.4/2")
    left, top, width, height = stage_of(page)
    before = mask_of(workspace, 3)
    page.keyboard.press("g")
    for dx, dy in ((-100, -100), (100, -100), (100, 100), (-100, 100)):
        page.mouse.click(left + width / 2 + dx, top + height / 2 + dy)
    page.wait_for_selector("#message:has-text('the first corner closes it')")
    page.mouse.click(left + width / 2 - 97, top + height / 2 - 98)
    assert page.locator("#message").is_hidden(), "nobody is asked for corners of what is closed"
    settle(page)
    square = mask_of(workspace, 3)
    assert square[350:451, 350:451].all()
    assert np.array_equal(np.delete(square, slice(350, 451), 0), np.delete(before, slice(350, 451), 0))
    page.keyboard.press("e")
    page.mouse.click(left + width / 2, top + height / 2)
    page.keyboard.press("f")
    page.mouse.click(left + width / 2, top + height / 2)
    settle(page)
    assert np.array_equal(mask_of(workspace, 3), square), "the hole of the eraser is filled again"
    # On membrane it empties all that hangs together, but for what lies beyond the region that is marked.
    page.mouse.click(left + width / 2, top + height / 2)
    page.wait_for_selector("#message:has-text('of membrane are gone')")
    settle(page)
    emptied = square & ~mask_of(workspace, 3)
    cell = region_at(workspace, 3, 400, 400)
    inside = np.s_[cell.y : cell.y + cell.height_px, cell.x : cell.x + cell.width_px]
    assert emptied.sum() == emptied[inside].sum() > 101 * 101 / 4
    page.keyboard.press("z")
    settle(page)
    assert np.array_equal(mask_of(workspace, 3), square)


def test_strokes_made_without_a_connection_are_sent_when_it_is_back(open_page, workspace):
    page = open_page("cortex/2/300/300/2")
    left, top, _, _ = stage_of(page)
    before = mask_of(workspace, 2)
    page.context.set_offline(True)
    for number in range(3):
        page.mouse.click(left + 200 + 50 * number, top + 200)
    page.wait_for_selector("#saved.offline")
    assert np.array_equal(mask_of(workspace, 2), before)
    page.context.set_offline(False)
    settle(page)
    assert (mask_of(workspace, 2) != before).any()


def test_two_people_in_one_region_see_each_other_and_lose_nothing(open_page, workspace):
    before = mask_of(workspace, 0)
    free = np.lib.stride_tricks.sliding_window_view(before, (9, 25)).any((2, 3))
    y, x = next(
        (y, x) for y, x in np.argwhere(~free) + np.array([4, 6]) if y // 256 == (y + 9) // 256 and x % 256 < 230
    )
    ana, bo = (open_page(f"cortex/0/{y}.4/{x}.4/3", token=token) for token in (ANA, BO))
    ana.wait_for_selector("#others:text-is('Also here: Bo')")
    left, top, width, height = stage_of(ana)
    # Both paint before the next of the news that pages ask for every three seconds.
    bo.route("**/api/changes/**", lambda route: route.abort())
    ana.mouse.click(left + width / 2, top + height / 2)
    settle(ana)
    bo.mouse.click(left + width / 2 + 30, top + height / 2)
    bo.wait_for_selector("#clash[open]")
    assert bo.locator("#clash-title").inner_text() == "Ana changed this region while you painted"
    bo.get_by_role("button", name="Keep both").click()
    settle(bo)
    rows, columns = np.indices(SHAPE[1:])
    expected = brushed([(y, x)], 5)(rows, columns) | brushed([(y, x + 10)], 5)(rows, columns)
    assert np.array_equal(mask_of(workspace, 0) != before, expected)


@pytest.mark.parametrize("width", [820, 1280])
def test_the_page_is_no_wider_than_the_window_and_readable(open_page, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = open_page(size=(width, 1000))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for key in ("", "q", "h"):
        if key:
            page.keyboard.press(key)
            settle(page)
        # Its script is put in by the browser's own means, which no policy of the page holds back.
        found = axe.Axe().run(page).response
        assert len(found["passes"]) > 10
        assert [one for one in found["violations"] if one["impact"] in {"serious", "critical"}] == []
    page.keyboard.press("Escape")


SCRIPTS = [
    "<script>window.ran=1</script>",
    "<img src=x onerror=window.ran=1>",
    "<svg onload=window.ran=1>",
    "javascript:window.ran=1",
    "'\"><iframe srcdoc='<script>parent.ran=1</script>'>",
    "{{constructor.constructor('window.ran=1')()}}",
    "</li><a href=javascript:window.ran=1 autofocus onfocus=window.ran=1>x",
]


def test_scripts_in_notes_do_not_run(open_page):
    page = open_page()
    for script in SCRIPTS:
        page.locator("#note").fill(script)
        page.keyboard.press("Escape")
        page.keyboard.press("4")
        settle(page)
    page.locator("#tab-history").click()
    page.locator("#tab-regions").click()
    page.reload()
    page.wait_for_selector("body[data-ready]")
    notes = page.locator(".state").all_inner_texts()
    assert all(any(script in note for note in notes) for script in SCRIPTS)
    assert page.evaluate("window.ran") is None


def test_a_region_is_whole_in_a_window_of_another_size_too_unless_somebody_has_moved(open_page):
    def resized(width, height):
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_function(
            """width => innerWidth === width
                && document.getElementById("mask").width === document.getElementById("stage").clientWidth""",
            arg=width,
        )
        return settled()

    def settled():
        settle(page)
        return page.evaluate("location.hash")

    page = open_page()
    page.keyboard.press("0")
    first = settled()
    fitted = resized(820, 640)
    assert fitted != first
    page.keyboard.press("0")
    assert settled() == fitted, "as if it had been asked for anew"
    page.keyboard.press("=")
    page.wait_for_function("fitted => location.hash !== fitted", arg=fitted)
    scale = settled().split("/")[-1]
    assert resized(1280, 800).split("/")[-1] == scale, "what somebody looks at stays as large"
    assert page.complaints == []
