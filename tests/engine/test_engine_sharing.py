"""No input is computed twice while its vector is at hand: in the queue, in the cache, in the store."""

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError

import pytest

from hexgrid.engine.result_store import ResultStore
from hexgrid.engine.sequence import NO_SALT, Salt, salt_of
from tests.engine.bench import FAILURES, Bench, Opener, error_of, rows
from tests.engine.runners import (
    DEADLINE,
    INFINITE_ONCE,
    NAN_ALWAYS,
    NAN_ONCE,
    row_of,
)

ONE, OTHER = salt_of("one"), salt_of("other")


def test_equal_inputs_of_a_submission_are_computed_once(bench: Bench) -> None:
    future = bench.engine.submit([[1, 2], [3], [1, 2], [1, 2]])

    assert rows(future) == [row_of([1, 2]), row_of([3]), row_of([1, 2]), row_of([1, 2])]
    assert bench.runner.batches == [[[1, 2], [3]]]
    assert bench.sample("joined_inputs_total") == 2


def test_an_input_waits_for_an_equal_one_that_waits(bench: Bench) -> None:
    one, other = bench.together([[1], [2]], [[3], [2]])

    assert rows(one) == [row_of([1]), row_of([2])]
    assert rows(other) == [row_of([3]), row_of([2])]
    assert bench.runner.batches == [[[0]], [[1], [2], [3]]]


def test_an_input_waits_for_an_equal_one_that_runs(bench: Bench) -> None:
    running = bench.hold()

    joined = bench.engine.submit([[0]])
    bench.release()

    assert rows(running) == rows(joined) == [row_of([0])]
    assert bench.runner.batches == [[[0]]]


@pytest.mark.parametrize("salts", [(ONE, OTHER), (NO_SALT, ONE)])
def test_inputs_of_different_salts_share_no_computation(
    bench: Bench, salts: tuple[Salt, Salt]
) -> None:
    bench.hold()
    futures = [bench.engine.submit([[1, 2]], salt=salt) for salt in (*salts, *salts)]
    bench.release()

    assert [rows(future) for future in futures] == [[row_of([1, 2])]] * 4
    assert bench.runner.batches == [[[0]], [[1, 2], [1, 2]]]
    assert bench.runner.salts[-1] == list(salts)
    assert bench.sample("joined_inputs_total") == 2


def test_a_more_urgent_equal_input_keeps_its_salt(bench: Bench) -> None:
    bench.hold()
    futures = [bench.engine.submit([[1, 2]], salt=ONE, priority=p) for p in (3, 1)]
    bench.release()

    assert [rows(future) for future in futures] == [[row_of([1, 2])]] * 2
    assert bench.runner.salts[-1] == [ONE]


def test_cached_vectors_serve_their_own_salt_only(open_bench: Opener) -> None:
    bench = open_bench(result_cache_bytes=2**20)
    for salt in (ONE, OTHER, ONE, NO_SALT, OTHER):
        assert rows(bench.engine.submit([[1, 2]], salt=salt)) == [row_of([1, 2])]

    assert bench.runner.batches == [[[1, 2]]] * 3
    assert bench.sample("result_cache_hits_total") == 2


def test_stored_vectors_serve_their_own_salt_only(
    open_bench: Opener, open_store: Callable[[], ResultStore]
) -> None:
    first = open_bench(store=open_store())
    rows(first.engine.submit([[1, 2]], salt=ONE))
    first.engine.close()  # written by then
    second = open_bench(store=open_store())
    for salt in (OTHER, ONE):
        rows(second.engine.submit([[1, 2]], salt=salt))

    assert second.runner.batches == [[[1, 2]]]
    assert second.sample("result_store_hits_total") == 1


@pytest.mark.parametrize("cancelled", [0, 1])
def test_cancelling_one_of_two_that_wait_for_the_same_leaves_the_other(
    bench: Bench, cancelled: int
) -> None:
    bench.hold()
    futures = [bench.engine.submit([[1]]) for _ in range(2)]

    futures.pop(cancelled).cancel()
    bench.release()

    assert rows(futures[0]) == [row_of([1])]
    assert bench.runner.batches == [[[0]], [[1]]]


def test_what_everybody_cancelled_is_computed_anew_for_the_next(bench: Bench) -> None:
    bench.hold()
    for future in [bench.engine.submit([[1]]) for _ in range(2)]:
        future.cancel()
    assert bench.sample("queue_sequences") == 0

    again = bench.engine.submit([[1]])
    bench.release()

    assert rows(again) == [row_of([1])]


def test_nobody_waits_for_what_was_cancelled_at_that_moment(bench: Bench) -> None:
    """Cancelled, and passed over by the scheduler for that, but not yet known to the engine."""
    bench.hold()
    future = bench.engine.submit([[1]])
    with bench.engine._admission._news:  # the canceller waits for it, in the Future's callback
        canceller = threading.Thread(target=future.cancel)
        canceller.start()
        with pytest.raises(CancelledError):
            future.exception(DEADLINE)
        assert bench.scheduler.next_batch() == []

        again = bench.engine.submit([[1]])
    canceller.join(DEADLINE)
    bench.release()

    assert rows(again) == [row_of([1])]


@pytest.mark.parametrize("failure", [*FAILURES, NAN_ALWAYS])
def test_an_input_that_fails_does_so_for_all_with_their_own_places_and_is_not_kept(
    open_bench: Opener, failure: int
) -> None:
    bench = open_bench(result_cache_bytes=10_000)

    one, other = bench.together([[1], [failure]], [[failure]])

    assert [error_of(future).index for future in (one, other)] == [1, 0]
    num_batches = len(bench.runner.batches)
    error_of(bench.engine.submit([[failure]]))
    assert bench.runner.batches[num_batches:] == [[[failure]], [[0]]]  # and a probe


def test_more_urgent_work_takes_an_equal_input_along(open_bench: Opener) -> None:
    bench = open_bench(max_num_seqs=1)
    bench.hold()

    futures = [bench.engine.submit([[n]], priority=priority) for n, priority in ((1, 0), (2, 1))]
    futures.append(bench.engine.submit([[2]], priority=-1))
    bench.release()

    for future in futures:
        future.result(DEADLINE)
    assert bench.runner.batches == [[[0]], [[2]], [[1]]]


def test_inputs_that_cost_nothing_are_not_refused_for_their_tokens(open_bench: Opener) -> None:
    bench = open_bench(max_num_queued_tokens=10)
    bench.hold()
    bench.engine.submit([[1] * 8])

    free = bench.engine.submit([[1] * 8, [0], [1] * 8, [2]])

    assert bench.sample("queue_tokens") == 9
    bench.release()
    assert rows(free) == [row_of(ids) for ids in ([1] * 8, [0], [1] * 8, [2])]


def test_an_input_that_was_computed_comes_from_the_cache(open_bench: Opener) -> None:
    bench = open_bench(result_cache_bytes=10_000)
    rows(bench.engine.submit([[1, 2], [INFINITE_ONCE]]))

    again = bench.engine.submit([[3], [INFINITE_ONCE], [1, 2]])

    assert rows(again) == [row_of([3]), row_of([INFINITE_ONCE]), row_of([1, 2])]
    assert bench.runner.batches == [[[1, 2], [INFINITE_ONCE]], [[3]]]
    assert bench.sample("result_cache_hits_total") == 2
    assert bench.sample("result_cache_misses_total") == 3
    assert bench.sample("result_cache_bytes") > 0


def test_a_submission_known_in_full_is_answered_while_the_engine_is_busy(
    open_bench: Opener,
) -> None:
    bench = open_bench(result_cache_bytes=10_000)
    rows(bench.engine.submit([[1], [2]]))
    bench.hold()

    assert rows(bench.engine.submit([[2], [1]])) == [row_of([2]), row_of([1])]


@pytest.mark.parametrize("runs_async", [False, True])
def test_what_an_engine_computed_the_next_one_finds_in_the_store(
    open_bench: Opener, open_store: Callable[[], ResultStore], *, runs_async: bool
) -> None:
    first = open_bench(store=open_store(), runs_async=runs_async)
    error_of(first.engine.submit([[NAN_ALWAYS]]))
    rows(first.engine.submit([[1, 2], [NAN_ONCE]]))
    first.engine.close()

    second = open_bench(store=open_store(), runs_async=runs_async, result_cache_bytes=10_000)
    known = second.engine.submit([[NAN_ONCE], [1, 2]])
    assert rows(known) == [row_of([NAN_ONCE]), row_of([1, 2])]
    assert second.runner.batches == []
    partly = second.engine.submit([[3], [1, 2], [4]])

    assert rows(partly) == [row_of([3]), row_of([1, 2]), row_of([4])]
    assert second.runner.batches == [[[3], [4]]]
    assert second.sample("result_store_hits_total") == 2
    assert second.sample("result_cache_hits_total") == 1
    error_of(second.engine.submit([[NAN_ALWAYS]]))
