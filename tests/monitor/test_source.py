"""Reading a server's /metrics over HTTP: where it is asked, what ends it, and what is waited out."""

from collections.abc import Iterator

import httpx2
import pytest

from hexgrid.config.settings import Secret
from hexgrid.engine.served_model import ServedModel
from hexgrid.errors import ConfigError, RemoteError, UnreachableError
from hexgrid.metrics import Metrics
from hexgrid.monitor.reading import Change, Reading
from hexgrid.monitor.source import changes, opened_source
from tests.monitor.standing_in import StandIn
from tests.server.running import KEY, serving, variant


@pytest.fixture
def server(tiny_model: ServedModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx2.Client]:
    """A real server, which wants a key."""
    monkeypatch.setenv("NO_PROXY", "*")
    metrics = Metrics()
    with serving([variant(tiny_model, metrics, "m")], metrics, api_key=(Secret(KEY),)) as client:
        yield client


@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/", "/metrics"])
def test_the_url_may_be_that_of_the_api(server: httpx2.Client, end: str) -> None:
    with opened_source(str(server.base_url).rstrip("/") + end, KEY) as source:
        reading = source.read()

    assert reading.values_of("model_name", "hexgrid_queue_tokens") == ["m"]


def test_a_path_before_the_api_is_kept(standing_in: StandIn) -> None:
    with opened_source(standing_in.url + "/proxied/v1", None) as source, pytest.raises(RemoteError):
        source.read()

    assert standing_in.asked == [("/proxied/metrics", None)]


@pytest.mark.parametrize("key", [None, "wrong"])
def test_a_key_that_is_wrong_says_how_to_give_another(
    server: httpx2.Client, key: str | None
) -> None:
    with (
        opened_source(str(server.base_url), key) as source,
        pytest.raises(
            RemoteError, match=r"wants a valid key: set HEXGRID_API_KEY or --api-key"
        ) as caught,
    ):
        source.read()

    assert not isinstance(caught.value, UnreachableError)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "localhost", "ftp://host", ""])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="is no URL"), opened_source(url, None):
        pass


def test_a_key_that_no_header_can_carry_is_refused_without_showing_it() -> None:
    with (
        pytest.raises(ConfigError, match="no header can carry") as caught,
        opened_source("http://127.0.0.1", "schlüssel-☃"),
    ):
        pass

    assert "☃" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "body"),
    [(404, ""), (200, "<html>hello</html>"), (200, "up 1\n"), (307, ""), (200, "")],
)
def test_a_server_that_is_no_hexgrid_is_told(standing_in: StandIn, status: int, body: str) -> None:
    standing_in.status, standing_in.body = status, body
    with (
        opened_source(standing_in.url, None) as source,
        pytest.raises(RemoteError, match=f"not that of a hexgrid server.*{status}") as caught,
    ):
        source.read()

    assert not isinstance(caught.value, UnreachableError)


def test_what_stands_in_for_a_server_that_was_there_may_pass(standing_in: StandIn) -> None:
    with opened_source(standing_in.url, None) as source:
        source.read()
        standing_in.status, standing_in.body = 404, "no backend"
        with pytest.raises(UnreachableError):
            source.read()
        standing_in.status, standing_in.body = 200, None
        source.read()


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_server_that_is_not_ready_may_be_later(standing_in: StandIn, status: int) -> None:
    standing_in.status = status
    with (
        opened_source(standing_in.url, None) as source,
        pytest.raises(UnreachableError, match=str(status)),
    ):
        source.read()


def test_a_server_that_is_gone_may_come_back(standing_in: StandIn) -> None:
    with opened_source(standing_in.url, None) as source:
        standing_in.go()
        with pytest.raises(UnreachableError, match="cannot be reached: ConnectError"):
            source.read()
        standing_in.come()
        source.read()


class EndError(Exception):
    """A script has come to its end."""


class Scripted:
    """Reads what a test lays out."""

    def __init__(self, *news: Reading | RemoteError) -> None:
        self.waits = 0
        self._news = list(news)

    def read(self) -> Reading:
        if not self._news:
            raise EndError
        news = self._news.pop(0)
        if isinstance(news, RemoteError):
            raise news
        return news

    def wait(self) -> None:
        self.waits += 1


FIRST, SECOND, THIRD = (Reading(at, {}) for at in (1.0, 3.0, 9.0))
GONE = UnreachableError("gone")


@pytest.mark.parametrize(
    ("news", "told"),
    [
        ((FIRST, SECOND, THIRD), [Change(FIRST, SECOND), Change(SECOND, THIRD)]),
        ((GONE, FIRST, SECOND), [GONE, Change(FIRST, SECOND)]),
        # What happened while it was gone is in the first change after.
        ((FIRST, GONE, GONE, THIRD), [GONE, GONE, Change(FIRST, THIRD)]),
        ((FIRST,), []),
    ],
)
def test_changes_are_between_one_reading_and_the_next(
    news: tuple[Reading | RemoteError, ...], told: list[Change | UnreachableError]
) -> None:
    script = Scripted(*news)
    news_of_changes = changes(script.read, script.wait)

    assert [next(news_of_changes) for _ in told] == told
    with pytest.raises(EndError):
        next(news_of_changes)
    assert script.waits == len(news)
