"""Every route of the application with every kind of key: a route that is added is asked, too."""

import hashlib
import hmac
from collections.abc import Iterator
from itertools import product
from typing import Any

import httpx2
import pytest
from starlette.routing import Route

from hexgrid.config import ServerConfig
from hexgrid.config.settings import Secret
from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics
from hexgrid.server.app import create_app
from hexgrid.server.auth import LIVENESS_PATHS, Keys
from hexgrid.server.console import PATHS
from hexgrid.server.forms.paths import FORMS
from hexgrid.server.key_store import KeyStore, Limits, StoredKey
from hexgrid.server.registry import Models
from tests.server.forms.bodies import BODIES
from tests.server.running import KEY, error, serving, variant

# A body that is right where one is taken that is not for vectors.
BODY = {"prompt": "a", "tokens": [1]}
# What needs no key: it holds nothing that is the server's own.
OPEN = LIVENESS_PATHS | PATHS
# Where a model answers; what has none tells of those that the key is for.
# Answered 404 by a server without --batch-dir, and where there is no such file or batch.
OF_BATCHES = ("/v1/files", "/v1/batches")
OF_A_MODEL = {*(path for path, _ in FORMS), "/invocations", "/tokenize", "/detokenize"}
REFUSED = ["none", "wrong", "expired", "revoked", "a stranger's"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> KeyStore:
    return KeyStore(tmp_path_factory.mktemp("store") / "keys.sqlite3")


@pytest.fixture(scope="module")
def keys(store: KeyStore) -> dict[str, str]:
    """A key of each kind."""
    made = {
        "valid": store.create("valid", Limits()),
        "expired": store.create("expired", Limits(), lifetime=-1),
        "revoked": store.create("revoked", Limits()),
        "of another model": store.create("other", Limits(models=frozenset({"other"}))),
    }
    store.revoke("revoked")
    wrong = made["valid"][:-1] + ("a" if made["valid"][-1] != "a" else "b")
    return made | {"none": "", "wrong": wrong, "a stranger's": "sk-" + "x" * 43}


@pytest.fixture(scope="module")
def client(
    tiny_model: ServedModel, store: KeyStore, keys: dict[str, str]
) -> Iterator[httpx2.Client]:
    """A client of a server of two models, which has a key of its own and the store's."""
    assert keys
    metrics = Metrics()
    models = [variant(tiny_model, metrics, "m"), variant(tiny_model, metrics, "other")]
    with serving(models, metrics, api_key=(Secret(KEY),), key_store=store.file) as client:
        yield client


@pytest.fixture(scope="module")
def routes(tiny_model: ServedModel) -> list[tuple[str, str]]:
    """Method and path of all that the application serves."""
    app = create_app(Models([tiny_model]), ServerConfig(), Metrics())
    found = [route for route in app.routes if isinstance(route, Route)]
    assert len(found) == len(app.routes)
    return [(method, route.path) for route in found for method in sorted(route.methods or ())]


def ask(client: httpx2.Client, method: str, path: str, key: str) -> httpx2.Response:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    body: Any = None
    if method == "POST":
        # /v1/score and its like take what /score takes.
        body = BODIES.get(path) or BODIES.get("/" + path.rpartition("/")[2]) or BODY
        body = body | {"model": "m"}
    return client.request(method, path, headers=headers, json=body)


def test_no_route_but_liveness_opens_without_a_valid_key(
    client: httpx2.Client, routes: list[tuple[str, str]], keys: dict[str, str]
) -> None:
    for (method, path), kind in product(routes, REFUSED):
        answer = ask(client, method, path, keys[kind])

        expected = 200 if path in OPEN else 401
        assert answer.status_code == expected, (method, path, kind)
        if expected == 401 and method != "HEAD":
            assert error(answer)["type"] == "AuthenticationError"


def test_every_route_opens_with_a_valid_key(
    client: httpx2.Client, routes: list[tuple[str, str]], keys: dict[str, str]
) -> None:
    for (method, path), key in product(routes, (keys["valid"], KEY)):
        expected = 404 if path.startswith(OF_BATCHES) else 200
        assert ask(client, method, path, key).status_code == expected, (method, path)


def test_a_key_of_another_model_opens_no_route_of_this_one(
    client: httpx2.Client, routes: list[tuple[str, str]], keys: dict[str, str]
) -> None:
    for method, path in routes:
        answer = ask(client, method, path, keys["of another model"])

        expected = 404 if path.startswith(OF_BATCHES) else 200
        assert answer.status_code == (403 if path in OF_A_MODEL else expected), (method, path)
    listed = ask(client, "GET", "/v1/models", keys["of another model"]).json()["data"]
    assert [card["id"] for card in listed] == ["other"]


def test_keys_are_compared_by_digests_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """`scripts/time_keys.py` measures it."""
    compared: list[tuple[Any, Any]] = []

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return False

    monkeypatch.setattr(hmac, "compare_digest", compare)
    operators = Keys([Secret("first"), Secret("second")])
    stored = StoredKey("n", "p", bytes(16), bytes(64), 0, None, None, Limits())
    with pytest.raises(Exception, match="valid API key"):
        operators.client(b"Bearer first")
    assert not stored.fits("hg_p_x")

    first, second, asked = (hashlib.sha256(k).digest() for k in (b"first", b"second", b"first"))
    assert compared[:2] == [(asked, first), (asked, second)]
    assert compared[2][0] == bytes(64)
    assert len(compared[2][1]) == 64
