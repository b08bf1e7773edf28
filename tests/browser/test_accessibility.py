"""axe-core finds nothing, in light and dark and on a narrow screen, and nothing needs more than is there."""

import re
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.browsing import Watched, watched

pytestmark = pytest.mark.browser

LOOKS = [
    {"color_scheme": "light"},
    {"color_scheme": "dark"},
    {"color_scheme": "light", "viewport": {"width": 320, "height": 640}},
    {"color_scheme": "dark", "viewport": {"width": 320, "height": 640}},
]
each_look = pytest.mark.parametrize(
    "look", LOOKS, ids=["light", "dark", "light at 320 px", "dark at 320 px"]
)


def rank(console: Watched) -> None:
    """A ranking with everything in it: moves, cuts, figures."""
    page = console.page
    page.get_by_role("button", name="Rank", exact=True).click()
    expect(page.locator("#summary")).to_contain_text("12 documents ranked")
    page.get_by_label("Dimensions", exact=True).fill("16")
    page.get_by_label("Cut each text after").fill("10")
    expect(page.locator("#summary")).to_contain_text("documents cut")
    expect(page.locator(".figure").first).to_be_visible()


def does_not_scroll_sideways(console: Watched) -> bool:
    fits: bool = console.evaluate(
        "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )
    return fits


@each_look
def test_the_console_has_no_violations(
    browser: Browser, nano_url: str, look: dict[str, Any]
) -> None:
    with watched(browser, nano_url, **look) as console:
        page = console.open()
        assert console.violations() == []
        rank(console)
        assert console.violations() == []
        assert does_not_scroll_sideways(console)
        for tab in ("Tokens", "Code"):
            page.get_by_role("tab", name=tab).click()
            expect(page.locator(".tokens .special, pre").filter(visible=True)).to_have_count(1)
            assert console.violations() == []
            assert does_not_scroll_sideways(console)
        page.get_by_role("button", name="Enter key").click()
        assert console.violations() == []
        assert does_not_scroll_sideways(console)
        console.check()


@each_look
def test_the_reference_has_no_violations(
    browser: Browser, nano_url: str, look: dict[str, Any]
) -> None:
    with watched(browser, nano_url, **look) as console:
        page = console.open("/docs")
        expect(page.get_by_role("heading", name="POST /v1/embeddings")).to_be_visible()

        assert console.violations() == []
        assert does_not_scroll_sideways(console)
        console.check()


def test_the_check_can_fail(console: Watched) -> None:
    console.evaluate("document.querySelector('label[for=query]').remove()")

    assert any(each.startswith("label:") for each in console.violations())


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_rows_glide_only_for_who_wants_motion(browser: Browser, nano_url: str, motion: str) -> None:
    with watched(browser, nano_url, reduced_motion=motion) as console:
        page = console.open()
        page.get_by_role("button", name="Rank", exact=True).click()
        expect(page.locator("#summary")).to_contain_text("12 documents ranked")
        console.evaluate(
            """window.moved = 0;
            const animate = Element.prototype.animate;
            Element.prototype.animate = function (...rest) {
                window.moved++;
                return animate.apply(this, rest);
            };
            0"""
        )

        page.get_by_label("Dimensions", exact=True).fill("4")
        expect(page.locator("#summary")).to_contain_text("4 dimensions")

        assert (console.evaluate("window.moved") > 0) == (motion == "no-preference")


def test_every_stop_of_the_keyboard_can_be_seen(console: Watched) -> None:
    rank(console)
    page = console.page
    page.get_by_role("link", name="API reference").focus()
    last = page.get_by_label("Cut each text after")

    console.tab_to(last)
    console.tab_to(last, "Shift+Tab")


def test_news_are_told_to_who_cannot_see_them(console: Watched) -> None:
    page = console.page

    expect(page.locator("#summary")).to_have_role("status")
    expect(page.locator("#failure")).to_have_attribute("role", "alert")
    rank(console)
    best = page.locator("#ranking button").first
    expect(best).to_have_accessible_name(_begins_like_a_row())


def _begins_like_a_row() -> "re.Pattern[str]":
    return re.compile(r"^Rank 1\b.*similarity 0\.\d{4}", re.DOTALL)
