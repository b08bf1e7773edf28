"""Each class of error that a client can meet, provoked."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2

from hexgrid import errors
from hexgrid.config.settings import Secret
from hexgrid.engine.engine import NativeEngine
from hexgrid.engine.protocols import Runner
from hexgrid.engine.served_model import ServedModel
from hexgrid.errors import HexgridError
from hexgrid.metrics import Metrics, ModelMetrics
from hexgrid.server.key_store import KeyStore, Limits
from tests.engine.bench import FORWARD_TIMEOUT, HandClock, let_pass
from tests.server.gated_runner import GatedRunner
from tests.server.raw_http import ask, response
from tests.server.running import KEY, embed, serving, variant, wait_until
from tests.server.test_body import BAD_BODIES
from tests.server.test_embedding_call import REFUSED
from tests.server.test_errors import UNLUCKY_ID, BrokenEngine, FailingRunner, UnluckyRunner
from tests.server.test_faults import ShakyRunner
from tests.upstream import misbehaving
from tests.upstream.fronting import open_upstreams


@dataclass
class Place:
    """What provoking an error takes."""

    model: ServedModel
    directory: Path

    @property
    def store(self) -> KeyStore:
        return KeyStore(self.directory / "keys.sqlite3")

    @contextmanager
    def server(self, runner: Runner | None = None, **settings: Any) -> Iterator[httpx2.Client]:
        """A client, with the operator's key, of a server that has a store of keys, too."""
        metrics = Metrics()
        model = variant(self.model, metrics, "m", runner=runner)
        with self.serving(model, metrics, **settings) as client:
            yield client

    @contextmanager
    def serving(
        self, model: ServedModel, metrics: Metrics, **settings: Any
    ) -> Iterator[httpx2.Client]:
        settings = {"api_key": (Secret(KEY),)} | settings
        with serving([model], metrics, key_store=self.store.file, **settings) as client:
            client.headers["authorization"] = f"Bearer {KEY}"
            yield client


Answers = list[httpx2.Response]


def bare(client: httpx2.Client, request: bytes) -> Answers:
    """The answer to bytes as they stand."""
    return [response(ask(client, request))]


def a_bug(place: Place) -> Answers:
    metrics = Metrics()
    model = replace(place.model, engine=BrokenEngine(), metrics=ModelMetrics(metrics, "m"))
    with place.serving(model, metrics) as client:
        return [embed(client, "a")]


def bad_values(place: Place) -> Answers:
    with place.server() as client:
        return [
            client.post("/v1/embeddings", json={"input": "a"} | fields)
            for fields, *_ in REFUSED
            if fields.get("model") is None
        ]


def bad_bodies(place: Place) -> Answers:
    headers = {"content-type": "application/json"}
    with place.server() as client:
        answers = [
            client.post(path, content=body, headers=headers)
            for body, *_ in BAD_BODIES
            for path in ("/v1/embeddings", "/tokenize", "/detokenize")
        ]
        return [*answers, *bare(client, b"no http\r\n\r\n")]


def too_many_inputs(place: Place) -> Answers:
    with place.server(max_num_inputs=1) as client:
        return [embed(client, ["a", "b"])]


def no_key(place: Place) -> Answers:
    keys = ["", "Bearer nope", "Bearer hg_aaaaaaaa_bbbb", f"Basic {KEY}", f"Bearer  {KEY}"]
    with place.server() as client:
        paths = ("/v1/models", "/metrics", "/openapi.json")
        return [client.get(path, headers={"authorization": key}) for path in paths for key in keys]


def another_model(place: Place) -> Answers:
    key = place.store.create("narrow", Limits(models=frozenset({"other"})))
    with place.server() as client:
        client.headers["authorization"] = f"Bearer {key}"
        return [embed(client, "a")]


def no_such_file(place: Place) -> Answers:
    paths = ("/v1/files/x", "/v1/files/..%2f..%2fetc/content", "/v1/batches/x")
    with place.server() as client:
        answers = [client.get(path) for path in paths]
    with place.server(batch_dir=place.directory / "batches") as client:
        return [*answers, *(client.get(path) for path in paths)]


def no_such_thing(place: Place) -> Answers:
    with place.server() as client:
        return [
            embed(client, "a", model="../../etc/x"),
            client.get("/nope"),
            client.delete("/v1/models"),
        ]


def slow(place: Place) -> Answers:
    with place.server(header_timeout=0.05) as client:
        return bare(client, b"GET /li")


def large(place: Place) -> Answers:
    with place.server(max_body_bytes=10) as client:
        return [embed(client, "a")]


def long_url(place: Place) -> Answers:
    with place.server() as client:
        return bare(client, b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n")


def long_headers(place: Place) -> Answers:
    with place.server() as client:
        return bare(client, b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 101 + b"\r\n")


def too_often(place: Place) -> Answers:
    key = place.store.create("poor", Limits(rpm=1))
    with place.server() as client:
        client.headers["authorization"] = f"Bearer {key}"
        return [embed(client, "a"), embed(client, "a")][1:]


def too_many(place: Place) -> Answers:
    runner = GatedRunner()
    with place.server(runner, max_concurrent_requests=1) as client:
        with ThreadPoolExecutor(1) as caller:
            first = caller.submit(embed, client, [1])
            runner.wait_until_started(1)
            answers = [embed(client, "a")]
            runner.gate.set()
            assert first.result().status_code == 200
        return answers


def a_failed_pass(place: Place) -> Answers:
    runner = FailingRunner(ValueError)
    runner.gate.set()
    with place.server(runner) as client:
        return [embed(client, [UNLUCKY_ID])]


def too_little_memory(place: Place) -> Answers:
    runner = FailingRunner(MemoryError)
    runner.gate.set()
    with place.server(runner) as client:
        return [embed(client, [UNLUCKY_ID])]


def an_unwell_engine(place: Place) -> Answers:
    runner = ShakyRunner()
    runner.gate.set()
    runner.is_broken = True
    with place.server(runner) as client:
        return [embed(client, [1]), client.get("/ready")]


def a_hung_engine(place: Place) -> Answers:
    metrics, runner, clock = Metrics(), GatedRunner(), HandClock()
    timeout = FORWARD_TIMEOUT
    model = variant(place.model, metrics, "m", runner=runner, clock=clock, forward_timeout=timeout)
    assert isinstance(model.engine, NativeEngine)
    with place.serving(model, metrics) as client, ThreadPoolExecutor(1) as caller:
        asked = caller.submit(embed, client, [1])
        runner.wait_until_started(1)
        let_pass(model.engine, clock, timeout)
        answers = [asked.result(), client.get("/ready"), client.get("/live")]
        runner.gate.set()
        return answers


def no_number(place: Place) -> Answers:
    with place.server(UnluckyRunner()) as client:
        return [embed(client, [UNLUCKY_ID])]


def a_dead_engine(place: Place) -> Answers:
    metrics = Metrics()
    model = variant(place.model, metrics, "m")
    assert isinstance(model.engine, NativeEngine)
    with place.serving(model, metrics) as client:
        model.engine.close()
        return [embed(client, "a"), client.get("/ready")]


def a_full_house(place: Place) -> Answers:
    with place.server(max_connections=1) as client:
        assert client.get("/live").status_code == 200
        return bare(client, b"")


def a_lost_store(place: Place) -> Answers:
    key = place.store.create("lost", Limits())
    with place.server() as client:
        for file in place.directory.glob("keys.sqlite3*"):
            file.unlink()
        headers = {"authorization": f"Bearer {key}"}

        def ask() -> httpx2.Response:
            return client.get("/v1/models", headers=headers)

        wait_until(lambda: ask().status_code == 503, "the store is missed")
        return [ask()]


def a_refusing_upstream(place: Place) -> Answers:
    metrics = Metrics()
    reply = b'{"error":{"message":"at /usr/lib/x.py: secret insides"}}'
    with misbehaving.running() as server:
        key = server.key = KEY
        model = open_upstreams(
            Path(place.model.root), [server.url], metrics, upstream_api_key=Secret(key)
        )
        server.behave = lambda *_: (500, reply, {})
        with place.serving(model, metrics) as client:
            return [embed(client, [1])]


def uncounted_limits(place: Place) -> Answers:
    key = place.store.create("limited", Limits(rpm=1))
    url = Secret("redis://:secret%20insides@127.0.0.1:1/0")
    with place.server(rate_limit_store=url) as client:
        client.headers["authorization"] = f"Bearer {key}"
        return [embed(client, "a")]


def too_late(place: Place) -> Answers:
    runner = GatedRunner()
    with place.server(runner, request_timeout=0.05) as client:
        answers = [embed(client, [1])]
        runner.gate.set()
        return answers


PROVOKED: dict[type[HexgridError], Callable[[Place], Answers]] = {
    errors.HexgridError: a_bug,
    errors.RequestError: bad_values,
    errors.SchemaError: bad_bodies,
    errors.TooManyInputsError: too_many_inputs,
    errors.UnauthorizedError: no_key,
    errors.ForbiddenError: another_model,
    errors.ModelNotFoundError: no_such_thing,
    errors.ResourceNotFoundError: no_such_file,
    errors.SlowRequestError: slow,
    errors.BodyTooLargeError: large,
    errors.UrlTooLongError: long_url,
    errors.HeadersTooLargeError: long_headers,
    errors.RateLimitedError: too_often,
    errors.OverloadedError: too_many,
    errors.EngineError: a_failed_pass,
    errors.NonFiniteError: no_number,
    errors.InputMemoryError: too_little_memory,
    errors.UpstreamError: a_refusing_upstream,
    errors.EngineUnwellError: an_unwell_engine,
    errors.EngineDeadError: a_hung_engine,
    errors.NotReadyError: an_unwell_engine,
    errors.EngineClosedError: a_dead_engine,
    errors.TooManyConnectionsError: a_full_house,
    errors.KeyStoreError: a_lost_store,
    errors.RateLimitStoreError: uncounted_limits,
    errors.DeadlineError: too_late,
}
