"""A client that goes away takes its work with it; those that stay are answered."""

import asyncio
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from starlette.types import Message

from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics
from hexgrid.server.waiting import result_unless_gone, started_in_thread
from hexgrid.text_reader import Check
from tests.server.gated_runner import GatedRunner
from tests.server.running import (
    DEADLINE,
    connect,
    embed,
    metric,
    serving,
    variant,
    vectors,
    wait_for_metric,
)


def test_a_client_that_leaves_frees_what_has_not_run(
    tiny_model: ServedModel, runner: GatedRunner
) -> None:
    metrics = Metrics()
    model = variant(tiny_model, metrics, "m", runner=runner, max_num_seqs=1)
    with serving([model], metrics) as client:
        connection = connect(client)
        headers = {"content-type": "application/json"}
        connection.request("POST", "/v1/embeddings", b'{"input":[[1],[2],[3]]}', headers)
        runner.wait_until_started(1)
        assert metric(client, "queue_sequences", model_name="m") == 2

        connection.close()

        wait_for_metric(client, "queue_sequences", 0, model_name="m")
        wait_for_metric(client, "http_requests_in_flight", 1)
        assert metric(client, "queue_tokens", model_name="m") == 0
        assert metric(client, "rejections_total", model_name="m", reason="client_gone") == 1
        assert metric(client, "http_requests_total", path="/v1/embeddings", status="499") == 1
        runner.gate.set()
        vectors(embed(client, [4]))
    assert runner.started == [[1], [4]]


def test_a_client_that_leaves_takes_nobody_elses_work(
    tiny_model: ServedModel, runner: GatedRunner, callers: ThreadPoolExecutor
) -> None:
    """Not even what it asked for first."""
    metrics = Metrics()
    model = variant(tiny_model, metrics, "m", runner=runner, max_num_seqs=2)
    with serving([model], metrics) as client:
        connection = connect(client)
        headers = {"content-type": "application/json"}
        connection.request("POST", "/v1/embeddings", b'{"input":[[1],[2],[3],[9]]}', headers)
        runner.wait_until_started(2)
        staying = callers.submit(embed, client, [[3], [4]], use_activation=False)
        wait_for_metric(client, "queue_sequences", 3, model_name="m")

        connection.close()

        wait_for_metric(client, "queue_sequences", 2, model_name="m")
        runner.gate.set()
        assert vectors(staying.result())[:, 0].tolist() == [3, 4]
    assert runner.started == [[1], [2], [3], [4]]


def test_a_client_that_leaves_is_not_logged_as_an_error(
    tiny_model: ServedModel, runner: GatedRunner, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Metrics()
    with serving([variant(tiny_model, metrics, "m", runner=runner)], metrics) as client:
        connection = connect(client)
        headers = {"content-type": "application/json"}
        connection.request("POST", "/v1/embeddings", b'{"input":[1]}', headers)
        runner.wait_until_started(1)
        connection.close()
        wait_for_metric(client, "http_requests_in_flight", 1)
        runner.gate.set()
        vectors(embed(client, [2]))

    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []


def test_work_that_a_thread_begins_when_nobody_waits_is_cancelled() -> None:
    work: Future[int] = Future()
    entered, go_on = threading.Event(), threading.Event()

    def start(_: Check, number: int) -> tuple[int, Future[int]]:
        entered.set()
        assert go_on.wait(DEADLINE)
        return number, work

    async def leave(threads: ThreadPoolExecutor) -> None:
        waiting = asyncio.create_task(started_in_thread(threads, start, 7))
        await asyncio.to_thread(entered.wait, DEADLINE)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    with ThreadPoolExecutor(1) as threads:
        asyncio.run(leave(threads))
        assert not work.cancelled()
        go_on.set()
    assert work.cancelled()


@pytest.mark.parametrize("leaves", [False, True])
def test_an_error_of_the_thread_is_the_callers(*, leaves: bool) -> None:
    def start(_: Check) -> tuple[int, Future[int]]:
        raise ZeroDivisionError

    async def ask(threads: ThreadPoolExecutor) -> None:
        waiting = asyncio.create_task(started_in_thread(threads, start))
        if leaves:
            waiting.cancel()
        await waiting

    with (
        ThreadPoolExecutor(1) as threads,
        pytest.raises(asyncio.CancelledError if leaves else ZeroDivisionError),
    ):
        asyncio.run(ask(threads))


def test_what_is_answered_already_is_not_waited_for() -> None:
    future: Future[str] = Future()
    future.set_result("from a cache")

    async def receive() -> Message:
        raise AssertionError("nobody need listen for the client's leaving")

    assert asyncio.run(result_unless_gone(future, receive)) == "from a cache"
