"""One Chromium for all tests, and the servers that its pages come from."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from hexgrid import nano
from hexgrid.config import EngineConfig
from hexgrid.config.settings import Secret
from hexgrid.engine.native import open_model
from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics
from tests.browser.browsing import Watched, launch, watched
from tests.server.running import KEY, serving, serving_one, variant


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = launch(playwright)
        yield found
        found.close()


@pytest.fixture(scope="session")
def nano_model() -> Iterator[ServedModel]:
    """The embedded model in float32: what it says of texts can be foreseen."""
    model = open_model(["hexgrid/nano"], nano.DIRECTORY, EngineConfig(dtype="float32"), Metrics())
    yield model
    model.engine.close()


@pytest.fixture(scope="session")
def nano_url(nano_model: ServedModel) -> Iterator[str]:
    """A server of it without a key, under its own name."""
    metrics = Metrics()
    model = variant(nano_model, metrics, "hexgrid/nano", result_cache_bytes=2**20)
    with serving([model], metrics) as client:
        yield str(client.base_url)


@pytest.fixture(scope="session")
def guarded_url(nano_model: ServedModel) -> Iterator[str]:
    """A server of it with a key."""
    with serving_one(nano_model, api_key=(Secret(KEY),)) as client:
        yield str(client.base_url)


@pytest.fixture
def console(browser: Browser, nano_url: str) -> Iterator[Watched]:
    """The console of the server without a key, opened."""
    with watched(browser, nano_url) as page:
        page.open()
        yield page
