"""The closed loop: how many callers, what counts, and when it stops."""

import asyncio
import itertools
from collections.abc import Iterator

import pytest

from hexgrid.benchmark.load import Measured, Point, measure
from hexgrid.errors import RemoteError

POINT = Point(num_tokens=8, concurrency=3, num_inputs=2)


def requests() -> Iterator[list[str]]:
    return ([f"{n}", f"{n}"] for n in itertools.count())


def run(ask: object, *, seconds: float = 1e-9, warm_up: float = 0.0) -> Measured:
    return asyncio.run(measure(ask, requests(), POINT, seconds=seconds, warm_up=warm_up))  # type: ignore[arg-type]


def test_all_callers_ask_at_the_same_time() -> None:
    """None is answered before all have asked."""

    async def ask(_: list[str]) -> int:
        await barrier.wait()
        return 16

    barrier = asyncio.Barrier(POINT.concurrency)

    measured = run(ask)

    assert len(measured.latencies) == POINT.concurrency
    assert measured.num_tokens == 16 * POINT.concurrency
    assert 0 < min(measured.latencies) <= max(measured.latencies) <= measured.seconds


def test_a_caller_asks_again_until_the_time_is_over() -> None:
    asked: list[str] = []

    async def ask(texts: list[str]) -> int:
        asked.append(texts[0])
        await asyncio.sleep(0)
        return 1

    measured = run(ask, seconds=0.05)

    assert len(asked) == len(set(asked)) == len(measured.latencies) > POINT.concurrency


def test_what_warms_up_does_not_count() -> None:
    asked: list[str] = []

    async def ask(texts: list[str]) -> int:
        asked.append(texts[0])
        return 1

    measured = run(ask, warm_up=1e-9)

    assert len(asked) == 2 * POINT.concurrency
    assert len(measured.latencies) == POINT.concurrency


def test_failures_are_counted_by_message_and_a_caller_gives_up_after_three_in_a_row() -> None:
    async def ask(_: list[str]) -> int:
        await asyncio.sleep(0)
        raise RemoteError("gone")

    measured = run(ask, seconds=1000)

    assert measured.failures == {"gone": 3 * POINT.concurrency}
    assert measured.summary()["p50_ms"] is None


def test_an_error_of_our_own_ends_the_run() -> None:
    async def ask(_: list[str]) -> int:
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup):
        run(ask)


def test_the_summary_of_known_numbers() -> None:
    measured = Measured(POINT, seconds=2.0, latencies=[n / 1000 for n in range(101)], num_tokens=50)
    measured.failures["busy"] += 2

    assert measured.summary() == {
        "requests": 101,
        "failures": 2,
        "tokens_per_s": 25.0,
        "requests_per_s": 50.5,
        "p50_ms": pytest.approx(50),
        "p95_ms": pytest.approx(95),
        "p99_ms": pytest.approx(99),
    }
