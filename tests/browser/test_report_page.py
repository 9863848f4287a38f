"""The report as a reader's browser shows it."""

from __future__ import annotations

import json
from urllib.parse import unquote, urlparse

import numpy as np
import pytest

from segem.config.baseline import BASELINE_NAMES
from segem.io.run import note_failure
from segem.stages.reporting.marks import import_marks
from segem.stages.reporting.write import report
from segem.stages.volumes.quality import measure_quality
from tests.fabricate import add_baseline, add_model, add_volume, guess, new_workspace, tissue
from tests.machine import missing

pytestmark = pytest.mark.browser

RUN = "browser-run"
LONGEST_NAME = max(BASELINE_NAMES, key=lambda method: len(BASELINE_NAMES[method]))
OPEN = "document.querySelectorAll('details').forEach(one => { one.open = true; })"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    workspace = new_workspace(tmp_path_factory.mktemp("report") / "w")
    image, truth = tissue((5, 128, 128))
    probability = guess(truth)
    probability[2] //= 2
    for name, labels in (("labelled", truth), ("also", truth), ("unlabelled", None)):
        warnings = ["section 1 is blurred"] if labels is None else []
        measure_quality(add_volume(workspace, name, image, labels, warnings=warnings))
        add_baseline(workspace, RUN, name, (image < 120).astype(np.uint8), method=LONGEST_NAME)
        add_model(workspace, RUN, name, probability, core_px=64)
    long_path = "/data/" + "a-very-long-folder-name/" * 12 + "03.tif"
    note_failure(workspace, RUN, "x" * 100, f"{long_path}: not readable as an image")
    return workspace


@pytest.fixture(scope="module")
def written(workspace):
    return report(RUN, workspace)


@pytest.fixture
def open_page(browser, written):
    """Return a function that opens the report; requests and console messages are noted on the page."""
    contexts = []

    def open_at(width=1280, scheme="light", *, opened=True, scripts=True):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=scripts
        )
        contexts.append(context)
        page = context.new_page()
        page.requested, page.complaints = [], []
        page.on("request", lambda request: page.requested.append(request.url))
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.goto(written.index.as_uri())
        if opened:
            page.evaluate(OPEN)
        return page

    yield open_at
    for context in contexts:
        context.close()


def test_asks_for_nothing_beyond_its_folder_and_complains_about_nothing(open_page, written):
    from playwright.sync_api import expect

    page = open_page()
    for picture in page.locator(".leaf img").all():
        picture.scroll_into_view_if_needed()
        expect(picture).to_have_js_property("naturalWidth", 256)
        # The file holds two pictures, of which one is seen.
        assert picture.evaluate("one => one.clientWidth / one.clientHeight") == pytest.approx(1, abs=0.02)
    asked = [urlparse(url) for url in page.requested if not url.startswith("data:")]
    assert {one.scheme for one in asked} == {"file"}
    assert all(unquote(one.path).startswith(str(written.index.parent)) for one in asked)
    assert len(asked) > 1
    assert page.complaints == []


def test_every_picture_is_drawn(open_page):
    widths = open_page().eval_on_selector_all(".pictures img", "all => all.map(one => one.naturalWidth)")
    assert len(widths) == 2 * 3 * 6 + 3 * 5
    assert all(width == 128 for width in widths)


def test_table_shows_the_numbers_of_the_json_file(open_page, written):
    page = open_page()
    cells = page.locator("#summary tbody tr").first.locator("th, td").all_inner_texts()
    volume = json.loads(written.json.read_text())["volumes"][0]
    numbers = [volume["iou"]["model"], volume["iou"]["baseline"], volume["v_rand"], volume["v_info"]]
    assert cells[:2] == ["labelled", "to be reviewed"]
    # Below a score stands its interval, where there is one.
    assert [cell.split("\n")[0] for cell in cells[2:6]] == [f"{number:.3f}" for number in numbers]
    assert cells[6:9] == ["none", f"{volume['seam_ratio']:.2f}", "5"]


def test_says_what_was_not_measured_and_what_failed(open_page):
    page = open_page()
    for place in page.get_by_text("not measured: no ground truth", exact=True).all():
        assert place.is_visible()
    assert page.get_by_text("not measured: no ground truth", exact=True).count() == 3
    # In the verdict, and where the volume has its place.
    for place in page.get_by_text("not readable as an image").all():
        assert place.is_visible()
    assert page.get_by_text("not readable as an image").count() == 2
    assert page.get_by_text("section 1 is blurred").is_visible()


@pytest.mark.parametrize("width", [390, 1280])
def test_every_word_of_a_chart_is_inside_its_drawing(open_page, width):
    overhang = """all => all.map(text => {
        const inside = text.ownerSVGElement.getBoundingClientRect(), box = text.getBoundingClientRect();
        return Math.max(box.right - inside.right, inside.left - box.left, box.bottom - inside.bottom);
    })"""
    page = open_page(width)
    assert page.locator("svg text", has_text=BASELINE_NAMES[LONGEST_NAME][1:]).first.is_visible()
    over = zip(
        page.eval_on_selector_all("svg text", overhang), page.locator("svg text").all_text_contents(), strict=True
    )
    assert [(text, pixels) for pixels, text in over if pixels > 0.5] == []
    smallest = page.eval_on_selector_all("svg text", "all => all.map(one => one.getBoundingClientRect().height)")
    assert min(smallest) > 9, "in pixels"


@pytest.mark.parametrize("width", [390, 820, 1280])
def test_no_wider_than_the_window(open_page, width):
    page = open_page(width)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    # Nor does a cell of the table of volumes lie where nobody looks: on small screens, each volume is a card.
    cells = page.locator("#summary tbody :is(th, td)")
    edges = cells.evaluate_all("all => all.map(one => one.getBoundingClientRect().right)")
    assert max(edges) <= width
    label = "getComputedStyle(document.querySelector('#summary td'), '::before').content"
    assert page.evaluate(label) == ('"Verdict"' if width < 1024 else "none")


def test_no_wider_than_paper(open_page):
    """What is wider than the text on A4, a printer shrinks until nobody can read it."""
    page = open_page(717)
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") <= 717


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(open_page, scheme):
    try:
        from axe_playwright_python.sync_playwright import Axe
    except ImportError:
        missing("axe-playwright-python is not installed; make dev")
    page = open_page(scheme=scheme)
    found = Axe().run(page).response
    serious = [one for one in found["violations"] if one["impact"] in {"serious", "critical"}]
    assert [(one["id"], one["nodes"][0]["html"]) for one in serious] == []
    assert {"color-contrast", "image-alt", "svg-img-alt", "label"} <= {one["id"] for one in found["passes"]}


def test_everything_is_there_without_a_script(open_page):
    page = open_page(opened=False, scripts=False)
    rows = page.locator("#volume-1 .data tbody tr")
    assert not rows.first.is_visible()
    page.locator("details.volume > summary").first.click()
    page.locator("#volume-1 .data > summary").first.click()
    assert rows.first.is_visible()
    assert page.locator("#volume-1 .links a").count() == 5
    assert not page.locator(".marking").is_visible()
    assert page.locator("#volume-1 input").count() == 0


@pytest.mark.slow
def test_marks_are_kept_downloaded_and_taken_in(open_page, workspace):
    page = open_page()
    leaf = page.locator(".leaf[data-volume=labelled]")
    leaf.scroll_into_view_if_needed()
    leaf.get_by_role("slider").fill("3")
    leaf.get_by_role("button", name="bad").click()
    leaf.get_by_role("textbox").fill("a fold")
    leaf.get_by_role("textbox").blur()
    leaf.get_by_role("button", name="Next section").click()
    leaf.get_by_role("button", name="good").click()
    page.reload()
    page.evaluate(OPEN)
    assert page.locator(".marking output").first.inner_text() == "2 marked in this browser."
    with page.expect_download() as download:
        page.get_by_role("button", name="Download marks").first.click()
    marks = import_marks(download.value.path(), RUN, workspace)
    told = [(one.volume, one.section, one.mark, one.note) for one in marks.marks]
    assert told == [("labelled", 3, "bad", "a fold"), ("labelled", 4, "good", "")]
    assert page.complaints == []
    # What was taken in can be withdrawn.
    report(RUN, workspace)
    page = open_page()
    leaf = page.locator(".leaf[data-volume=labelled]")
    leaf.get_by_role("slider").fill("3")
    leaf.get_by_role("button", name="bad").click()
    leaf.get_by_role("textbox").fill("")
    leaf.get_by_role("textbox").blur()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download marks").first.click()
    marks = import_marks(download.value.path(), RUN, workspace)
    assert [(one.section, one.mark) for one in marks.marks] == [(4, "good")]


@pytest.mark.slow
def test_prints_with_everything_open(open_page, tmp_path):
    page = open_page(opened=False)
    page.emulate_media(media="print")
    data = page.pdf(format="A4")
    assert data.startswith(b"%PDF")
    assert data.count(b"/Type /Page\n") >= 6, "pages"
