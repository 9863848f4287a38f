"""One Chromium for all tests of a file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.machine import missing

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SWITCHES = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")  # not longer: playwright's event loop would make Prefect's calls asynchronous
def browser(request: pytest.FixtureRequest) -> Iterator[Browser]:
    """Return a running Chromium; each test opens a context of its own in it. A file may have `SWITCHES` of its own."""
    chromium = next(filter(None, map(shutil.which, NAMES)), None)
    if chromium is None:
        missing("no Chromium on this machine; as root: apt-get install --no-install-recommends chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright is not installed; make dev")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=chromium, headless=True, args=getattr(request.module, "SWITCHES", SWITCHES)
        )
        yield opened
        opened.close()
