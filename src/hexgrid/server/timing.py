"""How long each phase of one request took, and how a client reads it: the header Server-Timing.

    parse       the body's arrival and what it asks for
    tokenize    text -> ids
    queue       in the engine, while none of the inputs ran
    forward     in the engine, while at least one of them ran, alone or in company
    encode      hidden states -> the body of the answer
    total       from the request's arrival to the answer's first byte; waits for a thread are in no phase

A header holds times of its own request only. It tells of cached inputs, though, and so whether anybody sent
the same text lately; `--hide-server-timing` leaves it out.
"""

from collections.abc import Iterator
from concurrent.futures import Future
from time import perf_counter

from hexgrid.encoding import Vectors
from hexgrid.engine.sequence import TimedFuture

# Name, start on the clock of `perf_counter`, and seconds. A bare tuple, as five are made a request.
Phase = tuple[str, float, float]


class Timing:
    """The phases of one request so far. One thread writes at a time; any may read."""

    __slots__ = ("_phases", "num_cached", "started")

    def __init__(self, started: float) -> None:
        self.started = started
        self.num_cached: int | None = None  # of the inputs; None: not known
        self._phases: list[Phase] = []

    def __iter__(self) -> Iterator[Phase]:
        return iter(tuple(self._phases))

    def ended(self, name: str, start: float) -> float:
        """The phase that began at `start` is over; its seconds."""
        seconds = perf_counter() - start
        self._phases.append((name, start, seconds))
        return seconds

    def add_engine(self, future: "Future[Vectors]") -> None:
        """What the engine's answer took, where the engine says so.

        Shares of the time may alternate; they are told one after the other.
        """
        if isinstance(future, TimedFuture):
            waited = future.queue_seconds
            self.num_cached = future.num_cached
            self._phases += (
                ("queue", future.submitted_at, waited),
                ("forward", future.submitted_at + waited, future.forward_seconds),
            )

    def header(self, now: float) -> str:
        """The value of Server-Timing (https://www.w3.org/TR/server-timing/), times in milliseconds."""
        entries = [f"{name};dur={seconds * 1e3:.2f}" for name, _, seconds in self]
        if self.num_cached:
            entries.append(f'cache;desc="{self.num_cached} inputs"')
        entries.append(f"total;dur={(now - self.started) * 1e3:.2f}")
        return ", ".join(entries)
