"""Where the pages may be served from: under a proxy's prefix, over TLS, with several models."""

from contextlib import closing
from pathlib import Path

import pytest
import trustme
from playwright.sync_api import Browser, expect

from hexgrid.config import ServerConfig
from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics
from hexgrid.server.tls import Certificates
from tests.browser.browsing import watched
from tests.server.certificates import Files, client_context
from tests.server.running import metric, serving, serving_https, serving_one, variant

pytestmark = pytest.mark.browser

PREFIX = "/gw/v1"


@pytest.mark.parametrize("path", [PREFIX, f"{PREFIX}/", "/"])
def test_under_a_prefix_everything_works(
    browser: Browser, nano_model: ServedModel, path: str
) -> None:
    with (
        serving_one(nano_model, root_path=PREFIX) as client,
        watched(browser, str(client.base_url)) as console,
    ):
        page = console.open(path)
        expect(page.get_by_text("256 dimensions")).to_be_visible()
        page.get_by_role("button", name="Rank", exact=True).click()
        expect(page.locator("#summary")).to_contain_text("12 documents ranked")
        expect(page.locator(".figure").first).to_be_visible()
        page.get_by_role("tab", name="Code").click()
        expect(page.get_by_label("Code of these calls")).to_contain_text(
            f"{console.url}{PREFIX}/v1/embeddings"
        )
        page.get_by_role("link", name="API reference").click()
        expect(page.get_by_role("heading", name="POST /v1/embeddings")).to_be_visible()
        last = page.locator("nav.contents a").last
        last.click()
        assert page.url == f"{console.url}{PREFIX}/docs#{last.inner_text()}"
        console.check()
        asked = [url for url in console.asked[1:] if not url.startswith(console.url + PREFIX)]
        assert asked == []


def test_over_tls_everything_works_and_the_code_says_https(
    browser: Browser, nano_model: ServedModel, tmp_path: Path
) -> None:
    authority = trustme.CA()
    files = Files(tmp_path / "server")
    files.write(authority)
    metrics = Metrics()
    model = variant(nano_model, metrics, "m")
    certificates = Certificates(ServerConfig(ssl_certfile=files.cert, ssl_keyfile=files.key))
    context = client_context(authority)
    with (
        closing(certificates),
        serving_https(model, metrics, certificates, context) as client,
        watched(browser, str(client.base_url), ignore_https_errors=True) as console,
    ):
        page = console.open()
        assert console.url.startswith("https://")
        page.get_by_role("button", name="Rank", exact=True).click()
        expect(page.locator("#summary")).to_contain_text("12 documents ranked")
        page.get_by_role("tab", name="Code").click()
        expect(page.get_by_label("Code of these calls")).to_contain_text(
            f"curl -s {console.url}/v1/embeddings"
        )
        console.check()


def test_what_the_browser_has_is_not_sent_again(browser: Browser, nano_model: ServedModel) -> None:
    with serving_one(nano_model) as client, watched(browser, str(client.base_url)) as console:

        def count(status: str) -> float:
            return metric(client, "http_requests_total", path="/console", status=status)

        page = console.open()
        expect(page.get_by_text("256 dimensions")).to_be_visible()
        sent = count("200")
        page.reload()
        expect(page.get_by_text("256 dimensions")).to_be_visible()

        assert count("200") == sent
        assert count("304") >= sent - 1  # the icon perhaps is not asked for again


def test_several_models_can_be_chosen_by_any_of_their_names(
    browser: Browser, nano_model: ServedModel, tiny_model: ServedModel
) -> None:
    metrics = Metrics()
    models = [variant(nano_model, metrics, "nano", "alias"), variant(tiny_model, metrics, "tiny")]
    with serving(models, metrics) as client, watched(browser, str(client.base_url)) as console:
        page = console.open()
        page.get_by_role("button", name="Rank", exact=True).click()
        expect(page.locator("#summary")).to_contain_text("256 dimensions")

        page.get_by_label("Model", exact=True).select_option("tiny")
        expect(page.locator("#summary")).to_contain_text("64 dimensions")
        expect(page.locator("#model-hint")).to_contain_text("64 dimensions")

        page.get_by_label("Model", exact=True).select_option("alias")
        expect(page.locator("#summary")).to_contain_text("256 dimensions")
        expect(page.locator("#figures")).to_contain_text("ready")
        console.check()
