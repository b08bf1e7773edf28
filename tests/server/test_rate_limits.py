"""Token buckets, in memory and in Redis, and what is told of them, on a clock of the test's own."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from hexgrid.config.settings import Secret
from hexgrid.engine.served_model import ServedModel
from hexgrid.errors import RateLimitedError, RequestError
from hexgrid.metrics import Metrics
from hexgrid.server.auth import Client
from hexgrid.server.key_store import KeyStore, Limits
from hexgrid.server.rate_limits import RateLimits
from hexgrid.server.shared_limits import SharedRateLimits
from tests.server.gated_runner import GatedRunner
from tests.server.redis_server import redis_server
from tests.server.running import embed, new_client, serving, variant


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[Secret]:
    with redis_server(tmp_path) as url:
        yield url


class Asked:
    """Limits, asked from one thread without a loop of its own."""

    def __init__(self, limits: RateLimits, runner: asyncio.Runner) -> None:
        self._limits = limits
        self._runner = runner

    def enter(self, client: Client) -> str:
        return self._runner.run(self._limits.enter(client))

    def leave(self, client: Client, lease: str) -> None:
        self._runner.run(self._limits.leave(client, lease))

    def take_tokens(self, client: Client, num_tokens: int) -> None:
        self._runner.run(self._limits.take_tokens(client, num_tokens))

    def give_back(self, client: Client, num_tokens: int) -> None:
        self._runner.run(self._limits.give_back(client, num_tokens))

    def headers(self, client: Client) -> dict[str, str]:
        return self._limits.headers(client)

    def close(self) -> None:
        self._runner.run(self._limits.close())


@pytest.fixture(params=["in memory", "shared"])
def limits(request: pytest.FixtureRequest, clock: Clock) -> Iterator[Asked]:
    with asyncio.Runner() as runner:
        if request.param == "in memory":
            limits = RateLimits(clock)
        else:
            url = request.getfixturevalue("redis_url")
            limits = SharedRateLimits(url, request_timeout=40, clock=clock)
        asked = Asked(limits, runner)
        yield asked
        asked.close()


def client(name: str = "one", **limits: Any) -> Client:
    return Client(name, Limits(**limits))


def test_a_minutes_requests_are_had_at_once_and_then_at_an_even_rate(
    limits: Asked, clock: Clock
) -> None:
    who = client(rpm=6)
    for _ in range(6):
        limits.enter(who)
    with pytest.raises(RateLimitedError, match="6 requests a minute, and has 0 left") as caught:
        limits.enter(who)
    assert caught.value.headers == {"retry-after": "10"}

    clock.now += 9.9
    with pytest.raises(RateLimitedError):
        limits.enter(who)
    clock.now += 0.2
    limits.enter(who)
    with pytest.raises(RateLimitedError):
        limits.enter(who)
    clock.now += 1_000
    for _ in range(6):  # no more than a minute's worth is saved up
        limits.enter(who)
    with pytest.raises(RateLimitedError):
        limits.enter(who)


def test_tokens_are_counted_and_can_be_given_back(limits: Asked, clock: Clock) -> None:
    who = client(tpm=600)
    limits.take_tokens(who, 590)
    with pytest.raises(
        RateLimitedError, match="600 tokens a minute, and has 10 left; 30"
    ) as caught:
        limits.take_tokens(who, 30)
    assert caught.value.retry_after == 2

    limits.give_back(who, 590)
    limits.take_tokens(who, 600)
    clock.now += 1
    with pytest.raises(RateLimitedError, match="has 10 left; 11"):
        limits.take_tokens(who, 11)
    told = limits.headers(who)
    assert told["x-ratelimit-limit-tokens"] == "600"
    assert told["x-ratelimit-remaining-tokens"] == "10"
    assert 58.9 < float(told["x-ratelimit-reset-tokens"].removesuffix("s")) <= 59
    assert len(told) == 3


def test_more_than_a_minutes_tokens_are_refused_for_good(limits: Asked) -> None:
    who = client(tpm=100)

    with pytest.raises(
        RequestError, match="has 101 tokens, and this key may use 100 a minute"
    ) as caught:
        limits.take_tokens(who, 101)
    assert caught.value.status == 400
    limits.take_tokens(who, 100)


def test_only_so_many_requests_run_at_a_time(limits: Asked) -> None:
    who = client(max_concurrency=2)
    limits.enter(who)
    lease = limits.enter(who)
    with pytest.raises(RateLimitedError, match="may have 2 requests at a time, and has 2"):
        limits.enter(who)

    limits.leave(who, lease)

    limits.enter(who)


def test_names_have_limits_of_their_own(limits: Asked) -> None:
    limits.enter(client("one", rpm=1))
    limits.enter(client("other", rpm=1))
    with pytest.raises(RateLimitedError):
        limits.enter(client("one", rpm=1))


def test_who_has_no_limits_is_told_of_none(limits: Asked) -> None:
    for who in (Client(), client()):
        for _ in range(1_000):
            lease = limits.enter(who)
            limits.take_tokens(who, 10**9)
        limits.leave(who, lease)
        assert limits.headers(who) == {}


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "keys.sqlite3")


@pytest.fixture
def server(tiny_model: ServedModel, store: KeyStore) -> Iterator[httpx2.Client]:
    """Of the models "m" and "n"; with a key that is not used."""
    metrics = Metrics()
    store.create("unused", Limits())
    models = [variant(tiny_model, metrics, name) for name in "mn"]
    with serving(models, metrics, key_store=store.file) as client:
        yield client


@contextmanager
def key_of(store: KeyStore, server: httpx2.Client, **limits: Any) -> Iterator[httpx2.Client]:
    """A client of the server with a new key that has these limits."""
    key = store.create("limited", Limits(**limits))
    with new_client(str(server.base_url)) as client:
        client.headers["authorization"] = f"Bearer {key}"
        while client.get("/v1/models").status_code == 401:  # until the server has seen it
            pass
        yield client


def test_a_server_counts_requests_and_tells_what_is_left(
    server: httpx2.Client, store: KeyStore
) -> None:
    with key_of(store, server, rpm=100, tpm=1_000) as client:
        response = embed(client, "Hello there")

        assert response.status_code == 200
        used = response.json()["usage"]["prompt_tokens"]
        assert int(response.headers["x-ratelimit-remaining-tokens"]) <= 1_000 - used + 1
        assert int(response.headers["x-ratelimit-remaining-tokens"]) >= 1_000 - used
        assert response.headers["x-ratelimit-limit-requests"] == "100"
        assert int(response.headers["x-ratelimit-remaining-requests"]) < 100
        too_many = embed(client, [[1] * 400] * 3)
        assert too_many.status_code == 400
        assert embed(client, [[1] * 450] * 2).status_code == 200
        refused = embed(client, [[1] * 450] * 2)
        assert refused.status_code == 429
        assert refused.json()["error"]["type"] == "RateLimitError"
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert "x-ratelimit-reset-tokens" in refused.headers


def test_a_server_refuses_requests_past_the_limit(server: httpx2.Client, store: KeyStore) -> None:
    with key_of(store, server, rpm=30) as client:
        statuses = [client.get("/v1/models").status_code for _ in range(31)]

    assert set(statuses) == {200, 429}
    assert statuses == sorted(statuses)


def test_a_key_for_one_model_opens_no_other(server: httpx2.Client, store: KeyStore) -> None:
    with key_of(store, server, models=frozenset({"n"})) as client:
        assert [card["id"] for card in client.get("/v1/models").json()["data"]] == ["n"]
        assert embed(client, "Hello", model="n").status_code == 200
        for path, body in (
            ("/v1/embeddings", {"input": "Hello", "model": "m"}),
            ("/v1/embeddings", {"input": "Hello"}),  # the first one
            ("/tokenize", {"prompt": "Hello", "model": "m"}),
            ("/detokenize", {"tokens": [1], "model": "m"}),
        ):
            response = client.post(path, json=body)
            assert response.status_code == 403
            assert response.json()["error"]["type"] == "PermissionDeniedError"
        unknown = client.post("/v1/embeddings", json={"input": "Hello", "model": "x"})
        assert unknown.status_code == 404
        assert "Served here: n." in unknown.json()["error"]["message"]


def test_a_key_that_is_expired_or_revoked_is_told_so_to_its_holder_alone(
    server: httpx2.Client, store: KeyStore
) -> None:
    with key_of(store, server) as client:
        store.revoke("limited")
        while (response := client.get("/v1/models")).status_code == 200:
            pass  # until the server has seen it
        assert response.status_code == 401
        assert "This API key is revoked" in response.json()["error"]["message"]
        key = str(client.headers["authorization"])
        guess = client.get("/v1/models", headers={"authorization": key[:-1]})
        assert guess.status_code == 401
        assert "revoked" not in guess.text


def test_keys_of_the_settings_work_beside_the_store(
    tiny_model: ServedModel, store: KeyStore
) -> None:
    metrics = Metrics()
    key = store.create("stored", Limits())
    models = [variant(tiny_model, metrics, "m")]
    own = (Secret("from the settings"),)
    with serving(models, metrics, api_key=own, key_store=store.file) as client:
        for sent, status in (("from the settings", 200), (key, 200), ("other", 401)):
            headers = {"authorization": f"Bearer {sent}"}
            assert client.get("/v1/models", headers=headers).status_code == status
        assert client.get("/v1/models").status_code == 401
        assert client.get("/ready").status_code == 200


def test_tokens_that_the_server_could_not_take_are_not_counted(
    tiny_model: ServedModel, store: KeyStore, runner: GatedRunner, callers: ThreadPoolExecutor
) -> None:
    metrics = Metrics()
    store.create("unused", Limits())
    model = variant(
        tiny_model, metrics, "m", runner=runner, max_num_seqs=1, max_num_queued_tokens=10
    )
    with (
        serving([model], metrics, key_store=store.file) as server,
        key_of(store, server, tpm=100) as client,
    ):
        first = callers.submit(embed, client, [[1], [2] * 5])
        runner.wait_until_started(1)

        refused = embed(client, [3] * 50)

        assert refused.status_code == 429
        assert "tokens wait already" in refused.json()["error"]["message"]
        left = int(refused.headers["x-ratelimit-remaining-tokens"])
        assert 94 <= left <= 100  # what the first one took fills again as time goes by
        runner.gate.set()
        assert first.result().status_code == 200
