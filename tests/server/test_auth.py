"""API keys: what needs one, what opens with which, and where a key must never be seen."""

import logging
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from starlette.routing import Route

from hexgrid.config import ServerConfig
from hexgrid.config.settings import Secret
from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics
from hexgrid.server.app import create_app
from hexgrid.server.auth import LIVENESS_PATHS
from hexgrid.server.console import PATHS
from hexgrid.server.registry import Models
from tests.server.running import KEY, connect, error, serving, variant

SECOND_KEY = "schlüssel=2"
FILE_KEYS = ["file-key-1", "file key 2"]
GUARDED = [
    ("POST", "/v1/embeddings"),
    ("POST", "/pooling"),
    ("POST", "/score"),
    ("POST", "/v1/score"),
    ("POST", "/rerank"),
    ("POST", "/v1/rerank"),
    ("POST", "/v2/rerank"),
    ("POST", "/v2/embed"),
    ("POST", "/embed"),
    ("POST", "/similarity"),
    ("POST", "/api/embed"),
    ("POST", "/api/embeddings"),
    ("POST", "/invocations"),
    ("GET", "/load"),
    ("GET", "/info"),
    ("GET", "/api/tags"),
    ("GET", "/api/version"),
    ("GET", "/v1/models"),
    ("POST", "/v1/files"),
    ("GET", "/v1/files"),
    ("GET", "/v1/files/{file_id}"),
    ("DELETE", "/v1/files/{file_id}"),
    ("GET", "/v1/files/{file_id}/content"),
    ("POST", "/v1/batches"),
    ("GET", "/v1/batches"),
    ("GET", "/v1/batches/{batch_id}"),
    ("POST", "/v1/batches/{batch_id}/cancel"),
    ("POST", "/tokenize"),
    ("POST", "/detokenize"),
    ("GET", "/ping"),
    ("POST", "/ping"),
    ("GET", "/version"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
]
LIVENESS = ["/health", "/live", "/ready"]
# Headers `Authorization` that are none of a valid key.
NOT_THE_KEY: list[str | None] = [
    None,
    "",
    "Bearer",
    "Bearer ",
    KEY,
    f"Basic {KEY}",
    f"Bearer  {KEY}",
    f"Bearer {KEY} ",
    f"Bearer\t{KEY}",
    f"Bearer {KEY.upper()}",
    f"Bearer {KEY[:-1]}",
    f"Bearer {KEY}x",
    f"Bearer {KEY}, Bearer {SECOND_KEY}",
    "Bearer # team a",
    "Bearer \N{ROCKET}",
]


@pytest.fixture(scope="module")
def guarded(
    tiny_model: ServedModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx2.Client]:
    """A server with two keys from settings and two from a file."""
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text("# team a\n" + "\n\n".join(FILE_KEYS) + "\n")
    metrics = Metrics()
    with serving(
        [variant(tiny_model, metrics, "tiny")],
        metrics,
        api_key=(Secret(KEY), Secret(SECOND_KEY)),
        api_key_file=file,
        log_level="debug",
    ) as client:
        yield client


def status(client: httpx2.Client, authorization: str | None, path: str = "/version") -> int:
    """What the server says to a header as it stands."""
    connection = connect(client)
    headers = {} if authorization is None else {"authorization": authorization.encode()}
    connection.request("GET", path, headers=headers)
    found = connection.getresponse().status
    connection.close()
    return found


def test_the_paths_below_are_all_there_are(tiny_model: ServedModel) -> None:
    app = create_app(Models([tiny_model]), ServerConfig(), Metrics())

    paths = {route.path for route in app.routes if isinstance(route, Route)}
    assert {path for _, path in GUARDED} | set(LIVENESS) | PATHS == paths
    assert set(LIVENESS) == LIVENESS_PATHS


@pytest.mark.parametrize(("method", "path"), GUARDED)
@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wrong"}], ids=["none", "wrong"])
def test_every_path_needs_a_key(
    guarded: httpx2.Client, method: str, path: str, headers: dict[str, str]
) -> None:
    response = guarded.request(method, path, headers=headers)

    detail = error(response)
    assert (detail["code"], detail["type"]) == (401, "AuthenticationError")
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_every_path_opens_with_the_key(guarded: httpx2.Client, method: str, path: str) -> None:
    response = guarded.request(method, path, headers={"authorization": f"Bearer {KEY}"})

    # What needs a --batch-dir is not there, and says so to who has the key.
    assert response.status_code in (200, 400) or "without --batch-dir" in response.text


@pytest.mark.parametrize("path", LIVENESS)
def test_probes_need_no_key(guarded: httpx2.Client, path: str) -> None:
    assert guarded.get(path).status_code == 200


@pytest.mark.parametrize(
    "path", ["/nope", "/v1/nope", "/health/", "/health/../v1/models", "/Health"]
)
def test_unknown_paths_tell_nothing_without_a_key(guarded: httpx2.Client, path: str) -> None:
    assert status(guarded, None, path) == 401


@pytest.mark.parametrize("method", ["OPTIONS", "HEAD", "DELETE"])
def test_other_methods_need_a_key_too(guarded: httpx2.Client, method: str) -> None:
    assert guarded.request(method, "/v1/embeddings").status_code == 401


@pytest.mark.parametrize("key", [KEY, SECOND_KEY, *FILE_KEYS])
def test_any_of_several_keys_opens(guarded: httpx2.Client, key: str) -> None:
    assert status(guarded, f"Bearer {key}") == 200


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_is_taken_in_any_case(guarded: httpx2.Client, scheme: str) -> None:
    assert status(guarded, f"{scheme} {KEY}") == 200


@pytest.mark.parametrize("authorization", NOT_THE_KEY)
def test_the_key_is_exact(guarded: httpx2.Client, authorization: str | None) -> None:
    assert status(guarded, authorization) == 401


@pytest.mark.parametrize("name", ["x-api-key", "api-key"])
def test_other_headers_do_not_carry_keys(guarded: httpx2.Client, name: str) -> None:
    assert guarded.get("/version", headers={name: KEY}).status_code == 401


def test_the_query_does_not_carry_keys(guarded: httpx2.Client) -> None:
    assert guarded.get("/version", params={"api_key": KEY}).status_code == 401


def test_metrics_are_open_where_the_operator_says_so(tiny_model: ServedModel) -> None:
    metrics = Metrics()
    model = variant(tiny_model, metrics, "tiny")
    with serving([model], metrics, api_key=(Secret(KEY),), public_metrics=True) as client:
        assert client.get("/metrics").status_code == 200
        assert client.get("/version").status_code == 401


def test_no_key_appears_in_answers_or_logs(
    guarded: httpx2.Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="uvicorn")
    good = {"authorization": f"Bearer {KEY}"}

    answers = [
        guarded.get("/version", headers={"authorization": f"Bearer {KEY}x"}),
        guarded.post("/v1/embeddings", headers=good, json={"input": 5}),
        guarded.post("/v1/embeddings", headers=good, json={"input": "a", "model": "nope"}),
        guarded.get("/nope", headers=good),
        guarded.get("/metrics", headers=good),
    ]

    assert [answer.status_code for answer in answers] == [401, 400, 404, 404, 200]
    assert not any(KEY in answer.text + str(answer.headers) for answer in answers)
    assert KEY not in caplog.text


def test_a_file_without_keys_is_no_way_in(tmp_path: Path, tiny_model: ServedModel) -> None:
    (tmp_path / "keys").write_text("# nothing yet\n")
    config = ServerConfig(api_key_file=tmp_path / "keys")

    with pytest.raises(Exception, match="holds no key"):
        create_app(Models([tiny_model]), config, Metrics())
