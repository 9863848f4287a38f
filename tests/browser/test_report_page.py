"""The report as a reader's browser shows it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from segem.config.baseline import BASELINE_NAMES
from segem.io.run import note_failure
from segem.stages.reporting.write import report
from segem.stages.volumes.quality import measure_quality
from tests.fabricate import add_baseline, add_model, add_volume, guess, new_workspace, tissue

pytestmark = pytest.mark.browser

RUN = "browser-run"
LONGEST_NAME = max(BASELINE_NAMES, key=lambda method: len(BASELINE_NAMES[method]))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    workspace = new_workspace(tmp_path_factory.mktemp("report") / "w")
    image, truth = tissue((5, 128, 128))
    probability = guess(truth)
    probability[2] //= 2
    for name, labels in (("labelled", truth), ("unlabelled", None)):
        warnings = ["section 1 is blurred"] if labels is None else []
        measure_quality(add_volume(workspace, name, image, labels, warnings=warnings))
        add_baseline(workspace, RUN, name, (image < 120).astype(np.uint8), method=LONGEST_NAME)
        add_model(workspace, RUN, name, probability, core_px=64)
    long_path = "/data/" + "a-very-long-folder-name/" * 12 + "03.tif"
    note_failure(workspace, RUN, "x" * 100, f"{long_path}: not readable as an image")
    return report(RUN, workspace)


@pytest.fixture
def open_page(browser, written):
    """Return a function that opens the report; requests and console messages are noted on the page."""
    contexts = []

    def open_at(width=1280, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.requested, page.complaints = [], []
        page.on("request", lambda request: page.requested.append(request.url))
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.goto(written.index.as_uri())
        return page

    yield open_at
    for context in contexts:
        context.close()


def test_asks_no_network_and_complains_about_nothing(open_page, written):
    page = open_page()
    outside = [url for url in page.requested if not url.startswith("data:") and url != written.index.as_uri()]
    assert outside == []
    assert page.complaints == []


def test_every_picture_is_drawn(open_page):
    widths = open_page().eval_on_selector_all("img", "all => all.map(one => one.naturalWidth)")
    assert len(widths) == 3 * 5 + 3 * 4
    assert all(width == 128 for width in widths)


def test_table_shows_the_numbers_of_the_json_file(open_page, written):
    page = open_page()
    cells = page.locator("#summary tbody tr").first.locator("th, td").all_inner_texts()
    volume = json.loads(written.json.read_text())["volumes"][0]
    numbers = [volume["iou"]["baseline"], volume["iou"]["model"], volume["v_rand"], volume["v_info"]]
    assert cells[:6] == ["labelled", "5", *(f"{number:.3f}" for number in numbers)]
    assert cells[6] == f"{volume['seam_ratio']:.2f}"


def test_says_what_was_not_measured_and_what_failed(open_page):
    page = open_page()
    for place in page.get_by_text("not measured: no ground truth", exact=True).all():
        assert place.is_visible()
    assert page.get_by_text("not measured: no ground truth", exact=True).count() == 2
    assert page.get_by_text("not readable as an image").is_visible()
    assert page.get_by_text("section 1 is blurred").is_visible()


def test_every_word_of_a_chart_is_inside_its_drawing(open_page):
    overhang = """all => all.map(text => {
        const inside = text.ownerSVGElement.getBoundingClientRect(), box = text.getBoundingClientRect();
        return Math.max(box.right - inside.right, inside.left - box.left, box.bottom - inside.bottom);
    })"""
    page = open_page()
    assert page.locator("svg text", has_text=BASELINE_NAMES[LONGEST_NAME]).is_visible()
    assert max(page.eval_on_selector_all("svg text", overhang)) < 0.5, "in pixels"


@pytest.mark.parametrize("width", [390, 1280])
def test_no_wider_than_the_window(open_page, width):
    page = open_page(width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(open_page, scheme):
    page = open_page(scheme=scheme)
    luminance = """selector => {
        const light = colour => {
            const [r, g, b] = colour.match(/[0-9.]+/g).map(Number)
                .map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const ground = light(getComputedStyle(document.body).backgroundColor);
        const text = light(getComputedStyle(document.querySelector(selector)).color);
        return (Math.max(ground, text) + 0.05) / (Math.min(ground, text) + 0.05);
    }"""
    for selector in ("body", ".quiet", "a", ".fail", "thead th"):
        assert page.evaluate(luminance, selector) >= 4.5, selector


def test_details_open_without_a_script(open_page):
    page = open_page()
    rows = page.locator("details tbody tr")
    assert not rows.first.is_visible()
    page.locator("summary").click()
    assert rows.first.is_visible()
    assert rows.count() == 5
