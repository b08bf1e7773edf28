"""Several servers whose limits are counted in one Redis."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from redis import Redis

from hexgrid.config.settings import Secret
from hexgrid.engine.served_model import ServedModel
from hexgrid.errors import ConfigError, RateLimitedError
from hexgrid.metrics import Metrics
from hexgrid.server.auth import Client
from hexgrid.server.key_store import KeyStore, Limits
from hexgrid.server.shared_limits import SharedRateLimits
from tests.server.redis_server import redis_server
from tests.server.running import embed, error, serving, variant


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secret]:
    with redis_server(tmp_path_factory.mktemp("redis")) as url:
        yield url


@contextmanager
def servers(
    model: ServedModel, directory: Path, url: Secret, number: int, **limits: Any
) -> Iterator[list[httpx2.Client]]:
    """Clients, one a server, that send one key with these limits."""
    store = KeyStore(directory / "keys.sqlite3")
    key = store.create(directory.name, Limits(**limits))
    with ExitStack() as stack:
        clients = []
        for _ in range(number):
            metrics = Metrics()
            served = [variant(model, metrics, "m")]
            settings: dict[str, Any] = {"key_store": store.file, "rate_limit_store": url}
            client = stack.enter_context(serving(served, metrics, **settings))
            client.headers["authorization"] = f"Bearer {key}"
            clients.append(client)
        yield clients


def test_two_servers_let_through_what_the_key_may_and_not_one_more(
    tiny_model: ServedModel, tmp_path: Path, redis_url: Secret
) -> None:
    with (
        servers(tiny_model, tmp_path, redis_url, 2, rpm=1) as (one, other),
        ThreadPoolExecutor(8) as callers,
    ):
        # One a minute: however long this takes, at most one more is had for each minute of it.
        asked = [
            callers.submit(embed, client, "Hello") for _ in range(10) for client in (one, other)
        ]
        statuses = sorted(each.result().status_code for each in asked)

    assert statuses == [200] + [429] * 19


def test_two_servers_count_tokens_as_one(
    tiny_model: ServedModel, tmp_path: Path, redis_url: Secret
) -> None:
    with servers(tiny_model, tmp_path, redis_url, 2, tpm=100) as (one, other):
        assert embed(one, [[1] * 60]).status_code == 200
        refused = embed(other, [[1] * 90])
        assert refused.status_code == 429
        assert "may use 100 tokens a minute" in error(refused)["message"]
        assert int(refused.headers["x-ratelimit-remaining-tokens"]) < 90


def test_a_request_that_is_over_runs_no_more_wherever_the_next_one_comes(
    tiny_model: ServedModel, tmp_path: Path, redis_url: Secret
) -> None:
    with servers(tiny_model, tmp_path, redis_url, 2, max_concurrency=1) as clients:
        statuses = [embed(client, "Hello").status_code for _ in range(5) for client in clients]

    assert statuses == [200] * 10


def test_requests_of_a_server_that_died_end_after_their_time(redis_url: Secret) -> None:
    class Clock:
        now = 1_000.0

        def __call__(self) -> float:
            return self.now

    async def run() -> None:
        clock, who = Clock(), Client("died", Limits(max_concurrency=1))
        limits = SharedRateLimits(redis_url, request_timeout=40, clock=clock)
        await limits.enter(who)
        clock.now += 99
        with pytest.raises(RateLimitedError):
            await limits.enter(who)
        clock.now += 2
        await limits.enter(who)
        await limits.close()

    asyncio.run(run())


def test_without_the_store_who_has_limits_is_refused_and_others_are_served(
    tiny_model: ServedModel, tmp_path: Path
) -> None:
    with ExitStack() as stack, redis_server(tmp_path) as url:
        clients = servers(tiny_model, tmp_path, url, 1, rpm=1_000)
        (client,) = stack.enter_context(clients)
        free = KeyStore(tmp_path / "keys.sqlite3").create("free", Limits())
        assert embed(client, "Hello").status_code == 200
        with Redis.from_url(url.value) as redis:
            redis.shutdown(nosave=True)

        refused = embed(client, "Hello")

        assert refused.status_code == 503
        assert "limits cannot be counted" in error(refused)["message"]
        client.headers["authorization"] = f"Bearer {free}"
        while (answer := embed(client, "Hello")).status_code == 401:
            pass  # until the server has seen the key
        assert answer.status_code == 200


@pytest.mark.parametrize("url", ["localhost:6379", "http://localhost"])
def test_what_is_no_address_of_a_store_is_told_at_once(url: str) -> None:
    with pytest.raises(ConfigError, match="must be as redis://host:6379/0"):
        SharedRateLimits(Secret(url), request_timeout=1)
