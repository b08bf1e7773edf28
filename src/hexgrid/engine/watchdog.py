"""Notices when the engine's thread is stuck in a call, which nothing in the process can end.

The rules:
1. A call may take `timeout` seconds for each batch's worth of tokens that it computes, and for one at least.
   Longer is a hang. A step of a long input is a call, and so is the wait for an asynchronous device.
2. Time in which the whole process stood still (stopped, or its machine suspended) does not count. It shows in
   a watchdog that is late itself.
3. Clocks are monotonic. The watchdog's thread wakes at most once in `timeout`, whatever the calls.
"""

import math
import threading
from collections.abc import Callable, Generator, Iterator
from collections.abc import Sequence as Items
from contextlib import contextmanager
from time import monotonic

from hexgrid.encoding import Vectors
from hexgrid.engine.protocols import Runner
from hexgrid.engine.sequence import Salt
from hexgrid.wire import TokenIds

# The watchdog's own lateness in seconds that shows that.
_STOOD_STILL = 1.0

Clock = Callable[[], float]


class CallTimer:
    """Whether the call that runs is a hang. Plain numbers of seconds: the caller has the clock."""

    def __init__(self, timeout: float, now: float) -> None:
        self._timeout = timeout
        self._deadline = math.inf  # of the call that runs
        self._last_look = now
        self._next_look = now + timeout

    def begin(self, now: float, num_batches: float = 1.0) -> None:
        """A call begins that computes so many batches' worth of tokens."""
        self._deadline = now + self._timeout * max(1.0, num_batches)

    def end(self) -> None:
        """It is over."""
        self._deadline = math.inf

    def look(self, now: float) -> float:
        """Seconds until the next look is due; 0 when the call that runs is a hang."""
        if now - self._next_look > _STOOD_STILL:
            self._deadline += now - self._last_look
        wait = min(self._timeout, max(0.0, self._deadline - now))
        self._last_look, self._next_look = now, now + wait
        return wait


class Watchdog:
    """A thread that calls `on_hang` when a call hangs, once."""

    def __init__(
        self, timeout: float, on_hang: Callable[[], None], clock: Clock = monotonic
    ) -> None:
        self._on_hang = on_hang
        self._clock = clock
        self._timer = CallTimer(timeout, clock())
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hexgrid-watchdog", daemon=True)
        self._thread.start()

    @contextmanager
    def watching(self, num_batches: float = 1.0) -> Iterator[None]:
        """The block is a call, one at a time."""
        with self._lock:
            self._timer.begin(self._clock(), num_batches)
        try:
            yield
        finally:
            with self._lock:
                self._timer.end()

    def look(self) -> float:
        """Act on a hang; seconds until the next look is due, 0 when there is nothing more to look for."""
        with self._lock:
            if self._stop.is_set():
                return 0.0
            wait = self._timer.look(self._clock())
            if wait > 0:
                return wait
            self._stop.set()
        self._on_hang()
        return 0.0

    def close(self) -> None:
        """Look no more."""
        self._stop.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        while wait := self.look():
            self._stop.wait(min(wait, threading.TIMEOUT_MAX))


class WatchedRunner:
    """A Runner, each of whose calls `watchdog` watches; see `protocols.Runner`."""

    def __init__(self, runner: Runner, watchdog: Watchdog, max_num_batched_tokens: int) -> None:
        self.hidden_size = runner.hidden_size
        self.runs_async = runner.runs_async
        self._runner = runner
        self._watchdog = watchdog
        self._max_num_batched_tokens = max_num_batched_tokens

    def run(self, token_ids: Items[TokenIds], salts: Items[Salt] = ()) -> Callable[[], Vectors]:
        """See `protocols.Runner.run`."""
        num_batches = self._num_batches(token_ids)
        with self._watchdog.watching(num_batches):
            collect = self._runner.run(token_ids, salts)

        def watched_collect() -> Vectors:
            with self._watchdog.watching(num_batches):
                return collect()

        return watched_collect

    def steps(self, token_ids: TokenIds) -> Generator[None, None, Vectors]:
        """See `protocols.Runner.steps`."""
        steps = self._runner.steps(token_ids)
        while True:
            with self._watchdog.watching():
                try:
                    next(steps)
                except StopIteration as end:
                    hidden: Vectors = end.value
                    return hidden
            yield

    def run_float32(self, token_ids: Items[TokenIds]) -> Vectors:
        """See `protocols.Runner.run_float32`."""
        with self._watchdog.watching(self._num_batches(token_ids)):
            return self._runner.run_float32(token_ids)

    def _num_batches(self, token_ids: Items[TokenIds]) -> float:
        return sum(map(len, token_ids)) / self._max_num_batched_tokens
