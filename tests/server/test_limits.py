"""Time limits and the queue's limit: 504 and 429, and what is left of a request after them."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import httpx2
import pytest
from starlette.types import Message, Receive, Scope, Send

from hexgrid.config.settings import Secret
from hexgrid.engine.engine import NativeEngine
from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics
from hexgrid.server.limits import DeadlineMiddleware
from hexgrid.server.request_middleware import RequestMiddleware
from tests.server.gated_runner import GatedRunner
from tests.server.running import (
    KEY,
    connect,
    embed,
    error,
    metric,
    serving,
    variant,
    vectors,
    wait_for_metric,
)


def test_a_request_past_its_deadline_is_a_504(tiny_model: ServedModel, runner: GatedRunner) -> None:
    metrics = Metrics()
    model = variant(tiny_model, metrics, "m", runner=runner)
    with serving([model], metrics, request_timeout=0.1) as client:
        detail = error(embed(client, [1]))
        runner.gate.set()

    assert (detail["code"], detail["type"]) == (504, "GatewayTimeoutError")
    assert "within 0.1 seconds" in detail["message"]


def test_a_request_past_its_deadline_leaves_the_queue(
    tiny_model: ServedModel, runner: GatedRunner, callers: ThreadPoolExecutor
) -> None:
    metrics = Metrics()
    model = variant(tiny_model, metrics, "m", runner=runner, max_num_seqs=1)
    with serving([model], metrics, request_timeout=1) as client:
        request = callers.submit(embed, client, [[1], [2], [3]])
        runner.wait_until_started(1)

        wait_for_metric(client, "queue_sequences", 0, model_name="m")
        assert request.result().status_code == 504
        assert metric(client, "rejections_total", model_name="m", reason="deadline") == 1
        runner.gate.set()
    assert runner.started == [[1]]


def test_the_deadline_counts_the_bodys_arrival(tiny_model: ServedModel) -> None:
    metrics = Metrics()
    with serving([variant(tiny_model, metrics, "m")], metrics, request_timeout=0.1) as client:
        connection = connect(client)
        connection.putrequest("POST", "/v1/embeddings")
        connection.putheader("content-type", "application/json")
        connection.putheader("content-length", "100")
        connection.endheaders(b'{"input":')

        assert connection.getresponse().status == 504
        connection.close()


def test_more_tokens_than_may_wait_are_a_429_with_a_time(
    tiny_model: ServedModel, runner: GatedRunner, callers: ThreadPoolExecutor
) -> None:
    metrics = Metrics()
    model = variant(tiny_model, metrics, "m", runner=runner, max_num_queued_tokens=10)
    with serving([model], metrics) as client:
        running = callers.submit(embed, client, [1, 1])
        runner.wait_until_started(1)
        waiting = callers.submit(embed, client, [2] * 8)
        wait_for_metric(client, "queue_tokens", 8, model_name="m")
        assert metric(client, "queue_max_tokens", model_name="m") == 10

        refused, taken = embed(client, [3] * 3), callers.submit(embed, client, [4] * 2)
        wait_for_metric(client, "queue_tokens", 10, model_name="m")
        runner.gate.set()

        detail = error(refused)
        assert (detail["code"], detail["type"]) == (429, "RateLimitError")
        assert int(refused.headers["retry-after"]) >= 1
        assert "8 tokens wait already and this request has 3; at most 10" in detail["message"]
        assert metric(client, "rejections_total", model_name="m", reason="overloaded") == 1
        for request in (running, waiting, taken):
            vectors(request.result())


def test_a_request_larger_than_the_queue_is_taken_when_nothing_waits(
    tiny_model: ServedModel,
) -> None:
    metrics = Metrics()
    model = variant(tiny_model, metrics, "m", max_num_queued_tokens=10)
    with serving([model], metrics) as client:
        vectors(embed(client, [1] * 50))


def test_more_requests_than_may_be_answered_are_a_429_before_their_body_comes(
    tiny_model: ServedModel, runner: GatedRunner, callers: ThreadPoolExecutor
) -> None:
    metrics = Metrics()
    model = variant(tiny_model, metrics, "m", runner=runner)
    with serving([model], metrics, max_concurrent_requests=2) as client:
        taken = [callers.submit(embed, client, [1])]
        runner.wait_until_started(1)
        taken.append(callers.submit(embed, client, [2] * 7))
        wait_for_metric(client, "queue_tokens", 7, model_name="m")
        assert isinstance(model.engine, NativeEngine)
        model.engine._admission.tokens_per_second = 1.0
        connection = connect(client)
        connection.putrequest("POST", "/v1/embeddings")
        connection.putheader("content-type", "application/json")
        connection.putheader("content-length", "1000000")
        connection.endheaders()

        answer = connection.getresponse()
        refused = httpx2.Response(answer.status, headers=answer.getheaders(), content=answer.read())
        connection.close()

        detail = error(refused)
        assert (detail["code"], detail["type"]) == (429, "RateLimitError")
        assert "2 requests are being answered; at most 2 may be" in detail["message"]
        assert refused.headers["retry-after"] == "7"
        assert metric(client, "rejections_total", reason="overloaded") == 1
        assert [client.get(path).status_code for path in ("/ready", "/v1/models")] == [200, 200]
        assert client.post("/ping").status_code == 200
        runner.gate.set()
        for request in taken:
            vectors(request.result())
        vectors(embed(client, [3]))


def test_a_request_that_failed_makes_room_for_the_next(tiny_model: ServedModel) -> None:
    metrics = Metrics()
    model = variant(tiny_model, metrics, "m")
    with serving([model], metrics, max_concurrent_requests=1) as client:
        for _ in range(3):
            assert embed(client, []).status_code == 400
        vectors(embed(client, "a"))


def test_more_bytes_than_are_held_of_all_bodies_are_a_429(
    tiny_model: ServedModel, runner: GatedRunner, callers: ThreadPoolExecutor
) -> None:
    metrics = Metrics()
    model = variant(tiny_model, metrics, "m", runner=runner)
    with serving([model], metrics, max_concurrent_body_bytes=5000) as client:
        first = callers.submit(embed, client, [1], user="x" * 3000)
        runner.wait_until_started(1)

        refused = embed(client, [2], user="x" * 3000)
        second = callers.submit(embed, client, [3], user="x" * 1000)
        wait_for_metric(client, "queue_sequences", 1, model_name="m")
        runner.gate.set()

        detail = error(refused)
        assert (detail["code"], detail["type"]) == (429, "RateLimitError")
        assert "bytes; at most 5000 are held" in detail["message"]
        assert metric(client, "rejections_total", reason="overloaded") == 1
        for request in (first, second):
            vectors(request.result())
        vectors(embed(client, [4], user="x" * 3000))


def test_a_body_larger_than_all_may_be_is_taken_by_itself(tiny_model: ServedModel) -> None:
    metrics = Metrics()
    model = variant(tiny_model, metrics, "m")
    with serving([model], metrics, max_concurrent_body_bytes=1000) as client:
        vectors(embed(client, "a", user="x" * 3000))


def test_who_may_not_ask_takes_no_room(
    tiny_model: ServedModel, runner: GatedRunner, callers: ThreadPoolExecutor
) -> None:
    metrics = Metrics()
    model = variant(tiny_model, metrics, "m", runner=runner)
    keys = (Secret(KEY),)
    with serving([model], metrics, max_concurrent_requests=1, api_key=keys) as client:
        assert embed(client, [1]).status_code == 401
        client.headers["authorization"] = f"Bearer {KEY}"
        taken = callers.submit(embed, client, [1])
        runner.wait_until_started(1)
        assert embed(client, [2]).status_code == 429
        assert client.post("/v1/embeddings", headers={"authorization": ""}).status_code == 401
        runner.gate.set()
        vectors(taken.result())


def test_requests_in_flight_are_counted(
    tiny_model: ServedModel, runner: GatedRunner, callers: ThreadPoolExecutor
) -> None:
    metrics = Metrics()
    with serving([variant(tiny_model, metrics, "m", runner=runner)], metrics) as client:
        requests = [callers.submit(embed, client, [i]) for i in range(3)]

        wait_for_metric(client, "http_requests_in_flight", 3 + 1)  # and the one that asks
        runner.gate.set()
        assert [request.result().status_code for request in requests] == [200] * 3
        wait_for_metric(client, "http_requests_in_flight", 1)


def test_other_paths_answer_while_the_model_is_busy(
    tiny_model: ServedModel, runner: GatedRunner, callers: ThreadPoolExecutor
) -> None:
    metrics = Metrics()
    with serving([variant(tiny_model, metrics, "m", runner=runner)], metrics) as client:
        request = callers.submit(embed, client, [1])
        runner.wait_until_started(1)

        assert client.get("/ready").status_code == 200
        assert client.post("/tokenize", json={"prompt": "a"}).status_code == 200
        runner.gate.set()
        assert request.result().status_code == 200


def test_a_smaller_priority_number_runs_first(
    tiny_model: ServedModel, runner: GatedRunner, callers: ThreadPoolExecutor
) -> None:
    metrics = Metrics()
    model = variant(tiny_model, metrics, "m", runner=runner, max_num_seqs=1)
    with serving([model], metrics) as client:
        requests = [callers.submit(embed, client, [1])]
        runner.wait_until_started(1)
        for waiting, (id_, priority) in enumerate([(2, 5), (3, 0), (4, -5)], start=1):
            requests.append(callers.submit(embed, client, [id_], priority=priority))
            wait_for_metric(client, "queue_sequences", waiting, model_name="m")
        runner.gate.set()

        for request in requests:
            vectors(request.result())
    assert runner.started == [[1], [4], [3], [2]]


def test_concurrent_requests_share_a_batch_and_keep_their_own_vectors(
    tiny_model: ServedModel, runner: GatedRunner, callers: ThreadPoolExecutor
) -> None:
    metrics = Metrics()
    with serving([variant(tiny_model, metrics, "m", runner=runner)], metrics) as client:

        def raw(id_: int) -> httpx2.Response:
            return embed(client, [[id_], [id_ + 100]], use_activation=False)

        first = callers.submit(raw, 0)
        runner.wait_until_started(2)
        rest = [callers.submit(raw, id_) for id_ in range(1, 9)]
        wait_for_metric(client, "queue_sequences", 16, model_name="m")
        runner.gate.set()

        found = [vectors(request.result())[:, 0].tolist() for request in (first, *rest)]
        assert found == [[id_, id_ + 100] for id_ in range(9)]
        assert metric(client, "batch_sequences_count", model_name="m") == 2


@pytest.mark.parametrize("has_begun", [False, True])
def test_an_answer_that_has_begun_is_cut_off_by_the_deadline_and_becomes_no_other(
    *, has_begun: bool
) -> None:
    sent: list[Message] = []

    async def hangs(_: Scope, __: Receive, send: Send) -> None:
        if has_begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.get_running_loop().create_future()

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    app = RequestMiddleware(
        DeadlineMiddleware(hangs, seconds=0.01),
        metrics=Metrics(),
        names={},
        timed_paths=(),
        log=None,
        tracing=None,
    )
    scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
    with pytest.raises(TimeoutError) if has_begun else nullcontext():
        asyncio.run(app(scope, receive, send))

    starts = [message["status"] for message in sent if message["type"] == "http.response.start"]
    assert starts == [200 if has_begun else 504]
