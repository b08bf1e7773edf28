"""Faults under load: every request that was accepted is answered, and the next good one is right."""

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from hexgrid.config.settings import Secret
from hexgrid.encoding import Vectors
from hexgrid.engine.engine import NativeEngine
from hexgrid.engine.sequence import Salt
from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics
from hexgrid.server import usage as usage_module
from hexgrid.server.key_store import KeyStore, Limits
from hexgrid.server.usage import read
from hexgrid.wire import TokenIds
from tests.engine.bench import FORWARD_TIMEOUT, HandClock, let_pass
from tests.server.gated_runner import GatedRunner
from tests.server.running import (
    KEY,
    connect,
    embed,
    error,
    metric,
    new_client,
    serving,
    variant,
    vectors,
    wait_for_metric,
    wait_until,
)

PROBES = ["/health", "/ready", "/ping", "/live"]


def native(model: ServedModel) -> NativeEngine:
    assert isinstance(model.engine, NativeEngine)
    return model.engine


def test_a_hung_pass_leaves_none_of_many_callers_waiting(
    tiny_model: ServedModel, runner: GatedRunner
) -> None:
    metrics, clock = Metrics(), HandClock()
    hung = variant(
        tiny_model,
        metrics,
        *("hung", "alias"),
        runner=runner,
        max_num_seqs=4,
        clock=clock,
        forward_timeout=FORWARD_TIMEOUT,
    )
    models = [hung, variant(tiny_model, metrics, "good")]
    with serving(models, metrics) as client, ThreadPoolExecutor(50) as callers:
        requests = [
            callers.submit(embed, client, [[n], [n, n]], model="alias") for n in range(1, 51)
        ]
        wait_for_metric(client, "http_requests_in_flight", 51)
        assert [client.get(path).status_code for path in PROBES] == [200] * 4

        let_pass(native(hung), clock, FORWARD_TIMEOUT)

        details = [error(request.result()) for request in requests]
        assert {(detail["code"], detail["type"]) for detail in details} == {
            (503, "ServiceUnavailableError")
        }
        assert error(embed(client, "one that comes later", model="hung"))["code"] == 503
        for path in PROBES:
            detail = error(client.get(path))
            assert detail["code"] == 503
            assert detail["message"].startswith("Model `hung` is not ready: The engine is stuck")
        vectors(embed(client, "unaffected", model="good"))
        wait_for_metric(client, "http_requests_in_flight", 1)


class ShakyRunner(GatedRunner):
    """Fails while it is told to."""

    is_broken = False

    def run(self, token_ids: Sequence[TokenIds], _: Sequence[Salt] = ()) -> Callable[[], Vectors]:
        if self.is_broken:
            raise ValueError
        return super().run(token_ids)


def test_a_model_that_cannot_run_anything_is_named_until_it_can(tiny_model: ServedModel) -> None:
    metrics, runner = Metrics(), ShakyRunner()
    runner.gate.set()
    models = [
        variant(tiny_model, metrics, "good"),
        variant(tiny_model, metrics, "shaky", runner=runner),
    ]
    with serving(models, metrics) as client:
        runner.is_broken = True
        answers = [embed(client, [[1], [2]], model="shaky") for _ in range(3)]
        assert [error(answer)["code"] for answer in answers] == [503] * 3
        detail = error(client.get("/ready"))
        assert detail["message"].startswith("Model `shaky` is not ready: No forward pass works")
        assert "good" not in detail["message"]
        assert client.get("/live").status_code == 200  # it may recover: no reason to kill it

        runner.is_broken = False
        wait_until(lambda: client.get("/ready").status_code == 200, "it is ready again")

        answer = embed(client, [[7], [8]], model="shaky", use_activation=False)
        assert vectors(answer)[:, 0].tolist() == [7, 8]


def test_two_models_that_are_not_ready_are_both_named(tiny_model: ServedModel) -> None:
    metrics = Metrics()
    runners = [ShakyRunner(), ShakyRunner()]
    models = [
        variant(tiny_model, metrics, name, runner=runner)
        for name, runner in zip("ab", runners, strict=True)
    ]
    with serving(models, metrics) as client:
        for name, runner in zip("ab", runners, strict=True):
            runner.is_broken = True
            assert embed(client, [[1]], model=name).status_code == 503

        message = error(client.get("/ready"))["message"]

    assert "Model `a` is not ready" in message
    assert "Model `b` is not ready" in message


def test_five_hundred_clients_that_leave_in_the_middle_leave_nothing_behind(
    tiny_model: ServedModel, runner: GatedRunner
) -> None:
    metrics = Metrics()
    model = variant(tiny_model, metrics, "m", runner=runner, max_num_seqs=1)
    with serving([model], metrics) as client:
        connections = []
        for number in range(1, 501):
            connection = connect(client)
            body = b'{"input":[[%d],[%d,1]]}' % (number, number)
            headers = {"content-type": "application/json"}
            connection.request("POST", "/v1/embeddings", body, headers)
            connections.append(connection)
        wait_for_metric(client, "http_requests_in_flight", 501)
        runner.wait_until_started(1)
        for connection in connections:
            connection.close()

        wait_for_metric(client, "http_requests_in_flight", 1)
        assert metric(client, "queue_sequences", model_name="m") == 0
        assert metric(client, "queue_tokens", model_name="m") == 0
        assert metric(client, "http_requests_total", path="/v1/embeddings", status="499") == 500
        runner.gate.set()
        answer = embed(client, [[1], [2]], use_activation=False)
        assert vectors(answer)[:, 0].tolist() == [1, 2]
        assert not native(model)._admission._open
        assert len(runner.started) <= 3  # one ran already


YEARS = 10 * 365 * 86_400


@pytest.mark.parametrize("jump", [-YEARS, YEARS])
def test_a_wall_clock_that_jumps_matters_to_no_request(
    tiny_model: ServedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: int
) -> None:
    metrics, runner = Metrics(), GatedRunner()
    model = variant(tiny_model, metrics, "m", runner=runner, forward_timeout=FORWARD_TIMEOUT)
    now = time.time
    with (
        serving([model], metrics, usage_dir=tmp_path) as client,
        ThreadPoolExecutor(1) as callers,
    ):
        request = callers.submit(embed, client, [[1]])
        runner.wait_until_started(1)
        monkeypatch.setattr(time, "time", lambda: now() + jump)
        assert native(model)._watchdog.look() > 0
        runner.gate.set()

        vectors(request.result())
        monkeypatch.undo()
        vectors(embed(client, [[2]]))
        assert client.get("/ready").status_code == 200
    used = read(tmp_path)
    assert sum(each.requests for each in used.values()) == 2
    first, last = sorted(slot.hour for slot in used)
    assert abs((last - first) - abs(jump)) <= 3_600


def test_keys_follow_the_wall_clock_but_a_revoked_one_stays_so(
    tiny_model: ServedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics, store = Metrics(), KeyStore(tmp_path / "keys.sqlite3")
    ends, revoked = store.create("ends", Limits(), lifetime=86_400), store.create("r", Limits())
    store.revoke("r")
    now = time.time
    with serving([variant(tiny_model, metrics, "m")], metrics, key_store=store.file) as client:
        statuses = []
        for jump in (0, YEARS, -YEARS):
            monkeypatch.setattr(time, "time", lambda jump=jump: now() + jump)
            statuses.append(tuple(status(client, key) for key in (ends, revoked)))
    assert statuses == [(200, 401), (401, 401), (200, 401)]


def status(client: httpx2.Client, key: str) -> int:
    """What a request with this key meets."""
    answer = client.post(
        "/v1/embeddings", json={"input": "text"}, headers={"authorization": f"Bearer {key}"}
    )
    return answer.status_code


def test_a_store_of_keys_that_breaks_meanwhile_lets_nobody_in_and_is_read_again(
    tiny_model: ServedModel, tmp_path: Path
) -> None:
    metrics, store = Metrics(), KeyStore(tmp_path / "keys.sqlite3")
    key = store.create("one", Limits())
    with sqlite3.connect(store.file) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    whole = store.file.read_bytes()
    models = [variant(tiny_model, metrics, "m")]
    with serving(models, metrics, key_store=store.file, api_key=(Secret(KEY),)) as client:
        assert status(client, key) == 200
        for broken in (b"\xff" * len(whole), whole[:5_000], b""):
            store.file.write_bytes(broken)
            wait_until(lambda: status(client, key) == 503, "the broken store is seen")
            answer = client.get("/v1/models", headers={"authorization": f"Bearer {key}"})
            assert error(answer)["message"].startswith("Keys cannot be checked at the moment")
            assert status(client, KEY) == 200
            assert client.get("/ready").status_code == 200
            store.file.write_bytes(whole)
            wait_until(lambda: status(client, key) == 200, "the store is read again")


def test_a_disk_that_takes_no_usage_costs_no_request_and_loses_no_count(
    tiny_model: ServedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = Metrics()
    write = usage_module._append

    def fail(*_: object) -> None:
        raise OSError("no space is left")

    with serving([variant(tiny_model, metrics, "m")], metrics, usage_dir=tmp_path) as client:
        vectors(embed(client, "before"))
        monkeypatch.setattr(usage_module, "_append", fail)
        for _ in range(10):
            vectors(embed(client, "meanwhile"))
        monkeypatch.setattr(usage_module, "_append", write)
        vectors(embed(client, "after"))
    (used,) = read(tmp_path).values()
    assert used.requests == 12


def test_engines_of_many_models_hang_alone(tiny_model: ServedModel, runner: GatedRunner) -> None:
    """The watchdog of one does not see the calls of another."""
    metrics, clock = Metrics(), HandClock()
    models = [
        variant(tiny_model, metrics, name, runner=each, clock=clock, forward_timeout=10)
        for name, each in (("a", runner), ("b", GatedRunner()))
    ]
    with serving(models, metrics) as client, ThreadPoolExecutor(1) as callers:
        request = callers.submit(embed, client, [[1]], model="a")
        runner.wait_until_started(1)

        let_pass(native(models[1]), clock, 100)
        assert client.get("/ready").status_code == 200
        let_pass(native(models[0]), clock, 100)

        assert request.result().status_code == 503
        assert "`b`" not in error(client.get("/ready"))["message"]


def test_threads_end_with_their_server(tiny_model: ServedModel) -> None:
    metrics = Metrics()
    before = set(threading.enumerate())
    with serving([variant(tiny_model, metrics, "m")], metrics) as client:
        with new_client(str(client.base_url)) as own:
            vectors(embed(own, "text"))
        started = {thread.name for thread in set(threading.enumerate()) - before}
        assert {"hexgrid-engine", "hexgrid-watchdog"} <= started
    names = {thread.name for thread in set(threading.enumerate()) - before}
    assert not names & {"hexgrid-engine", "hexgrid-watchdog"}
