"""A closed loop: so many callers, each of whom asks again as soon as it is answered."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np

from hexgrid.errors import HexgridError

_PERCENTILES = (50, 95, 99)
_MOST_FAILURES_IN_A_ROW = 3  # of one caller; a server that is gone is not asked for ever

# Texts of one request -> their tokens, once the vectors are here. Raises HexgridError.
Ask = Callable[[list[str]], Awaitable[int]]


@dataclass(frozen=True)
class Point:
    """One kind of load."""

    num_tokens: int  # of a text
    concurrency: int
    num_inputs: int  # of a request


@dataclass
class Measured:
    """What a kind of load met with."""

    point: Point
    seconds: float = 0.0  # from the first request to the last answer
    latencies: list[float] = field(default_factory=list)  # seconds of each answered request
    num_tokens: int = 0  # of those
    failures: Counter[str] = field(default_factory=Counter)

    def summary(self) -> dict[str, float | None]:
        """The figures that are reported; latencies are None where nothing was answered."""
        found = self.latencies
        latencies = np.percentile(found, _PERCENTILES) if found else [None] * len(_PERCENTILES)
        return {
            "requests": len(found),
            "failures": self.failures.total(),
            "tokens_per_s": self.num_tokens / self.seconds,
            "requests_per_s": len(found) / self.seconds,
            **{
                f"p{p}_ms": None if value is None else 1000 * float(value)
                for p, value in zip(_PERCENTILES, latencies, strict=True)
            },
        }


async def measure(
    ask: Ask, requests: Iterator[list[str]], point: Point, *, seconds: float, warm_up: float
) -> Measured:
    """Load `ask` for about `seconds`, after `warm_up` seconds of the same that do not count.

    What was asked in time is waited for, and counts.
    """
    if warm_up > 0:
        await _load(ask, requests, Measured(point), warm_up)
    measured = Measured(point)
    start = perf_counter()
    await _load(ask, requests, measured, seconds)
    measured.seconds = perf_counter() - start
    return measured


async def _load(
    ask: Ask, requests: Iterator[list[str]], measured: Measured, seconds: float
) -> None:
    end = perf_counter() + seconds

    async def caller() -> None:
        failed_in_a_row = 0
        while True:  # once at least, however short the time
            texts = next(requests)
            start = perf_counter()
            try:
                num_tokens = await ask(texts)
            except HexgridError as error:
                measured.failures[error.message] += 1
                failed_in_a_row += 1
            else:
                measured.latencies.append(perf_counter() - start)
                measured.num_tokens += num_tokens
                failed_in_a_row = 0
            if perf_counter() >= end or failed_in_a_row == _MOST_FAILURES_IN_A_ROW:
                return

    async with asyncio.TaskGroup() as callers:
        for _ in range(measured.point.concurrency):
            callers.create_task(caller())
