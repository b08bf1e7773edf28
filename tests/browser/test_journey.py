"""The whole way through the console, by the keyboard alone, on a server with a key."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.browsing import Watched, watched
from tests.server.running import KEY

pytestmark = pytest.mark.browser

QUERY = "Who eats mice?"
DOCUMENTS = [
    "The cat catches mice at night.",
    "Owls hunt small rodents.",
    "The stock market closed higher on Friday.",
    "A mouse has two buttons and a wheel.",
]


@pytest.fixture
def guarded(browser: Browser, guarded_url: str) -> Iterator[Watched]:
    """The console of a server that wants a key, opened; it may write to the clipboard."""
    permissions = ["clipboard-read", "clipboard-write"]
    with watched(browser, guarded_url, permissions=permissions) as console:
        console.open()
        yield console


def rows(page: Page) -> list[str]:
    """The texts of the ranked documents, the best first."""
    return page.locator("#ranking .text").all_inner_texts()


def test_the_whole_journey_works_by_the_keyboard_alone(guarded: Watched) -> None:
    enter_the_key(guarded)
    rank_four_documents(guarded)
    write_an_instruction(guarded)
    cut_dimensions(guarded)
    cut_texts(guarded)
    look_at_tokens(guarded)
    copy_the_code(guarded)
    visit_the_reference(guarded)
    forget_the_key(guarded)

    guarded.check(refusals=True)
    assert not any(KEY in url for url in guarded.asked)


def enter_the_key(console: Watched) -> None:
    """The server wants one: the field for it has the focus, and Enter sends it."""
    page = console.page
    expect(page.get_by_label("API key", exact=True)).to_be_focused()
    expect(page.get_by_text("This server wants an API key.")).to_be_visible()
    page.keyboard.type(KEY)
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Forget key")).to_be_focused()
    expect(page.get_by_text("256 dimensions")).to_be_visible()
    expect(page.get_by_text("Key in use")).to_be_visible()


def rank_four_documents(console: Watched) -> None:
    page = console.page
    console.tab_to(page.get_by_label("Query", exact=True))
    page.keyboard.press("Control+A")
    page.keyboard.type(QUERY)
    console.tab_to(page.get_by_label("Documents", exact=True))
    page.keyboard.press("Control+A")
    page.keyboard.type("\n".join(DOCUMENTS))
    expect(page.get_by_text("4 documents", exact=True)).to_be_visible()
    page.keyboard.press("Control+Enter")
    expect(page.locator("#summary")).to_contain_text("4 documents ranked")
    expect(page.locator("#summary")).to_contain_text("256 dimensions")
    found = rows(page)
    assert set(found[:2]) == set(DOCUMENTS[:2])
    assert found[3] == DOCUMENTS[2]


def write_an_instruction(console: Watched) -> None:
    """It changes the query's vector, and with it the similarities."""
    page = console.page
    before = page.locator("#ranking .number").first.inner_text()
    console.tab_to(page.get_by_label("Instruction before the query"), "Shift+Tab")
    page.keyboard.press("ArrowDown")
    console.tab_to(page.get_by_label("Your instruction"))
    page.keyboard.press("Control+A")
    page.keyboard.type("Find pages about computers")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#ranking .number").first).not_to_have_text(before)
    expect(page.locator("#results")).to_have_attribute("aria-busy", "false")


def cut_dimensions(console: Watched) -> None:
    """By number and by preset; what moved is said."""
    page = console.page
    summary = page.locator("#summary")
    console.tab_to(page.get_by_label("Dimensions", exact=True))
    page.keyboard.type("4")
    expect(summary).to_contain_text("4 dimensions")
    expect(summary).to_contain_text("against full width, nothing cut: Kendall")
    expect(page.locator("#ranking .change.up, #ranking .change.down").first).to_be_visible()
    preset = page.get_by_role("button", name="64", exact=True)
    console.tab_to(preset)
    page.keyboard.press("Space")
    expect(summary).to_contain_text("64 dimensions")
    expect(preset).to_have_attribute("aria-pressed", "true")


def cut_texts(console: Watched) -> None:
    """The texts that are cut are marked, and no other."""
    page = console.page
    console.tab_to(page.get_by_label("Cut each text after"))
    page.keyboard.type("8")
    expect(page.locator("#summary")).to_contain_text("2 documents cut")
    assert {text.removeprefix("cut") for text in rows(page) if text.startswith("cut")} == {
        *DOCUMENTS[2:]
    }


def look_at_tokens(console: Watched) -> None:
    """Of the document that arrows choose in the ranking."""
    page = console.page
    console.tab_to(page.locator("#ranking [aria-current]"))
    page.keyboard.press("End")
    expect(page.locator("#ranking li").last.get_by_role("button")).to_be_focused()
    chosen = rows(page)[-1].removeprefix("cut")
    console.tab_to(page.get_by_role("tab", name="Map"))
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Tokens")).to_be_focused()
    expect(page.locator("#token-text option:checked")).to_contain_text(chosen.strip())
    expect(page.locator(".tokens .special")).to_contain_text("<|endoftext|>")
    console.tab_to(page.get_by_label("ids", exact=True))
    page.keyboard.press("Space")
    expect(page.locator(".tokens small").first).to_be_visible()


def copy_the_code(console: Watched) -> None:
    page = console.page
    console.tab_to(page.get_by_role("tab", name="Tokens"), "Shift+Tab")
    page.keyboard.press("End")
    console.tab_to(page.get_by_label("Language"))
    page.keyboard.press("ArrowDown")
    code = page.get_by_label("Code of these calls")
    expect(code).to_contain_text("from openai import OpenAI")
    expect(code).to_contain_text('"instruction": "Find pages about computers"')
    expect(code).not_to_contain_text(KEY)
    console.tab_to(page.get_by_role("button", name="Copy"))
    page.keyboard.press("Enter")
    expect(page.get_by_text("Copied")).to_be_visible()
    assert console.evaluate("navigator.clipboard.readText()") == code.text_content()


def visit_the_reference(console: Watched) -> None:
    """Once the figures are stopped; it has the same key, and so has the console after it."""
    page = console.page
    console.tab_to(page.get_by_role("button", name="Pause"), "Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Go on")).to_be_focused()
    console.tab_to(page.get_by_role("link", name="API reference"), "Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="POST /v1/embeddings")).to_be_visible()
    page.keyboard.press("Alt+ArrowLeft")
    expect(page.get_by_text("Key in use")).to_be_visible()


def forget_the_key(console: Watched) -> None:
    page = console.page
    console.tab_to(page.get_by_role("button", name="Forget key"))
    page.keyboard.press("Enter")
    expect(page.get_by_label("API key", exact=True)).to_be_focused()
    assert console.evaluate("sessionStorage.length") == 0


def test_the_first_stop_skips_to_the_results(console: Watched) -> None:
    page = console.page

    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the results")).to_be_focused()
    page.keyboard.press("Enter")

    expect(page.locator("#results")).to_be_focused()


def test_what_is_missing_is_said_beside_its_field(console: Watched) -> None:
    page = console.page
    page.get_by_label("Query", exact=True).fill(" ")
    page.get_by_label("Documents", exact=True).fill("")
    page.get_by_role("button", name="Rank", exact=True).click()

    query = page.get_by_label("Query", exact=True)
    expect(query).to_be_focused()
    expect(query).to_have_attribute("aria-invalid", "true")
    expect(query).to_have_accessible_description(re.compile("Write a query"))
    expect(page.get_by_text("Write at least one document.")).to_be_visible()
    console.check()


def test_documents_can_be_parted_by_blank_lines(console: Watched) -> None:
    page = console.page
    page.get_by_label("Documents", exact=True).fill("one\nstill one\n\n \ntwo\n\n")
    expect(page.get_by_text("3 documents", exact=True)).to_be_visible()

    page.get_by_label("blank lines").check()
    page.get_by_role("button", name="Rank", exact=True).click()

    expect(page.locator("#summary")).to_contain_text("2 documents ranked")
    assert sorted(rows(page)) == ["one\nstill one", "two"]
    console.check()


def test_a_click_on_the_map_chooses_the_document(console: Watched) -> None:
    page = console.page
    page.get_by_role("button", name="Rank", exact=True).click()
    expect(page.locator(".map .point")).to_have_count(12)

    page.locator(".map .point", has=page.locator("text", has_text=re.compile("^12$"))).click()

    expect(page.locator("#ranking li").last.locator("[aria-current]")).to_be_visible()
    console.check()


def test_text_is_never_taken_for_markup(console: Watched) -> None:
    page = console.page
    markup = '<img src=x onerror="document.title=1"><script>document.title=2</script>'
    page.get_by_label("Query", exact=True).fill(markup)
    page.get_by_label("Documents", exact=True).fill(markup)
    page.get_by_role("button", name="Rank", exact=True).click()

    expect(page.locator("#ranking .text")).to_have_text(markup)
    page.get_by_role("tab", name="Tokens").click()
    expect(page.locator(".tokens .special")).to_be_visible()
    assert page.title() == "hexgrid console"
    console.check()
