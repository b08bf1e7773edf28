"""An engine on a fake runner, and what its tests do with it."""

import math
import threading
from collections.abc import Callable
from concurrent.futures import Future

from prometheus_client.parser import text_string_to_metric_families

from hexgrid.encoding import Vectors
from hexgrid.engine.engine import NativeEngine
from hexgrid.engine.result_cache import ResultCache
from hexgrid.engine.result_store import ResultStore
from hexgrid.engine.scheduler import Scheduler
from hexgrid.errors import HexgridError
from hexgrid.metrics import Metrics, ModelMetrics
from hexgrid.wire import TokenIds
from tests.engine.runners import DEADLINE, FAILS_IN_COLLECT, FAILS_IN_RUN, FakeRunner

FORWARD_TIMEOUT = 300.0
FAILURES = [FAILS_IN_RUN, FAILS_IN_COLLECT]


class HandClock:
    """A monotonic clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def let_pass(engine: NativeEngine, clock: HandClock, seconds: float) -> None:
    """Let time pass, and the engine's watchdog look whenever that is due."""
    end = clock.now + seconds
    while clock.now < end:
        wait = engine._watchdog.look() or seconds
        clock.now = min(end, clock.now + wait)
    engine._watchdog.look()


class Bench:
    """An engine on a FakeRunner, and what a test wants to see of both."""

    def __init__(
        self,
        *,
        runs_async: int = False,
        max_num_batched_tokens: int = 1000,
        max_num_seqs: int = 100,
        max_num_queued_tokens: int = 1_000_000,
        result_cache_bytes: int = 0,
        store: ResultStore | None = None,
    ) -> None:
        self.runner = FakeRunner(runs_async=bool(runs_async))
        self.scheduler = Scheduler(
            max_num_batched_tokens=max_num_batched_tokens, max_num_seqs=max_num_seqs
        )
        self.metrics = Metrics()
        self.clock = HandClock()
        self.engine = NativeEngine(
            self.runner,
            self.scheduler,
            ModelMetrics(self.metrics, "fake"),
            results=ResultCache(result_cache_bytes),
            store=store,
            max_num_queued_tokens=max_num_queued_tokens,
            forward_timeout=FORWARD_TIMEOUT,
            clock=self.clock,
        )

    def let_pass(self, seconds: float) -> None:
        let_pass(self.engine, self.clock, seconds)

    def hold(self) -> Future[Vectors]:
        """Keep the runner busy until `release`; whatever is submitted in between waits."""
        started = len(self.runner.batches)
        self.runner.allow(started)
        future = self.engine.submit([[0]])
        self.runner.wait_for_batches(started + 1)
        return future

    def release(self) -> None:
        self.runner.allow(math.inf)

    def together(self, *submissions: list[TokenIds]) -> list[Future[Vectors]]:
        """Submit them so that they leave in one batch."""
        self.hold()
        futures = [self.engine.submit(token_ids) for token_ids in submissions]
        self.release()
        return futures

    def sample(self, name: str) -> float:
        """One number of the metrics."""
        families = text_string_to_metric_families(self.metrics.text().decode())
        (value,) = (s.value for f in families for s in f.samples if s.name == f"hexgrid_{name}")
        return value


Opener = Callable[..., Bench]


def rows(future: Future[Vectors]) -> list[list[float]]:
    vectors: list[list[float]] = future.result(DEADLINE).tolist()
    return vectors


def error_of(future: Future[Vectors]) -> HexgridError:
    error = future.exception(DEADLINE)
    assert isinstance(error, HexgridError)
    return error


def closing(engine: NativeEngine) -> threading.Thread:
    """A thread in `close`, which has been told to the engine."""
    thread = threading.Thread(target=engine.close)
    thread.start()
    with engine._admission._news:
        assert engine._admission._news.wait_for(lambda: engine._admission.is_closed, DEADLINE)
    return thread
