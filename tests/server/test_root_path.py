"""Under a prefix of a proxy: every path works with it and without, and no spelling gets round the key."""

from collections.abc import Iterator

import httpx2
import pytest

from hexgrid.config import ServerConfig
from hexgrid.config.settings import Secret
from hexgrid.engine.served_model import ServedModel
from hexgrid.errors import ConfigError
from hexgrid.metrics import Metrics
from hexgrid.server.app import create_app
from hexgrid.server.registry import Models
from hexgrid.server.root_path import root_path_of
from tests.server.running import KEY, connect, metric, serving_one, variant

PREFIX = "/gw/v1"
HEADERS = {"authorization": f"Bearer {KEY}"}
OPEN = ["/health", "/live", "/ready"]


@pytest.fixture(scope="module")
def client(tiny_model: ServedModel) -> Iterator[httpx2.Client]:
    """A server with a key and a prefix whose end is how our own paths begin; its client has no key."""
    with serving_one(
        tiny_model,
        root_path=PREFIX,
        api_key=(Secret(KEY),),
        public_metrics=True,
    ) as client:
        yield client


def status(client: httpx2.Client, target: str, **headers: str) -> int:
    """What the server says to a request line as it stands."""
    connection = connect(client)
    connection.request("GET", target, headers=headers)
    found = connection.getresponse().status
    connection.close()
    return found


@pytest.mark.parametrize("prefix", ["", PREFIX])
def test_paths_work_with_the_prefix_and_without(client: httpx2.Client, prefix: str) -> None:
    body = {"input": "a"}

    assert client.post(f"{prefix}/v1/embeddings", json=body, headers=HEADERS).status_code == 200
    assert client.get(f"{prefix}/v1/models", headers=HEADERS).status_code == 200
    assert [client.get(prefix + path).status_code for path in OPEN] == [200] * 3


@pytest.mark.parametrize("prefix", ["", PREFIX])
def test_the_key_is_needed_with_the_prefix_and_without(client: httpx2.Client, prefix: str) -> None:
    for path in ("/v1/embeddings", "/v1/models", "/tokenize", "/version", "/openapi.json", "/ping"):
        assert client.get(prefix + path).status_code == 401


@pytest.mark.parametrize(
    "target",
    [
        f"{PREFIX}//",
        f"{PREFIX}//health",
        f"/{PREFIX}/health",
        f"{PREFIX}{PREFIX}/health",
        f"{PREFIX}{PREFIX}/v1/models",
        f"{PREFIX}health",
        f"{PREFIX}x/health",
        f"{PREFIX}/health/",
        f"{PREFIX}/health/../v1/models",
        f"{PREFIX}/health/..;/v1/models",
        f"{PREFIX}/./health",
        f"{PREFIX}/Health",
        f"{PREFIX}/%2Fhealth",
        f"{PREFIX}/v1/models?/health",
        f"{PREFIX}/v1/models%3F/health",
        f"/health{PREFIX}/v1/models",
        f"/health/{PREFIX}/v1/models",
        "/gw/health",
        "//health",
        "/v1/health",
    ],
)
def test_no_other_spelling_is_open(client: httpx2.Client, target: str) -> None:
    assert status(client, target) == 401


@pytest.mark.parametrize("target", ["/g%77/v1/health", "/gw%2Fv1%2Fhealth"])
def test_escapes_are_read_before_anybody_looks(client: httpx2.Client, target: str) -> None:
    assert status(client, target) == 200
    assert status(client, target.replace("health", "version")) == 401


@pytest.mark.parametrize(
    "target", [f"{PREFIX}{PREFIX}/version", f"{PREFIX}//version", f"{PREFIX}//"]
)
def test_with_the_key_other_spellings_lead_nowhere(client: httpx2.Client, target: str) -> None:
    assert status(client, target, **HEADERS) == 404


def test_metrics_know_our_own_paths_only(client: httpx2.Client) -> None:
    def count(path: str) -> float:
        return metric(client, "http_requests_total", path=path)

    version, other = count("/version"), count("other")
    client.get(f"{PREFIX}/version")
    client.get("/version")
    client.get(f"{PREFIX}{PREFIX}/version")

    assert (count("/version"), count("other")) == (version + 2, other + 1)


def test_the_description_names_the_prefix_as_its_server(client: httpx2.Client) -> None:
    document = client.get("/openapi.json", headers=HEADERS).json()

    assert document["servers"] == [{"url": PREFIX}]
    assert "/v1/embeddings" in document["paths"]


@pytest.mark.parametrize("prefix", ["", PREFIX])
def test_a_redirect_keeps_the_prefix_and_names_no_host(client: httpx2.Client, prefix: str) -> None:
    answer = client.get(f"{prefix}/version/?a=b", headers=HEADERS)

    assert answer.status_code == 307
    assert answer.headers["location"] == f"{PREFIX}/version?a=b"


@pytest.mark.parametrize(
    "prefix",
    ["gw", "/", "/gw/", "//gw", "/gw//x", "/g w", "/../gw", "/.", "/gw?x", "/g%77", "/gw\n"],
)
def test_what_is_no_prefix_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigError, match="--root-path must be a path such as /embeddings"):
        root_path_of(ServerConfig(root_path=prefix))


@pytest.mark.parametrize("prefix", ["/v1", "/v1/embeddings", "/health", "/docs", "/console"])
def test_a_prefix_with_which_our_own_paths_begin_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigError, match=f"--root-path {prefix} is how {prefix}.* begins"):
        root_path_of(ServerConfig(root_path=prefix))


@pytest.mark.parametrize("prefix", [None, "", "/gw", "/v11", "/api/v1", "/a.b/c-d_e~f"])
def test_other_prefixes_pass(prefix: str | None) -> None:
    assert root_path_of(ServerConfig(root_path=prefix)) == (prefix or "")


def test_no_path_is_redirected_to_one_with_a_slash_at_its_end(tiny_model: ServedModel) -> None:
    """RootPathMiddleware mends redirects of paths with such a slash only: there are no others."""
    metrics = Metrics()
    app = create_app(Models([variant(tiny_model, metrics, "m")]), ServerConfig(), metrics)

    assert {route.path for route in app.router.routes if route.path.endswith("/")} <= {"/"}  # type: ignore[attr-defined]
