"""What a person is told when something fails, and how it goes on: against real servers that fail so."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from hexgrid.config import ServerConfig
from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics
from hexgrid.server.key_store import KeyStore, Limits
from hexgrid.tokenizer import Tokenizer
from tests.browser.browsing import Watched, watched
from tests.server.gated_runner import GatedRunner
from tests.server.running import (
    KEY,
    _serving,
    embed,
    serving,
    serving_one,
    variant,
    wait_for_metric,
)

pytestmark = pytest.mark.browser

SHORT_MODEL_LEN = 32


@pytest.fixture
def runner() -> Iterator[GatedRunner]:
    runner = GatedRunner()
    yield runner
    runner.gate.set()


@contextmanager
def opened(browser: Browser, url: object) -> Iterator[Watched]:
    with watched(browser, str(url)) as console:
        console.open()
        yield console


def rank(page: Page) -> None:
    expect(page.locator("#model option").first).to_be_attached()
    page.get_by_role("button", name="Rank", exact=True).click()


def use_key(page: Page, key: str) -> None:
    page.get_by_label("API key", exact=True).fill(key)
    page.get_by_role("button", name="Use key").click()


@pytest.mark.parametrize("key", ["wrong", "sn\N{SNOWMAN}wman"])
def test_a_wrong_key_is_refused_in_words_and_not_kept(
    browser: Browser, guarded_url: str, key: str
) -> None:
    with opened(browser, guarded_url) as console:
        page = console.page
        use_key(page, key)

        expect(page.get_by_text("That key was refused.")).to_be_visible()
        expect(page.get_by_label("API key", exact=True)).to_be_focused()
        assert console.evaluate("sessionStorage.length") == 0

        use_key(page, KEY)
        rank(page)
        expect(page.locator("#summary")).to_contain_text("12 documents ranked")
        console.check(refusals=True)


def test_a_key_lives_in_its_tab_alone(browser: Browser, guarded_url: str) -> None:
    with opened(browser, guarded_url) as console:
        use_key(console.page, KEY)
        expect(console.page.get_by_text("Key in use")).to_be_visible()

        console.page.reload()
        expect(console.page.get_by_text("256 dimensions")).to_be_visible()

        other = console.page.context.new_page()
        other.goto(guarded_url)
        expect(other.get_by_text("This server wants an API key.")).to_be_visible()
        assert console.evaluate("localStorage.length + document.cookie.length") == 0
        assert not any(KEY in url for url in console.asked)


def test_an_overload_says_when_to_come_again_and_then_it_works(
    browser: Browser, nano_model: ServedModel, runner: GatedRunner
) -> None:
    metrics = Metrics()
    model = variant(
        nano_model, metrics, "m", runner=runner, max_num_seqs=1, max_num_queued_tokens=5
    )
    with (
        serving([model], metrics) as client,
        opened(browser, client.base_url) as console,
        ThreadPoolExecutor(2) as callers,
    ):
        page = console.page
        running = callers.submit(embed, client, "one that runs")
        runner.wait_until_started(1)
        waiting = callers.submit(embed, client, "one that waits")
        wait_for_metric(client, "queue_sequences", 1)
        rank(page)

        alert = page.get_by_role("alert").filter(has_text="too much to do")
        expect(alert).to_contain_text("What you wrote stays here.")
        # The server's own words, with the limit and what was found.
        expect(alert).to_contain_text(re.compile(r"at most 5|limit of 5|5 may", re.IGNORECASE))
        expect(alert.get_by_role("button")).to_have_text(re.compile(r"Try again in \d+ s"))
        expect(alert.get_by_role("button")).to_be_disabled()
        assert console.violations() == []

        runner.gate.set()
        assert {running.result().status_code, waiting.result().status_code} == {200}
        page.get_by_role("button", name="Try again", exact=True).click()
        expect(page.locator("#summary")).to_contain_text("12 documents ranked")
        expect(alert).to_be_hidden()
        console.check(refusals=True)


def test_a_key_with_a_limit_is_told_of_it_and_the_figures_rest(
    browser: Browser, nano_model: ServedModel, tmp_path: Path
) -> None:
    file = tmp_path / "keys.sqlite3"
    key = KeyStore(file).create("team", Limits(rpm=6))
    with (
        serving_one(nano_model, key_store=file) as client,
        opened(browser, client.base_url) as console,
    ):
        page = console.page
        use_key(page, key)

        expect(page.get_by_text("this key may ask 6 times a minute")).to_be_visible()
        for _ in range(3):
            rank(page)
            expect(page.locator("#results")).to_have_attribute("aria-busy", "false")
        expect(page.get_by_role("alert")).to_contain_text("This key may use 6 requests a minute")
        console.check(refusals=True)


def test_a_server_that_went_away_is_looked_for_until_it_is_back(
    browser: Browser, nano_model: ServedModel
) -> None:
    with serving_one(nano_model) as client:
        url = str(client.base_url)
        page_of = opened(browser, url)
        console = page_of.__enter__()
        page = console.page
        rank(page)
        expect(page.locator("#summary")).to_contain_text("12 documents ranked")
    try:
        page.get_by_label("Query", exact=True).fill("Another question")
        rank(page)
        alert = page.locator("#failure")
        expect(alert).to_contain_text("The server does not answer")
        expect(alert).to_contain_text("looking for it")
        expect(page.locator("#summary")).to_contain_text("The ranking below is the one before")
        expect(page.locator("#figures")).to_contain_text("/metrics does not answer")
        assert console.violations() == []

        metrics = Metrics()
        again = variant(nano_model, metrics, "m")
        config = ServerConfig(port=urlsplit(url).port)
        with _serving([again], metrics, config, None, verify=True):
            expect(alert).to_contain_text("It is back.")
            page.get_by_role("button", name="Try again").click()
            expect(alert).to_be_hidden()
            expect(page.locator("#summary")).to_contain_text("12 documents ranked")
    finally:
        page_of.__exit__(None, None, None)


def test_too_long_an_input_is_named_and_can_be_cut(
    browser: Browser, nano_model: ServedModel, tiny_checkpoint: Path
) -> None:
    tokenizer = Tokenizer(
        tiny_checkpoint / "tokenizer.json",
        vocab_size=nano_model.tokenizer.vocab_size,
        max_model_len=SHORT_MODEL_LEN,
    )
    metrics = Metrics()
    model = variant(
        nano_model, metrics, "short", tokenizer=tokenizer, max_model_len=SHORT_MODEL_LEN
    )
    with serving([model], metrics) as client, opened(browser, client.base_url) as console:
        page = console.page
        page.get_by_label("Instruction before the query").select_option("none")
        page.get_by_label("Documents", exact=True).fill("short\n" + "a long one " * 20)
        rank(page)

        alert = page.get_by_role("alert").filter(has_text="too long for the model")
        expect(alert).to_contain_text("Document 2 is too long")
        expect(alert).to_contain_text("maximum context length is 32 tokens")
        assert console.violations() == []

        page.get_by_role("button", name="Cut after 32 tokens").click()
        expect(page.locator("#summary")).to_contain_text("1 document cut")
        expect(page.locator("#ranking li").filter(has_text="long one")).to_contain_text("cut")
        expect(alert).to_be_hidden()

        page.get_by_label("Dimensions", exact=True).fill("64")
        expect(page.locator("#summary")).to_contain_text("against full width, cut likewise")
        console.check(refusals=True)


def test_an_answer_that_takes_too_long_says_so(
    browser: Browser, nano_model: ServedModel, runner: GatedRunner
) -> None:
    metrics = Metrics()
    model = variant(nano_model, metrics, "m", runner=runner)
    with (
        serving([model], metrics, request_timeout=0.3) as client,
        opened(browser, client.base_url) as console,
    ):
        rank(console.page)

        alert = console.page.locator("#failure")
        expect(alert).to_contain_text("The answer took longer than the server allows")
        expect(alert).to_contain_text("Not answered within 0.3 seconds")
        expect(alert.get_by_role("button", name="Try again")).to_be_enabled()
        runner.gate.set()


def test_a_body_that_is_too_large_says_so(browser: Browser, nano_model: ServedModel) -> None:
    with (
        serving_one(nano_model, max_body_bytes=300) as client,
        opened(browser, client.base_url) as console,
    ):
        rank(console.page)

        expect(console.page.locator("#failure")).to_contain_text("The request is too large")
        expect(console.page.locator("#failure")).to_contain_text("300")


def test_a_value_that_the_server_refuses_is_told_in_its_words(console: Watched) -> None:
    page = console.page
    page.get_by_label("Dimensions", exact=True).fill("1000")
    rank(page)

    expect(page.locator("#failure")).to_contain_text("The request was refused")
    expect(page.locator("#failure")).to_contain_text("256")


def test_without_metrics_the_rest_works(browser: Browser, nano_url: str) -> None:
    """A proxy may keep /metrics for itself: the one thing here that a server of ours cannot be made to do."""

    def refuse(route: Route) -> None:
        route.fulfill(status=403, body="no")

    with watched(browser, nano_url) as console:
        console.page.route("**/metrics", refuse)
        page = console.open()

        expect(page.locator("#figures")).to_contain_text("/metrics is refused here (403)")
        rank(page)
        expect(page.locator("#summary")).to_contain_text("12 documents ranked")
        console.check(refusals=True)
