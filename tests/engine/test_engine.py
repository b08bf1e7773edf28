"""The engine's promise: every Future is answered, and one bad input fails alone."""

import random
import threading
from concurrent.futures import CancelledError, Future

import pytest

from hexgrid.encoding import Vectors
from hexgrid.errors import EngineError, NonFiniteError
from hexgrid.wire import TokenIds
from tests.engine.bench import FAILURES, Bench, Opener, error_of, rows
from tests.engine.runners import (
    DEADLINE,
    FAILS_IN_COLLECT,
    FAILS_IN_FLOAT32,
    FAILS_IN_RUN,
    INFINITE_ONCE,
    NAN_ALWAYS,
    NAN_ONCE,
    row_of,
)


@pytest.mark.parametrize("runs_async", [False, True])
def test_rows_come_back_in_the_order_of_the_inputs(open_bench: Opener, *, runs_async: bool) -> None:
    inputs = [[5, 6], [1], [2, 3, 4]]

    future = open_bench(runs_async=runs_async).engine.submit(inputs)

    assert rows(future) == [row_of(ids) for ids in inputs]


def test_inputs_of_one_submission_may_run_in_many_batches(open_bench: Opener) -> None:
    bench = open_bench(max_num_seqs=2)
    inputs = [[n] for n in range(1, 8)]

    assert rows(bench.engine.submit(inputs)) == [row_of(ids) for ids in inputs]
    assert len(bench.runner.batches) == 4


def test_submissions_that_wait_share_a_batch(bench: Bench) -> None:
    first, second = bench.together([[1], [2]], [[3]])

    assert rows(first) == [row_of([1]), row_of([2])]
    assert rows(second) == [row_of([3])]
    assert bench.runner.batches == [[[0]], [[1], [2], [3]]]


def test_a_lower_priority_number_runs_earlier(open_bench: Opener) -> None:
    bench = open_bench(max_num_seqs=1)
    bench.hold()

    futures = [bench.engine.submit([[n]], priority=-n) for n in (1, 2, 3)]
    bench.release()

    for future in futures:
        future.result(DEADLINE)
    assert bench.runner.batches == [[[0]], [[3]], [[2]], [[1]]]


@pytest.mark.parametrize("runs_async", [False, True])
@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("position", range(5))
def test_a_failing_input_fails_alone(
    open_bench: Opener, failure: int, position: int, *, runs_async: bool
) -> None:
    inputs = [[n, 7] for n in range(1, 6)]
    inputs[position] = [failure]

    futures = open_bench(runs_async=runs_async).together(*([ids] for ids in inputs))

    error = error_of(futures.pop(position))
    assert (type(error), error.index) == (EngineError, 0)
    assert [rows(future) for future in futures] == [
        [row_of(ids)] for ids in inputs if ids != [failure]
    ]


@pytest.mark.parametrize("failure", FAILURES)
def test_two_failing_inputs_of_one_submission_take_no_neighbour_with_them(
    bench: Bench, failure: int
) -> None:
    guilty, innocent = bench.together([[failure], [failure, 1]], [[2]])

    assert error_of(guilty).index == 0
    assert rows(innocent) == [row_of([2])]
    # The second one is not run again: nobody waits for it any more. [0] is the probe after the first.
    assert bench.runner.batches[2:] == [[[failure]], [[0]], [[2]]]


@pytest.mark.parametrize("failure", FAILURES)
def test_an_innocent_input_is_not_blamed_for_a_cancelled_one(bench: Bench, failure: int) -> None:
    bench.hold()
    guilty, innocent = bench.engine.submit([[failure]]), bench.engine.submit([[2]])
    bench.runner.allow(1)
    bench.runner.wait_for_batches(2)  # both run

    guilty.cancel()
    bench.release()

    assert rows(innocent) == [row_of([2])]


@pytest.mark.parametrize("failure", FAILURES)
def test_an_error_names_the_place_and_the_kind_but_not_the_content(
    bench: Bench, failure: int
) -> None:
    error = error_of(bench.engine.submit([[1], [failure, 4242], [2]]))

    assert (error.index, error.param) == (1, "input")
    assert str(error) == "The forward pass failed for input 1 (2 tokens): ValueError"
    assert "4242" in str(error.__cause__)


def test_the_rest_of_a_failed_submission_is_not_run(open_bench: Opener) -> None:
    bench = open_bench(max_num_seqs=1)

    error_of(bench.engine.submit([[FAILS_IN_RUN], [1], [2]]))

    assert rows(bench.engine.submit([[3]])) == [row_of([3])]
    assert bench.runner.batches == [[[FAILS_IN_RUN]], [[0]], [[3]]]


def test_the_engine_survives_failures(bench: Bench) -> None:
    for failure in FAILURES * 3:
        error_of(bench.engine.submit([[failure]]))

    bench.engine.check_health()
    assert rows(bench.engine.submit([[1]])) == [row_of([1])]


@pytest.mark.parametrize("bad", [NAN_ONCE, INFINITE_ONCE])
def test_a_row_that_is_not_finite_is_computed_again_in_float32(bench: Bench, bad: int) -> None:
    future = bench.engine.submit([[1], [bad, 2], [3]])

    assert rows(future) == [row_of([1]), row_of([bad, 2]), row_of([3])]
    assert bench.runner.in_float32 == [[bad, 2]]
    assert bench.sample("float32_retries_total") == 1


def test_a_row_that_is_not_finite_in_float32_either_is_an_error(bench: Bench) -> None:
    guilty, innocent = bench.together([[1], [NAN_ALWAYS]], [[2]])

    error = error_of(guilty)
    assert (type(error), error.index, error.param) == (NonFiniteError, 1, "input")
    assert rows(innocent) == [row_of([2])]


def test_a_failure_in_float32_is_that_inputs_error(bench: Bench) -> None:
    guilty, innocent = bench.together([[1], [FAILS_IN_FLOAT32]], [[2]])

    error = error_of(guilty)
    assert (type(error), error.index) == (EngineError, 1)
    assert rows(innocent) == [row_of([2])]


def test_cancelling_what_runs_hurts_nobody(bench: Bench) -> None:
    running = bench.hold()
    waiting = bench.engine.submit([[1]])

    assert running.cancel()
    bench.release()

    assert rows(waiting) == [row_of([1])]


def test_an_asynchronous_device_gets_the_next_batch_while_one_runs(open_bench: Opener) -> None:
    bench = open_bench(runs_async=True, max_num_seqs=1)
    bench.hold()
    futures = [bench.engine.submit([[n]]) for n in range(1, 6)]

    bench.runner.allow(1)
    bench.runner.wait_for_batches(3)  # the second and third, neither finished
    assert not futures[0].done()
    bench.release()

    assert [rows(future) for future in futures] == [[row_of([n])] for n in range(1, 6)]
    assert bench.runner.collected == list(range(6))
    assert bench.runner.most_in_flight == 2


def test_other_devices_get_one_batch_at_a_time(open_bench: Opener) -> None:
    bench = open_bench(max_num_seqs=1)

    rows(bench.engine.submit([[n] for n in range(1, 6)]))

    assert bench.runner.most_in_flight == 1


def test_what_waits_and_what_ran_is_measured(bench: Bench) -> None:
    bench.hold()
    future = bench.engine.submit([[1, 2, 3], [FAILS_IN_RUN]])
    assert (bench.sample("queue_sequences"), bench.sample("queue_tokens")) == (2, 4)

    bench.release()
    error_of(future)
    bench.engine.close()

    assert (bench.sample("queue_sequences"), bench.sample("queue_tokens")) == (0, 0)
    assert bench.sample("batch_sequences_sum") == 3
    assert bench.sample("batch_tokens_sum") == 5
    assert bench.sample("failed_batches_total") >= 1


@pytest.mark.parametrize("result_cache_bytes", [0, 5_000])
@pytest.mark.parametrize("most", [5, 90_000])
@pytest.mark.parametrize("runs_async", [False, True])
def test_under_many_threads_every_future_is_answered_with_its_own_rows(
    open_bench: Opener, *, runs_async: bool, most: int, result_cache_bytes: int
) -> None:
    """With ids below `most`: few of them make many equal inputs."""
    bench = open_bench(
        runs_async=runs_async,
        max_num_batched_tokens=40,
        max_num_seqs=7,
        result_cache_bytes=result_cache_bytes,
    )
    answered: list[int] = []

    def client(seed: int) -> None:
        chance = random.Random(seed)
        jobs = [_job(chance, most) for _ in range(150)]
        futures = [bench.engine.submit(job, priority=chance.randint(-2, 2)) for job in jobs]
        for future in chance.sample(futures, 20):
            future.cancel()
        answered.append(sum(_is_right(*pair) for pair in zip(jobs, futures, strict=True)))

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)

    assert answered == [150] * 8
    rows(bench.engine.submit([[100_000]]))  # all before it is over
    assert not bench.engine._admission._open
    bench.engine.close()
    assert (len(bench.scheduler), bench.scheduler.num_waiting_tokens) == (0, 0)
    bench.engine._admission._results.check_integrity()


def _job(chance: random.Random, most: int) -> list[TokenIds]:
    job = [
        [chance.randrange(most) for _ in range(chance.randint(1, 12 if most > 12 else 3))]
        for _ in range(chance.randint(1, 4))
    ]
    if chance.random() < 0.1:
        special = [FAILS_IN_RUN, FAILS_IN_COLLECT, NAN_ONCE, NAN_ALWAYS]
        job[chance.randrange(len(job))].append(chance.choice(special))
    return job


def _is_right(job: list[TokenIds], future: Future[Vectors]) -> bool:
    fatal = {FAILS_IN_RUN, FAILS_IN_COLLECT, NAN_ALWAYS}
    bad = [index for index, ids in enumerate(job) if fatal & set(ids)]
    try:
        return future.result(DEADLINE).tolist() == [row_of(ids) for ids in job] and not bad
    except CancelledError:
        return True
    except EngineError as error:
        return [error.index] == bad
