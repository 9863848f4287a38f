"""Labels from nothing on the page: the line along a membrane, the neighbours beside a patch, and what is counted."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.csgraph import dijkstra

from segem.config.review import LabelConfig
from segem.io.reviewed import open_log, open_mask, reader_of, trusted_places
from segem.io.volume import Volume
from segem.records.review import Place
from segem.review.app import make_app
from segem.review.labelling import open_labelling
from segem.review.session import Review
from segem.serving import listen, serve
from tests.browser.review_page import opening, settle
from tests.fabricate import add_model, add_pyramids, add_volume, guess, new_workspace, tissue

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SHAPE = (4, 520, 700)
TOKEN = "ana-" * 8


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    space = new_workspace(tmp_path_factory.mktemp("label") / "w")
    image, truth = tissue(SHAPE)
    add_volume(space, "cortex", image)
    add_model(space, "monday", "cortex", guess(truth))
    add_pyramids(space, "monday", "cortex")
    return space


@pytest.fixture(scope="module")
def addresses(workspace):
    """Where a run is reviewed, and where its volume is labelled."""
    labels = open_labelling(LabelConfig(label="cortex", sections="1,2,3"), workspace)
    reviews = Review(workspace, "monday"), Review(workspace, labels.run, chosen=labels.patches)
    with (
        listen() as one,
        listen() as other,
        serve(make_app(reviews[0]), one, {TOKEN: "Ana"}.get),
        serve(make_app(reviews[1]), other, {TOKEN: "Ana"}.get),
    ):
        yield one.address, other.address


@pytest.fixture
def open_page(browser):
    with opening(browser) as open_at:
        yield lambda address, place="": open_at(address, TOKEN, place)


def cheapest(cost, start, end):
    """Return what the cheapest way between two pixels costs, by another program than that of the page."""
    height, width = cost.shape
    number = np.arange(cost.size).reshape(cost.shape)
    rows, columns, costs = [], [], []
    for dy, dx, far in ((0, 1, 5), (1, 0, 5), (1, 1, 7), (1, -1, 7)):
        here = np.s_[: height - dy, max(0, -dx) : width - max(0, dx)]
        there = np.s_[dy:, max(0, dx) : width + min(0, dx)]
        for one, other in ((here, there), (there, here)):
            rows.append(number[one].ravel())
            columns.append(number[other].ravel())
            costs.append(far * (6 + cost[other].ravel().astype(int)))
    graph = sparse.csr_array((np.concatenate(costs), (np.concatenate(rows), np.concatenate(columns))))
    return dijkstra(graph, indices=number[start])[number[end]]


def test_a_line_takes_the_cheapest_way_over_the_probability(open_page, addresses, workspace):
    page = open_page(addresses[0], "cortex/2/260.4/350.4/2")
    probability = np.asarray(Volume.open(workspace.result("monday", "cortex")).raw[2])
    start, end = (230, 300), (300, 420)
    way = page.evaluate(
        """async ([start, end]) => {
            const ridge = await import("/static/ridge.js");
            const [volume] = (await (await fetch("api/review")).json()).volumes;
            const around = await ridge.readWindow(volume.probability, volume, 2, start);
            return new ridge.Ways(around, ridge.costOf(around, true), start).to(end);
        }""",
        [start, end],
    )
    assert (tuple(way[0]), tuple(way[-1])) == (start, end)
    steps = np.abs(np.diff(way, axis=0))
    assert steps.max() == 1
    cost = 255 - probability.astype(int)
    paid = sum((7 if step.sum() == 2 else 5) * (6 + cost[y, x]) for step, (y, x) in zip(steps, way[1:], strict=True))
    # The window of the page reaches from -26 to 486 in rows and from 44 to 556 in columns.
    assert paid == cheapest(cost[:486, 44:556], (230, 300 - 44), (300, 420 - 44))
    # By two clicks it is one stroke, as wide as the membranes of the mask around are at the median, undone as one.
    read = reader_of(open_mask(workspace, "monday", "cortex"))
    whole = Place(volume="cortex", z=2, y=0, x=0, height=SHAPE[1], width=SHAPE[2])
    box = page.locator("#stage").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.keyboard.press("r")
    for y, x in (start, end):
        page.mouse.click(middle[0] + (x + 0.5 - 350.4) * 2, middle[1] + (y + 0.5 - 260.4) * 2)
        if (y, x) == start:
            page.wait_for_selector("#message:has-text('Enter or a double click ends the line')")
    page.wait_for_selector("[data-action=undo]:not([disabled])")
    page.keyboard.press("Enter")
    page.wait_for_selector("#message", state="hidden")
    settle(page)
    with open_log(workspace, "monday") as log:
        # An entry for each region that it crosses.
        assert {made.detail["tool"] for made in log.entries(("correction",))} == {"line"}
        drawn = log.mask(whole, read)
    wide = np.zeros(SHAPE[1:], bool)
    y, x = np.indices(SHAPE[1:])
    for row, column in way:
        wide |= (y - row) ** 2 + (x - column) ** 2 <= 1.5**2
    assert np.array_equal(drawn, read(whole) | wide), "3 px, as the lines of the truth are"
    page.keyboard.press("Control+z")
    settle(page)
    with open_log(workspace, "monday") as log:
        assert np.array_equal(log.mask(whole, read), read(whole))
    assert page.complaints == []


def test_patches_are_labelled_from_a_proposal_beside_their_neighbours(open_page, addresses, workspace):
    page = open_page(addresses[1])
    assert page.title() == "Label cortex"
    progress = page.locator("#progress")
    assert progress.inner_text() == "0 of 18 patches labelled; a model needs some in 3 sections, so far 0"
    assert page.locator("#strip figcaption").all_inner_texts() == ["Section 0", "Section 2"]
    page.wait_for_function(
        """() => {
            const canvas = document.getElementById("strip-above");
            const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            return [...data.keys()].some(i => i % 4 === 0 && data[i] > data[i + 2] + 40);
        }"""
    )
    page.keyboard.press("s")
    assert not page.locator("#strip").is_visible()
    first = page.locator("[aria-current] .where").inner_text()
    page.keyboard.press("w")
    settle(page)
    page.keyboard.press("1")
    settle(page)
    for key in "31":
        page.keyboard.press(key)
        settle(page)
    assert page.locator(".state").all_inner_texts() == ["labelled by Ana", "left out by Ana", "labelled by Ana"]
    assert progress.inner_text().startswith("2 of 18 patches labelled; ")
    run = "label-cortex"
    with open_log(workspace, run) as log:
        places = trusted_places(log, "cortex")
        assert [place.z for place in places] == [1, 3]
        assert first == f"Section 1 at x {places[0].x}, y {places[0].y}"
        assert not log.mask(places[0], reader_of(open_mask(workspace, run, "cortex"))).any()
    # The help names what there is here, and keys of what there is not do nothing.
    page.keyboard.press("h")
    keys = page.locator("#keys").inner_text()
    assert "Done: all membrane" in keys
    assert not any(word in keys for word in ("Fixed", "Unsure", "random", "Questions"))
    page.keyboard.press("h")
    page.keyboard.press("2")
    settle(page)
    assert progress.inner_text().startswith("2 of 18 patches labelled; ")
    page.locator("#region-list button", has_text="Section 2").nth(1).click()
    settle(page)
    page.get_by_role("button", name="Done").click()
    settle(page)
    assert progress.inner_text() == "3 of 18 patches labelled, in 3 sections"
    page.locator("#tab-history").click()
    page.wait_for_selector("#history-list .where:has-text('Ana labelled')")
    assert "Ana left out" in page.locator("#history-list .where").all_inner_texts()
    assert page.complaints == []
