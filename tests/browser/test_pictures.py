"""The docs' pictures, made of the pages as they are: kept by `make pictures`, else only tried."""

import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, expect

from tests.browser.browsing import Watched, watched

pytestmark = pytest.mark.browser

IMAGES = Path(__file__).parents[2] / "docs/images"
WIDE = {"width": 1440, "height": 900}
NARROW = {"width": 360, "height": 780}
MOST_BYTES = 120_000


def rank(console: Watched) -> None:
    """What the page comes with, at few dimensions, beside its full width."""
    page = console.page
    page.get_by_role("button", name="Rank", exact=True).click()
    expect(page.locator("#summary")).to_contain_text("12 documents ranked")
    page.get_by_role("button", name="64", exact=True).click()
    expect(page.locator("#summary")).to_contain_text("64 dimensions")


def look_at_tokens(console: Watched) -> None:
    page = console.page
    page.get_by_label("Which tokens are kept").select_option("left")
    page.get_by_label("Cut each text after").fill("12")
    expect(page.locator("#summary")).to_contain_text("documents cut")
    page.get_by_role("tab", name="Tokens").click()
    expect(page.locator(".tokens .out").first).to_be_visible()


def look_at_code(console: Watched) -> None:
    page = console.page
    page.get_by_role("tab", name="Code").click()
    page.get_by_label("Language").select_option("Python")


@pytest.mark.parametrize(
    ("name", "options", "steps"),
    [
        ("console.png", {"viewport": WIDE}, [rank]),
        ("console-dark.png", {"viewport": WIDE, "color_scheme": "dark"}, [rank, look_at_tokens]),
        ("console-code.png", {"viewport": WIDE}, [rank, look_at_code]),
        ("console-narrow.png", {"viewport": NARROW}, [rank]),
    ],
)
def test_the_console_can_be_pictured(
    browser: Browser,
    nano_url: str,
    name: str,
    options: dict[str, Any],
    steps: list[Any],
    tmp_path: Path,
) -> None:
    with watched(browser, nano_url, reduced_motion="reduce", **options) as console:
        console.open()
        for step in steps:
            step(console)
        expect(console.page.locator("#results")).to_have_attribute("aria-busy", "false")
        # Figures of the time since the page was opened, once it has looked again.
        expect(console.page.locator("#figures")).to_contain_text(" ms")
        expect(console.page.locator("#figures")).to_contain_text("In flight0")
        if options["viewport"] is NARROW:
            console.evaluate("document.querySelector('#summary').scrollIntoView()")
        picture(console, name, tmp_path)
        console.check()


def test_the_reference_can_be_pictured(browser: Browser, nano_url: str, tmp_path: Path) -> None:
    with watched(browser, nano_url, viewport=WIDE) as console:
        console.open("/docs")
        expect(console.page.get_by_role("heading", name="POST /v1/embeddings")).to_be_visible()
        picture(console, "reference.png", tmp_path)


def picture(console: Watched, name: str, directory: Path) -> None:
    """Write what is seen, in few colours: into the docs if $CONSOLE_PICTURES is set."""
    path = (IMAGES if os.environ.get("CONSOLE_PICTURES") else directory) / name
    console.evaluate("document.activeElement.blur()")
    console.page.screenshot(path=path, caret="hide", animations="disabled")
    with Image.open(path) as image:
        image.convert("RGB").quantize(
            256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
        ).save(path, optimize=True)
    with Image.open(path) as new, Image.open(IMAGES / name) as kept:
        assert new.size == kept.size
    assert path.stat().st_size < MOST_BYTES
