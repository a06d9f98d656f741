"""Opens a file in a headless Chromium, and keeps what it says on the console and asks the network for."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
"""The distribution's browser; Playwright's own is not downloaded."""


@dataclass
class Opened:
    """A page, what it wrote to the console (errors too), and the addresses that it asked for."""

    page: Page
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def draw_all(self) -> None:
        """Draws all charts, as before printing, and waits for them."""
        self.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        self.page.wait_for_selector("main:not(:has([data-chart]:not([data-drawn])))")


@contextmanager
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=BROWSER)
        yield started
        started.close()


@contextmanager
def opened(browser: Browser, file: Path, width: int = 1200, height: int = 900, **options: Any) -> Iterator[Opened]:
    """A page in a context of its own, once all that is in view is drawn; without JavaScript, once it is loaded."""
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    found = Opened(context.new_page())
    found.page.on("console", lambda message: found.messages.append(message.text))
    found.page.on("pageerror", lambda error: found.messages.append(str(error)))
    found.page.on("request", lambda request: found.requests.append(request.url))
    found.page.goto(file.as_uri())
    if options.get("java_script_enabled", True):
        found.page.wait_for_selector("html[data-rendered]")
    yield found
    context.close()
