"""What the tests of the review's page share: opening it as somebody, and waiting until it has come to rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page


@contextmanager
def opening(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Yield a function that opens a review; what a page complains of is noted on it, as `complaints`."""
    with ExitStack() as stack:

        def open_at(
            address: str,
            token: str,
            place: str = "",
            *,
            size: tuple[int, int] = (1280, 800),
            scale: float = 1,
            context: BrowserContext | None = None,
        ) -> Page:
            if context is None:
                opened = browser.new_context(
                    viewport={"width": size[0], "height": size[1]}, device_scale_factor=scale, accept_downloads=False
                )
                context = stack.enter_context(opened)
            page = context.new_page()
            complaints: list[str] = []
            page.complaints = complaints  # type: ignore[attr-defined]
            page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.goto(f"{address}/?token={token}")
            page.wait_for_selector("body[data-ready]")
            if place:
                page.evaluate("place => { location.hash = place; }", place)
            settle(page)
            return page

        yield open_at


def settle(page: Page) -> None:
    """Wait until all is saved, and the mask is drawn where it will stay."""
    page.wait_for_selector("#saved.saved")
    page.wait_for_selector("#mask[data-drawn=all]")
    page.wait_for_timeout(250)
