"""What a Future says its answer took: measured between events that the test decides."""

from collections.abc import Callable
from concurrent.futures import Future
from time import perf_counter

import pytest

from hexgrid.encoding import Vectors
from hexgrid.engine.result_store import ResultStore
from hexgrid.engine.sequence import TimedFuture
from tests.engine.bench import FAILURES, Bench, Opener, error_of, rows


def timed(future: Future[Vectors]) -> TimedFuture:
    assert isinstance(future, TimedFuture)
    return future


@pytest.mark.parametrize("runs_async", [False, True])
def test_waiting_and_running_are_told_apart(open_bench: Opener, *, runs_async: bool) -> None:
    bench = open_bench(runs_async=runs_async, max_num_seqs=1)
    bench.hold()
    future = timed(bench.engine.submit([[1]]))
    submitted = perf_counter()
    bench.runner.allow(1)
    bench.runner.wait_for_batches(2)
    started = perf_counter()
    bench.release()
    rows(future)
    answered = perf_counter()

    assert future.submitted_at < submitted
    if not runs_async:
        assert future.queue_seconds > 0
        assert future.queue_seconds < started - future.submitted_at
    assert future.forward_seconds > 0
    assert future.queue_seconds + future.forward_seconds < answered - future.submitted_at


def test_a_pass_that_is_held_counts_as_running(bench: Bench) -> None:
    future = timed(bench.hold())
    started = perf_counter()
    released = perf_counter()
    bench.release()
    rows(future)

    assert future.forward_seconds > released - started


def test_who_waits_behind_a_pass_that_is_held_is_queued(bench: Bench) -> None:
    bench.hold()
    future = timed(bench.engine.submit([[1]]))
    submitted, released = perf_counter(), perf_counter()
    bench.release()
    rows(future)

    assert future.queue_seconds > released - submitted


def test_who_joins_an_equal_input_that_runs_is_told_its_own_time(bench: Bench) -> None:
    first = timed(bench.hold())
    joined = timed(bench.engine.submit([[0]]))
    bench.release()
    rows(joined)

    assert joined.queue_seconds == 0
    assert 0 < joined.forward_seconds < first.forward_seconds


def test_several_batches_of_a_request_are_all_counted(open_bench: Opener) -> None:
    bench = open_bench(max_num_seqs=1)
    one, many = timed(bench.hold()), timed(bench.engine.submit([[n] for n in range(1, 40)]))
    bench.release()
    rows(many)

    assert rows(one)
    assert many.forward_seconds > 0
    assert many.num_cached == 0


@pytest.mark.parametrize("bad", FAILURES)
def test_a_pass_that_failed_counts_as_running(bench: Bench, bad: int) -> None:
    bench.hold()
    future = timed(bench.engine.submit([[bad]]))
    bench.release()

    error_of(future)
    assert future.forward_seconds > 0


def test_a_long_input_is_told_the_time_of_its_steps(open_bench: Opener) -> None:
    bench = open_bench(max_num_batched_tokens=4)
    bench.runner.num_steps = 3

    future = timed(bench.engine.submit([[1] * 9]))
    rows(future)

    assert future.forward_seconds > 0


def test_what_is_in_the_cache_takes_nothing(open_bench: Opener) -> None:
    bench = open_bench(result_cache_bytes=10_000)
    rows(bench.engine.submit([[1], [2]]))

    future = timed(bench.engine.submit([[2], [1], [2]]))

    assert rows(future)
    assert (future.num_cached, future.queue_seconds, future.forward_seconds) == (3, 0, 0)


def test_what_is_in_the_store_takes_no_pass(
    open_bench: Opener, open_store: Callable[[], ResultStore]
) -> None:
    first = open_bench(store=open_store())
    rows(first.engine.submit([[1], [2]]))
    first.engine.close()
    second = open_bench(store=open_store())

    future = timed(second.engine.submit([[1], [2], [1]]))

    assert rows(future)
    assert (future.num_cached, future.forward_seconds) == (3, 0)
    assert future.queue_seconds > 0
