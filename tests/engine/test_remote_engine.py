"""Vectors that are computed elsewhere: what is handed out and when, and what becomes of every failure."""

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Items
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from time import monotonic

import numpy as np
import pytest

from hexgrid.encoding import Vectors
from hexgrid.engine.remote_engine import (
    InputsRefusedError,
    RemoteBusyError,
    RemoteDownError,
    RemoteEngine,
)
from hexgrid.engine.result_cache import ResultCache
from hexgrid.engine.scheduler import Scheduler
from hexgrid.engine.sequence import NO_SALT, Salt
from hexgrid.errors import (
    EngineClosedError,
    EngineDeadError,
    EngineUnwellError,
    NonFiniteError,
    OverloadedError,
    UpstreamError,
)
from hexgrid.metrics import Metrics, ModelMetrics
from hexgrid.wire import TokenIds
from tests.engine.bench import error_of, rows
from tests.engine.runners import DEADLINE

REFUSED, NOT_FINITE, BUSY, DOWN, BUG = 666, 667, 668, 669, 670


class FakeRemote:
    """Gives each input its sum, unless one of the ids above is in it; a closed gate keeps calls waiting."""

    hidden_size = 2

    def __init__(self) -> None:
        self.num_workers = 1
        self.is_down = False
        self.calls: list[tuple[list[TokenIds], Salt]] = []
        self.num_cancelled = 0
        self.is_closed = False
        self.loop = asyncio.new_event_loop()
        self.change: Callable[[], None] = lambda: None
        self._gate = asyncio.Event()
        self._gate.set()
        self._death: asyncio.Future[str] = self.loop.create_future()
        self._news = threading.Condition()

    async def watch(self, on_change: Callable[[], None]) -> str:
        self.change = on_change
        return await self._death

    async def compute(self, token_ids: Items[TokenIds], salt: Salt) -> Vectors:
        with self._news:
            self.calls.append((list(token_ids), salt))
            self._news.notify_all()
        try:
            await self._gate.wait()
        except asyncio.CancelledError:
            with self._news:
                self.num_cancelled += 1
                self._news.notify_all()
            raise
        ids = {each for input_ids in token_ids for each in input_ids}
        if BUG in ids:
            raise TypeError
        if DOWN in ids:
            raise RemoteDownError
        if BUSY in ids:
            raise RemoteBusyError(7)
        if REFUSED in ids:
            raise InputsRefusedError("at http://10.0.0.5: no")
        sums = [sum(each) for each in token_ids]
        return np.array(
            [
                [np.nan if NOT_FINITE in ids_ else s, 1]
                for ids_, s in zip(token_ids, sums, strict=True)
            ],
            np.float32,
        )

    def close(self) -> None:
        self.is_closed = True

    def shut(self) -> None:
        self._do(self._gate.clear)

    def open(self) -> None:
        self._do(self._gate.set)

    def die(self) -> None:
        self._do(lambda: self._death.set_result("It has ended"))

    def set_down(self, *, is_down: bool) -> None:
        def set_it() -> None:
            self.is_down, self.num_workers = is_down, int(not is_down)
            self.change()

        self._do(set_it)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        with self._news:
            assert self._news.wait_for(condition, DEADLINE)

    def _do(self, what: Callable[[], object]) -> None:
        done: Future[None] = Future()

        def do() -> None:
            what()
            done.set_result(None)

        self.loop.call_soon_threadsafe(do)
        done.result(DEADLINE)

    def open_if_running(self) -> None:
        """Let calls go on, unless the loop has ended or is just ending: then there are none."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._gate.set)


@pytest.fixture
def remote() -> FakeRemote:
    return FakeRemote()


@contextmanager
def opened(
    remote: FakeRemote, *, max_calls: int = 1, max_num_batched_tokens: int = 100
) -> Iterator[RemoteEngine]:
    engine = RemoteEngine(
        remote,
        Scheduler(max_num_batched_tokens=max_num_batched_tokens, max_num_seqs=100),
        ModelMetrics(Metrics(), "remote"),
        loop=remote.loop,
        max_calls=max_calls,
        results=ResultCache(10_000),
        max_num_queued_tokens=1000,
    )
    try:
        yield engine
    finally:
        remote.open_if_running()
        engine.close()
        assert remote.is_closed


@pytest.fixture
def engine(remote: FakeRemote) -> Iterator[RemoteEngine]:
    with opened(remote) as engine:
        yield engine


def together(
    engine: RemoteEngine, remote: FakeRemote, *submissions: list[TokenIds], salts: Items[Salt] = ()
) -> list[Future[Vectors]]:
    """Submit them so that they are handed out at once."""
    remote.shut()
    engine.submit([[1]])
    remote.wait_for(lambda: len(remote.calls) == 1)
    futures = [
        engine.submit(ids, salt=salt)
        for ids, salt in zip(submissions, salts or [NO_SALT] * len(submissions), strict=True)
    ]
    remote.open()
    return futures


def test_inputs_that_wait_are_handed_out_together(engine: RemoteEngine, remote: FakeRemote) -> None:
    first, second = together(engine, remote, [[1, 2], [3]], [[4]])

    assert (rows(first), rows(second)) == ([[3, 1], [3, 1]], [[4, 1]])
    assert [ids for ids, _ in remote.calls] == [[[1]], [[1, 2], [3], [4]]]


def test_what_was_computed_is_not_asked_for_again(engine: RemoteEngine, remote: FakeRemote) -> None:
    for _ in range(3):
        assert rows(engine.submit([[5, 6]])) == [[11, 1]]

    assert len(remote.calls) == 1


def test_a_call_has_one_salt(engine: RemoteEngine, remote: FakeRemote) -> None:
    futures = together(engine, remote, [[2]], [[2]], [[3]], salts=[b"a", b"b", b"a"])

    assert [rows(future) for future in futures] == [[[2, 1]], [[2, 1]], [[3, 1]]]
    assert sorted(remote.calls[1:], key=str) == [([[2], [3]], b"a"), ([[2]], b"b")]


def test_no_more_calls_run_than_there_is_room_for(remote: FakeRemote) -> None:
    with opened(remote, max_calls=2, max_num_batched_tokens=10) as engine:
        remote.shut()
        futures = [engine.submit([[i] * 10]) for i in range(1, 6)]
        remote.wait_for(lambda: len(remote.calls) == 2)
        remote.open()

        assert [rows(future) for future in futures] == [[[10 * i, 1]] for i in range(1, 6)]
        assert len(remote.calls) == 5


def test_few_tokens_are_handed_out_ahead(remote: FakeRemote) -> None:
    with opened(remote, max_calls=100, max_num_batched_tokens=10) as engine:
        remote.shut()
        futures = [engine.submit([[i] * 10]) for i in range(1, 6)]
        remote.wait_for(lambda: len(remote.calls) == 2)
        assert engine._admission._scheduler.num_waiting_tokens == 30

        remote.open()
        assert len([rows(future) for future in futures]) == 5


def test_one_refused_input_fails_alone_and_by_its_index(
    engine: RemoteEngine, remote: FakeRemote
) -> None:
    good, bad = together(engine, remote, [[1, 2], [3, 4]], [[5], [REFUSED], [6]])

    assert rows(good) == [[3, 1], [7, 1]]
    error = error_of(bad)
    assert isinstance(error, UpstreamError)
    assert (error.index, error.param) == (1, "input")
    assert "10.0.0.5" not in error.message


def test_a_vector_that_is_not_finite_is_asked_for_once_more_alone(
    engine: RemoteEngine, remote: FakeRemote
) -> None:
    good, bad = together(engine, remote, [[1, 2]], [[3], [NOT_FINITE]])

    assert rows(good) == [[3, 1]]
    error = error_of(bad)
    assert isinstance(error, NonFiniteError)
    assert error.index == 1
    assert [ids for ids, _ in remote.calls[1:]] == [[[1, 2], [3], [NOT_FINITE]], [[NOT_FINITE]]]


def test_overload_elsewhere_is_told_with_its_seconds(
    engine: RemoteEngine,
) -> None:
    error = error_of(engine.submit([[BUSY]]))

    assert isinstance(error, OverloadedError)
    assert error.headers == {"retry-after": "7"}
    assert rows(engine.submit([[2]])) == [[2, 1]]


def test_a_call_that_nobody_could_take_is_unwell(engine: RemoteEngine) -> None:
    assert isinstance(error_of(engine.submit([[DOWN]])), EngineUnwellError)
    assert rows(engine.submit([[2]])) == [[2, 1]]


def test_while_nobody_computes_nobody_waits_or_comes_in(
    engine: RemoteEngine, remote: FakeRemote
) -> None:
    assert rows(engine.submit([[1]])) == [[1, 1]]
    remote.shut()
    running = engine.submit([[2]])
    remote.wait_for(lambda: len(remote.calls) == 2)
    waiting = engine.submit([[3]])

    remote.set_down(is_down=True)

    assert isinstance(error_of(running), EngineUnwellError)
    assert isinstance(error_of(waiting), EngineUnwellError)
    with pytest.raises(EngineUnwellError):
        engine.check_health()
    with pytest.raises(EngineUnwellError):
        engine.submit([[4]])

    remote.open()
    remote.set_down(is_down=False)
    assert rows(submitted_when_well(engine, [[5]])) == [[5, 1]]
    engine.check_health()


def test_what_nobody_waits_for_is_cancelled(engine: RemoteEngine, remote: FakeRemote) -> None:
    remote.shut()
    future = engine.submit([[1]])
    remote.wait_for(lambda: len(remote.calls) == 1)

    future.cancel()
    remote.wait_for(lambda: remote.num_cancelled == 1)
    remote.open()

    assert rows(engine.submit([[1]])) == [[1, 1]]
    assert not engine._admission._open


def test_the_end_of_all_who_compute_is_the_engines(
    engine: RemoteEngine, remote: FakeRemote
) -> None:
    remote.shut()
    running = engine.submit([[1]])
    remote.wait_for(lambda: len(remote.calls) == 1)

    remote.die()

    assert isinstance(error_of(running), EngineDeadError)
    assert engine.death.result(DEADLINE) == "It has ended"
    with pytest.raises(EngineDeadError, match="It has ended; the server must be started again"):
        engine.submit([[2]])


def test_a_bug_answers_everyone_and_ends_the_engine(engine: RemoteEngine) -> None:
    assert isinstance(error_of(engine.submit([[BUG]])), EngineDeadError)
    assert engine.death.result(DEADLINE) == "The engine broke (TypeError)"


def test_closing_finishes_what_runs_and_answers_what_waits(remote: FakeRemote) -> None:
    with opened(remote) as engine:
        remote.shut()
        running = engine.submit([[1]])
        remote.wait_for(lambda: len(remote.calls) == 1)
        waiting = engine.submit([[2]])
        closing = threading.Thread(target=engine.close)
        closing.start()
        with engine._admission._news:
            assert engine._admission._news.wait_for(lambda: engine._admission.is_closed, DEADLINE)
        remote.open()
        closing.join(DEADLINE)

        assert rows(running) == [[1, 1]]
        assert isinstance(error_of(waiting), EngineClosedError)


def test_the_token_rate_is_measured(engine: RemoteEngine) -> None:
    deadline = monotonic() + DEADLINE
    for i in itertools.count():
        rows(engine.submit([[i, 1000]]))
        if engine._admission.tokens_per_second or monotonic() > deadline:
            break

    assert engine._admission.tokens_per_second > 0


def submitted_when_well(engine: RemoteEngine, token_ids: list[TokenIds]) -> Future[Vectors]:
    """The engine's thread has to hear of it first."""
    with engine._admission._news:
        assert engine._admission._news.wait_for(lambda: engine._admission._paused is None, DEADLINE)
    return engine.submit(token_ids)
