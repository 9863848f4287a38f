"""A place of a review in three dimensions: Neuroglancer draws what the run holds, and asks nobody else."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
from PIL import Image

from segem.review.app import make_app
from segem.review.session import Review
from segem.serving import listen, serve
from tests.browser import conftest
from tests.fabricate import add_model, add_pyramids, add_volume, guess, new_workspace, tissue

pytestmark = [pytest.mark.browser, pytest.mark.slow]

# It draws by WebGL, which Chromium computes itself where there is no graphics card.
SWITCHES = [
    *(one for one in conftest.SWITCHES if one != "--disable-gpu"),
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]
TOKEN = "ana-" * 8


def test_the_place_is_shown_with_its_mask_at_the_same_pixel(browser, tmp_path):
    space = new_workspace(tmp_path / "w")
    image, truth = tissue((4, 300, 400))
    add_volume(space, "cortex", image)
    add_model(space, "monday", "cortex", guess(truth))
    add_pyramids(space, "monday", "cortex")
    with listen() as listener, serve(make_app(Review(space, "monday"), three_d=True), listener, {TOKEN: "Ana"}.get):
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        asked, complaints = set(), []
        context.on("request", lambda request: asked.add(request.url))
        page = context.new_page()
        page.goto(f"{listener.address}/?token={TOKEN}#cortex/2/140.5/200.5/2")
        page.wait_for_selector("body[data-ready]")
        page.wait_for_selector("#mask[data-drawn=all]")
        with context.expect_page() as opening:
            page.keyboard.press("Shift+V")
        viewer = opening.value
        viewer.on("pageerror", lambda error: complaints.append(str(error)))
        expected = guess(truth)[2] >= 128
        rows, columns = np.mgrid[-50:50, -100:100]
        until, agreed = time.monotonic() + 60, 0.0
        # It is drawn from coarse to fine.
        while agreed < 0.95 and time.monotonic() < until:
            viewer.wait_for_timeout(500)
            shown = np.asarray(Image.open(io.BytesIO(viewer.screenshot()))).astype(int)
            middle = _find_middle(shown)
            if middle is not None:
                # Each voxel is two pixels wide; the lines of the axes hide some.
                drawn = shown[middle[0] + 2 * rows, middle[1] + 2 * columns]
                orange = drawn[..., 0] - drawn[..., 2] > 60
                agreed = (orange == expected[140 + rows, 200 + columns]).mean()
        assert viewer.evaluate("viewer.position.value.join()") == "200,140,2"
        assert agreed >= 0.95
        assert all(url.startswith((listener.address, "data:", "blob:")) for url in asked)
        assert complaints == []
        context.close()


def _find_middle(shown: np.ndarray) -> tuple[int, int] | None:
    """Return where the axes cross: a red line to the right and a green one downwards."""
    left = shown[60:420, :636]
    red = (left[..., 0] > 200) & (left[..., 1] < 40) & (left[..., 2] < 40)
    y, x = np.argwhere(red).T
    if not y.size:
        return None
    row = int(np.bincount(y).argmax())
    return row + 60, int(x[y == row].min())
