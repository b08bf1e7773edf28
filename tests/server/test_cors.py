"""Pages in a browser: which may ask, what they may read, and that asking whether they may costs nothing."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from hexgrid.config import ServerConfig
from hexgrid.config.settings import Secret
from hexgrid.engine.served_model import ServedModel
from hexgrid.errors import ConfigError
from hexgrid.metrics import Metrics
from hexgrid.server.cors import EXPOSED_HEADERS, cors_origins
from hexgrid.server.key_store import KeyStore, Limits
from tests.server.gated_runner import GatedRunner
from tests.server.running import KEY, error, metric, serving, serving_one, variant

PAGE = "https://app.example"
OTHER = "https://other.example:8443"
STRANGER = "https://stranger.example"
HEADERS = {"authorization": f"Bearer {KEY}", "origin": PAGE}
ALLOWED = "access-control-allow-origin"


@pytest.fixture(scope="module")
def client(tiny_model: ServedModel) -> Iterator[httpx2.Client]:
    """A server with a key, for the pages of two sites."""
    with serving_one(
        tiny_model,
        cors_origin=(PAGE, OTHER),
        api_key=(Secret(KEY),),
        max_body_bytes=1000,
    ) as client:
        yield client


def ask(
    client: httpx2.Client, inputs: object, headers: dict[str, str], **fields: object
) -> httpx2.Response:
    """What a page gets of its request."""
    return client.post("/v1/embeddings", json={"input": inputs} | fields, headers=headers)


def preflight(
    client: httpx2.Client, origin: str, method: str = "POST", headers: str = "authorization"
) -> httpx2.Response:
    """What a browser asks before it sends a page's request."""
    return client.options(
        "/v1/embeddings",
        headers={
            "origin": origin,
            "access-control-request-method": method,
            "access-control-request-headers": headers,
        },
    )


@pytest.mark.parametrize("origin", [PAGE, OTHER])
def test_a_page_may_ask_and_read(client: httpx2.Client, origin: str) -> None:
    answer = ask(client, "a", HEADERS | {"origin": origin})

    assert answer.status_code == 200
    assert answer.headers[ALLOWED] == origin
    assert "Origin" in answer.headers["vary"]


def test_no_cookie_ever_counts(client: httpx2.Client) -> None:
    assert "access-control-allow-credentials" not in ask(client, "a", HEADERS).headers


def test_a_preflight_needs_no_key(client: httpx2.Client) -> None:
    answer = preflight(client, PAGE, headers="authorization, content-type, x-stainless-lang")

    assert answer.status_code == 200
    assert answer.headers[ALLOWED] == PAGE
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "x-stainless-lang" in answer.headers["access-control-allow-headers"]


@pytest.mark.parametrize(
    ("origin", "method"), [(STRANGER, "POST"), (PAGE, "DELETE"), (f"{PAGE}.evil", "POST")]
)
def test_a_preflight_for_anything_else_is_refused(
    client: httpx2.Client, origin: str, method: str
) -> None:
    assert preflight(client, origin, method).status_code == 400


@pytest.mark.parametrize(
    "headers", [{}, {"origin": PAGE}, {"access-control-request-method": "POST"}], ids=str
)
def test_an_options_request_that_is_no_preflight_needs_the_key(
    client: httpx2.Client, headers: dict[str, str]
) -> None:
    assert client.options("/v1/embeddings", headers=headers).status_code == 401


def test_strangers_cannot_read_answers(client: httpx2.Client) -> None:
    assert ALLOWED not in ask(client, "a", HEADERS | {"origin": STRANGER}).headers


@pytest.mark.parametrize(
    ("method", "path", "body", "key", "code"),
    [
        ("POST", "/v1/embeddings", b"{}", "wrong", 401),
        ("POST", "/v1/embeddings", b"no json", KEY, 400),
        ("POST", "/v1/embeddings", b"x" * 1001, KEY, 413),
        ("GET", "/nope", b"", KEY, 404),
        ("GET", "/v1/embeddings", b"", KEY, 405),
    ],
)
def test_pages_can_read_errors(
    client: httpx2.Client, method: str, path: str, body: bytes, key: str, code: int
) -> None:
    headers = {"origin": PAGE, "authorization": f"Bearer {key}", "content-type": "application/json"}
    answer = client.request(method, path, content=body, headers=headers)

    assert error(answer)["code"] == code
    assert answer.headers[ALLOWED] == PAGE


def test_pages_can_read_that_it_took_too_long(tiny_model: ServedModel, runner: GatedRunner) -> None:
    metrics = Metrics()
    model = variant(tiny_model, metrics, "tiny", runner=runner)
    with serving([model], metrics, cors_origin=(PAGE,), request_timeout=0.001) as client:
        answer = ask(client, [[1]], {"origin": PAGE})
        runner.gate.set()

    assert error(answer)["code"] == 504
    assert answer.headers[ALLOWED] == PAGE


class Unlucky:
    """An Engine with a bug."""

    hidden_size = 64

    def submit(self, *_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    def check_health(self) -> None: ...

    def close(self) -> None: ...


def test_pages_can_read_of_our_own_bugs(tiny_model: ServedModel) -> None:
    metrics = Metrics()
    model = replace(variant(tiny_model, metrics, "tiny"), engine=Unlucky())  # type: ignore[arg-type]
    with serving([model], metrics, cors_origin=(PAGE,)) as client:
        answer = ask(client, [[1]], {"origin": PAGE})

    assert error(answer)["code"] == 500
    assert answer.headers[ALLOWED] == PAGE


def test_limits_are_readable_and_preflights_do_not_count(
    tiny_model: ServedModel, tmp_path: Path
) -> None:
    file = tmp_path / "keys"
    key = KeyStore(file).create("page", Limits(rpm=1))
    with serving_one(tiny_model, cors_origin=(PAGE,), key_store=file) as client:
        headers = {"authorization": f"Bearer {key}", "origin": PAGE}
        for _ in range(3):
            assert preflight(client, PAGE).status_code == 200
        first, second = (ask(client, "a", headers) for _ in range(2))

    assert (first.status_code, second.status_code) == (200, 429)
    assert second.headers[ALLOWED] == PAGE
    exposed = set(second.headers["access-control-expose-headers"].split(", "))
    own = {name for name in second.headers if name.startswith(("x-", "retry"))}
    assert len(own) >= 4
    assert own <= exposed


def test_what_the_answers_say_in_headers_is_exposed(client: httpx2.Client) -> None:
    fields = {"truncate_prompt_tokens": 1, "encoding_format": "bytes"}
    answer = ask(client, "a long text", HEADERS, **fields)

    assert {"metadata", "x-hexgrid-truncated"} <= set(answer.headers)
    assert answer.headers["access-control-expose-headers"].split(", ") == list(EXPOSED_HEADERS)


def test_by_default_no_header_speaks_of_it(tiny_model: ServedModel) -> None:
    with serving_one(tiny_model, api_key=(Secret(KEY),)) as client:
        answers = [ask(client, "a", HEADERS), preflight(client, PAGE)]

    assert [answer.status_code for answer in answers] == [200, 401]
    assert not any(
        name.startswith("access-control") for answer in answers for name in answer.headers
    )


def test_any_page_may_ask_where_the_operator_says_so(tiny_model: ServedModel) -> None:
    with serving_one(tiny_model, cors_origin=("*",)) as client:
        assert preflight(client, STRANGER).status_code == 200
        assert ask(client, "a", {"origin": STRANGER}).headers[ALLOWED] == "*"
        assert metric(client, "http_requests_total", path="/v1/embeddings") == 1


@pytest.mark.parametrize(
    "origin",
    [
        "app.example",
        f"{PAGE}/",
        f"{PAGE}/page",
        "HTTPS://app.example",
        f"{PAGE}:",
        "null",
        "",
        "*.a",
    ],
)
def test_what_no_browser_sends_as_an_origin_is_refused(origin: str) -> None:
    with pytest.raises(ConfigError, match="--cors-origin must be scheme://host"):
        cors_origins(ServerConfig(cors_origin=(origin,)))


@pytest.mark.parametrize("origin", ["*", PAGE, OTHER, "http://[::1]:3000", "tauri://localhost"])
def test_origins_pass(origin: str) -> None:
    assert cors_origins(ServerConfig(cors_origin=(origin,))) == (origin,)
