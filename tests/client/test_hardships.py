"""Calls of many requests when something goes wrong: limits, refusals, failures, servers that come and go."""

import asyncio
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from hexgrid import AsyncClient, Client
from hexgrid.encoding import Vectors
from hexgrid.engine.sequence import Salt
from hexgrid.engine.served_model import ServedModel
from hexgrid.errors import (
    BodyTooLargeError,
    DeadlineError,
    EngineError,
    RateLimitedError,
    RequestError,
    TooManyInputsError,
    UnauthorizedError,
)
from hexgrid.metrics import Metrics
from hexgrid.server.key_store import KeyStore, Limits
from hexgrid.wire import TokenIds
from tests.client.conftest import each_client
from tests.server.gated_runner import GatedRunner
from tests.server.running import DEADLINE, metric, serving, variant, wait_for_metric
from tests.server.test_errors import UNLUCKY_ID, UnluckyRunner

WIDTH = 64
NewClient = Callable[..., Any]


class EchoRunner:
    """See `protocols.Runner`. An input's hidden state is its ids, and zeros after them."""

    hidden_size = WIDTH
    runs_async = False

    def run(self, token_ids: Sequence[TokenIds], _: Sequence[Salt] = ()) -> Callable[[], Vectors]:
        return lambda: echo(token_ids)

    def steps(self, token_ids: TokenIds) -> Generator[None, None, Vectors]:
        yield
        return echo([token_ids])

    def run_float32(self, token_ids: Sequence[TokenIds]) -> Vectors:
        return echo(token_ids)


def echo(token_ids: Sequence[TokenIds]) -> Vectors:
    rows = np.zeros((len(token_ids), WIDTH), np.float32)
    for row, ids in zip(rows, token_ids, strict=True):
        row[: len(ids[:WIDTH])] = ids[:WIDTH]
    return rows


@contextmanager
def echoing(model: ServedModel, **settings: Any) -> Iterator[httpx2.Client]:
    """A bare client of a server of the model "m", whose raw vectors are the inputs' ids."""
    metrics = Metrics()
    with serving(
        [variant(model, metrics, "m", runner=EchoRunner())], metrics, **settings
    ) as client:
        yield client


def refused(server: httpx2.Client, reason: str) -> float:
    return metric(server, "rejections_total", reason=reason)


@each_client
def test_ten_thousand_texts_come_back_in_order(
    new_client: NewClient, tiny_model: ServedModel
) -> None:
    texts = [f"number {i}" for i in range(10_000)]
    with echoing(tiny_model) as server, new_client(str(server.base_url)) as client:
        found = client.embed_with_usage(texts, use_activation=False)
        requests = metric(server, "request_duration_seconds_count", model_name="m")

    encoded = tiny_model.tokenizer.encode(texts)
    assert np.array_equal(found.vectors, echo(encoded.token_ids))
    assert found.num_tokens == encoded.num_tokens
    assert requests > 4


@each_client
def test_a_server_that_takes_few_inputs_gets_few_from_then_on(
    new_client: NewClient, tiny_model: ServedModel
) -> None:
    ids = [[i] for i in range(1, 100)]
    with (
        echoing(tiny_model, max_num_inputs=7) as server,
        new_client(str(server.base_url), concurrency=1) as client,
    ):
        for _ in range(2):
            assert np.array_equal(client.embed(ids, use_activation=False), echo(ids))
        refusals = refused(server, "too_many_inputs")

    assert refusals == 1


@each_client
def test_a_server_that_takes_small_bodies_gets_small_ones(
    new_client: NewClient, tiny_model: ServedModel
) -> None:
    ids = [[i] * 20 for i in range(1, 100)]
    with (
        echoing(tiny_model, max_body_bytes=1000) as server,
        new_client(str(server.base_url)) as client,
    ):
        assert np.array_equal(client.embed(ids, use_activation=False), echo(ids))
        with pytest.raises(BodyTooLargeError, match="at most 1000") as caught:
            client.embed([[1], [1], [1] * 1000], use_activation=False)

    assert caught.value.status == 413


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "keys.sqlite3")


@contextmanager
def limited(store: KeyStore, model: ServedModel, **limits: Any) -> Iterator[tuple[Any, str]]:
    """A bare client, of the operator, of a server with a store, and a key of it that has these limits."""
    operator, key = store.create("operator", Limits()), store.create("limited", Limits(**limits))
    with echoing(model, key_store=store.file) as server:
        server.headers["authorization"] = f"Bearer {operator}"
        yield server, key


@each_client
def test_more_tokens_than_a_keys_minute_has_are_sent_as_they_come_free(
    new_client: NewClient, tiny_model: ServedModel, store: KeyStore
) -> None:
    ids = [[i] * 1000 for i in range(1, 62)]
    with limited(store, tiny_model, tpm=60_000) as (server, key):
        with new_client(str(server.base_url), api_key=key, max_batch_tokens=10**6) as client:
            found = client.embed(ids, use_activation=False)
        refusals = refused(server, "too_many_inputs"), refused(server, "rate_limited")

    assert np.array_equal(found, echo(ids))
    assert refusals[0] == 1
    assert refusals[1] >= 1


@each_client
def test_an_input_with_more_tokens_than_a_keys_minute_has_is_refused(
    new_client: NewClient, tiny_model: ServedModel, store: KeyStore
) -> None:
    with (
        limited(store, tiny_model, tpm=50) as (server, key),
        new_client(str(server.base_url), api_key=key) as client,
        pytest.raises(TooManyInputsError, match="may use 50 a minute") as caught,
    ):
        client.embed([[1], [1] * 51])

    assert caught.value.max_tokens == 50


@each_client
def test_a_limited_key_is_waited_for_as_long_as_the_server_says(
    new_client: NewClient, tiny_model: ServedModel, store: KeyStore
) -> None:
    ids = [[i] for i in range(1, 63)]
    with limited(store, tiny_model, rpm=60) as (server, key):
        with new_client(str(server.base_url), api_key=key, max_batch_inputs=1) as client:
            found = client.embed(ids, use_activation=False)
        refusals = refused(server, "rate_limited")
        with (
            new_client(
                str(server.base_url), api_key=key, max_retries=0, max_batch_inputs=1
            ) as client,
            pytest.raises(RateLimitedError, match="may use 60 requests a minute") as caught,
        ):
            client.embed(ids)

    assert np.array_equal(found, echo(ids))
    assert refusals >= 1
    assert caught.value.retry_after == 1


@each_client
def test_a_server_that_stops_midway_and_is_started_again_costs_nothing(
    new_client: NewClient, tiny_model: ServedModel
) -> None:
    ids = [[i] for i in range(1, 200)]
    begun, stopped = threading.Event(), threading.Event()

    def progress(_: int, __: int) -> None:
        begun.set()
        assert stopped.wait(DEADLINE)

    with ThreadPoolExecutor(1) as threads, ExitStack() as second:
        with echoing(tiny_model) as first:
            port = first.base_url.port
            client = second.enter_context(
                new_client(str(first.base_url), max_batch_inputs=5, max_retries=9)
            )
            asked = threads.submit(client.embed, ids, progress=progress, use_activation=False)
            assert begun.wait(DEADLINE)
        stopped.set()
        second.enter_context(echoing(tiny_model, port=port))
        found = asked.result(DEADLINE)

    assert np.array_equal(found, echo(ids))


@each_client
def test_an_input_that_fails_in_one_of_many_requests_is_named_by_its_place_in_the_call(
    new_client: NewClient, tiny_model: ServedModel
) -> None:
    ids = [[1000 + i] for i in range(200)]
    ids[123] = [UNLUCKY_ID]
    metrics = Metrics()
    model = variant(tiny_model, metrics, "m", runner=UnluckyRunner())
    with (
        serving([model], metrics) as server,
        new_client(str(server.base_url), max_batch_inputs=10) as client,
        pytest.raises(EngineError, match=r"for input 3, .*it is its input 123\)") as caught,
    ):
        client.embed(ids)

    assert (caught.value.index, caught.value.param) == (123, "input")


@each_client
def test_a_failure_ends_the_call_while_other_requests_still_wait(
    new_client: NewClient, tiny_model: ServedModel, runner: GatedRunner
) -> None:
    metrics = Metrics()
    model = variant(tiny_model, metrics, "m", runner=runner)
    waiting = [[i] for i in range(1, 4)]
    with (
        serving([model], metrics) as server,
        new_client(str(server.base_url), max_batch_inputs=1, concurrency=4) as client,
    ):
        with pytest.raises(RequestError, match="out of vocabulary") as caught:
            client.embed([*waiting, [10**6], *([[i] for i in range(5, 100)])])
        runner.gate.set()

    assert caught.value.index == 3
    assert all(ids[0] < 10 for ids in runner.started), "nothing more was asked for"


def test_a_cancelled_call_gives_up_its_requests(
    tiny_model: ServedModel, runner: GatedRunner
) -> None:
    metrics = Metrics()
    model = variant(tiny_model, metrics, "m", runner=runner)

    async def cancelled(server: httpx2.Client) -> None:
        async with AsyncClient(str(server.base_url), max_batch_inputs=1, concurrency=3) as client:
            call = asyncio.create_task(client.embed([[i] for i in range(1, 10)]))
            await asyncio.to_thread(
                wait_for_metric, server, "http_requests_in_flight", 4
            )  # and this one
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            wait_for_metric(server, "rejections_total", 3, reason="client_gone")

    with serving([model], metrics) as server:
        asyncio.run(cancelled(server))
        runner.gate.set()


@each_client
def test_a_server_that_stays_silent_is_given_up(
    new_client: NewClient, tiny_model: ServedModel, runner: GatedRunner
) -> None:
    metrics = Metrics()
    model = variant(tiny_model, metrics, "m", runner=runner)
    with (
        serving([model], metrics) as server,
        new_client(str(server.base_url), timeout=0.05, max_retries=1) as client,
    ):
        with pytest.raises(DeadlineError, match="did not answer in time"):
            client.embed([[1]])
        wait_for_metric(server, "rejections_total", 2, reason="client_gone")
        runner.gate.set()


@each_client
def test_a_wrong_key_is_told_and_not_shown(
    new_client: NewClient, tiny_model: ServedModel, store: KeyStore
) -> None:
    with limited(store, tiny_model) as (server, key):
        wrong = key[:-1]
        with (
            new_client(str(server.base_url), api_key=wrong) as client,
            pytest.raises(UnauthorizedError, match="wants another key") as caught,
        ):
            client.embed("a")

    assert wrong not in repr(client)
    assert wrong not in repr(caught.value)


def test_threads_may_share_a_client(tiny_model: ServedModel) -> None:
    calls = [[[i, j] for j in range(1, 40)] for i in range(1, 30)]
    with (
        echoing(tiny_model) as server,
        Client(str(server.base_url), max_batch_inputs=3, concurrency=3) as client,
        ThreadPoolExecutor(8) as threads,
    ):
        found = list(threads.map(lambda ids: client.embed(ids, use_activation=False), calls))

    for vectors, ids in zip(found, calls, strict=True):
        assert np.array_equal(vectors, echo(ids))


def test_calls_of_one_loop_may_share_a_client(tiny_model: ServedModel) -> None:
    calls = [[[i, j] for j in range(1, 40)] for i in range(1, 30)]

    async def all_at_once(url: str) -> list[Vectors]:
        async with AsyncClient(url, max_batch_inputs=3, concurrency=3) as client:
            return await asyncio.gather(*(client.embed(ids, use_activation=False) for ids in calls))

    with echoing(tiny_model) as server:
        found = asyncio.run(all_at_once(str(server.base_url)))

    for vectors, ids in zip(found, calls, strict=True):
        assert np.array_equal(vectors, echo(ids))
