"""Chromium as the tests drive it: what pages say and ask for is watched, and axe-core looks at them."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, Locator, Page, Playwright, expect

_FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --font-render-hinting=none"
)
_NAMES = ("chromium", "chromium-browser", "google-chrome")
# Chromium's own line about each answer that is no 2xx; what a page makes of it is what is tested.
_REFUSED = "Failed to load resource"
MOST_STOPS = 60
WAIT_MS = 30_000

expect.set_options(timeout=WAIT_MS)


def launch(playwright: Playwright) -> Browser:
    """The system's Chromium, that of $CHROMIUM, or what `playwright install chromium` brought."""
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    return playwright.chromium.launch(executable_path=path, args=_FLAGS.split())


class Watched:
    """A page, and all that it said and asked for since it was opened."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url.rstrip("/")
        self.said: list[str] = []
        self.asked: list[str] = []
        page.set_default_timeout(WAIT_MS)
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))

    def check(self, *, refusals: bool = False) -> None:
        """Nothing went wrong that no test wanted, and nothing left the origin."""
        said = [text for text in self.said if not (refusals and text.startswith(_REFUSED))]
        assert said == []
        origins = {
            urlsplit(url)._replace(path="", query="", fragment="").geturl() for url in self.asked
        }
        origin = urlsplit(self.url)._replace(path="").geturl()
        assert origins - {"blob://"} == {origin}

    def open(self, path: str = "/") -> Page:
        self.page.goto(self.url + path)
        return self.page

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page."""
        return self.page.evaluate(expression)

    def violations(self) -> list[str]:
        """What axe-core finds wrong, each with the elements at fault."""
        self.evaluate(AXE_SCRIPT)
        found = self.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
        return [
            f"{each['id']}: {each['help']}: {[node['target'] for node in each['nodes']]}"
            for each in found
        ]

    def focused(self) -> str:
        """What has the focus, and how it shows."""
        found: str = self.evaluate("document.activeElement.outerHTML.slice(0, 120)")
        return found

    def tab_to(self, target: Locator, key: str = "Tab") -> None:
        """Press Tab until `target` has the focus, which must be seen at every stop."""
        for _ in range(MOST_STOPS):
            self.page.keyboard.press(key)
            assert self.has_visible_focus(), self.focused()
            if target.evaluate("node => node === document.activeElement"):
                return
        raise AssertionError(f"the keyboard does not come to {target}")

    def has_visible_focus(self) -> bool:
        # Between the last stop and the first the browser itself has the focus; the body stands for it.
        seen: bool = self.evaluate(
            """(() => {
                const node = document.activeElement;
                const { outlineStyle, outlineWidth } = getComputedStyle(node);
                return node === document.body || (outlineStyle !== "none" && parseFloat(outlineWidth) >= 2);
            })()"""
        )
        return seen


@contextmanager
def watched(browser: Browser, url: str, **options: Any) -> Iterator[Watched]:
    """A page in a context of its own: no other one's storage, and whoever's certificate."""
    options = {"viewport": {"width": 1280, "height": 860}} | options
    with browser.new_context(**options) as context:
        yield Watched(context.new_page(), url)
