"""What requests of one turn of the event loop ask is done at once, and is each one's own."""

import asyncio
import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from starlette.types import Message

from hexgrid.config import ServerConfig
from hexgrid.engine.queued_engine import QueuedEngine
from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics
from hexgrid.server.app import create_app
from hexgrid.server.gathering import Gathering
from hexgrid.server.registry import Models
from hexgrid.tokenizer import Tokenizer
from tests.server.running import variant


class Worker:
    """Doubles numbers; one that is negative is an error."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def work(self, jobs: Sequence[int]) -> list[int | Exception]:
        self.asked.append(list(jobs))
        return [ValueError(str(job)) if job < 0 else 2 * job for job in jobs]


def test_jobs_of_one_turn_are_done_together_and_those_of_the_next_apart() -> None:
    worker = Worker()

    async def main() -> list[int]:
        gathering = Gathering(worker.work)
        first = await asyncio.gather(*map(gathering.result_of, range(5)))
        return [*first, await gathering.result_of(7)]

    assert asyncio.run(main()) == [0, 2, 4, 6, 8, 14]
    assert worker.asked == [[0, 1, 2, 3, 4], [7]]


def test_an_error_is_that_of_its_own_job() -> None:
    async def main() -> list[int | BaseException]:
        gathering = Gathering(Worker().work)
        return await asyncio.gather(
            *map(gathering.result_of, [1, -1, 2, -2]), return_exceptions=True
        )

    assert [str(each) for each in asyncio.run(main())] == ["2", "-1", "4", "-2"]


def test_who_is_cancelled_has_nothing_done_and_holds_up_nobody() -> None:
    worker = Worker()

    async def main() -> int:
        gathering = Gathering(worker.work)
        gone = asyncio.ensure_future(gathering.result_of(1))
        stays = asyncio.ensure_future(gathering.result_of(2))
        asyncio.get_running_loop().call_soon(gone.cancel)  # both have asked by then
        found = await stays
        assert gone.cancelled()
        return found

    assert asyncio.run(main()) == 4
    assert worker.asked == [[2]]


def test_a_bug_of_the_work_reaches_all() -> None:
    def work(_: Sequence[int]) -> list[int | Exception]:
        raise RuntimeError("a bug")

    async def main() -> list[int | BaseException]:
        gathering = Gathering(work)
        return await asyncio.gather(*map(gathering.result_of, [1, 2]), return_exceptions=True)

    assert [repr(each) for each in asyncio.run(main())] == ["RuntimeError('a bug')"] * 2


class Steps:
    """When a function was called, on a clock of such calls."""

    clock = itertools.count()

    def __init__(self) -> None:
        self.at: list[int] = []

    def noting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def noting(*arguments: Any, **options: Any) -> Any:
            self.at.append(next(self.clock))
            return function(*arguments, **options)

        return noting


def answers(tiny_model: ServedModel, bodies: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of requests that arrive in one turn, asked of an application without a server."""
    metrics = Metrics()
    app = create_app(
        Models([variant(tiny_model, metrics, "m")]), ServerConfig(request_timeout=60), metrics
    )

    async def ask(body: dict[str, Any]) -> dict[str, Any]:
        sent: list[Message] = []
        to_receive: list[Message] = [{"type": "http.request", "body": json.dumps(body).encode()}]

        async def receive() -> Message:
            if not to_receive:
                await asyncio.get_running_loop().create_future()  # the client stays
            return to_receive.pop()

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/embeddings",
            "headers": [(b"content-type", b"application/json")],
        }
        await app(scope, receive, send)
        return dict(json.loads(sent[1]["body"]), status=sent[0]["status"])

    async def main() -> list[dict[str, Any]]:
        async with app.router.lifespan_context(app):
            return await asyncio.gather(*map(ask, bodies))

    return asyncio.run(main())


def test_short_requests_of_one_turn_are_encoded_in_a_row(
    tiny_model: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = [{"input": f"text {number}"} for number in range(10)]
    encoded, submitted = Steps(), Steps()
    monkeypatch.setattr(Tokenizer, "encode", encoded.noting(Tokenizer.encode))
    monkeypatch.setattr(QueuedEngine, "submit", submitted.noting(QueuedEngine.submit))

    together = answers(tiny_model, bodies)

    assert max(encoded.at) < min(submitted.at)
    for body, answer in zip(bodies, together, strict=True):
        (alone,) = answers(tiny_model, [body])
        assert answer["usage"] == alone["usage"]
        assert answer["data"][0]["embedding"] == pytest.approx(
            alone["data"][0]["embedding"], abs=1e-5
        )


def test_what_is_wrong_with_one_of_them_is_nobody_elses_fault(tiny_model: ServedModel) -> None:
    found = answers(
        tiny_model,
        [
            {"input": "right"},
            {"input": "wrong", "input_type": "no such prompt"},
            {"input": "cut", "truncate_prompt_tokens": 2},
            {"input": [[10**9]]},
            {"input": "right", "dimensions": 10**6},
            {"input": [[1, 2]]},
        ],
    )

    assert [answer["status"] for answer in found] == [200, 400, 200, 400, 400, 200]
    assert "no such prompt" in found[1]["error"]["message"]
    assert "dimensions" in found[4]["error"]["message"]
