"""The engine's promise: every Future is answered, and one bad input fails alone."""

import math
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hexgrid.encoding import Vectors
from hexgrid.engine import engine as engine_module
from hexgrid.engine.engine import NativeEngine
from hexgrid.engine.result_cache import ResultCache
from hexgrid.engine.result_store import ResultStore
from hexgrid.engine.scheduler import Scheduler
from hexgrid.errors import (
    EngineClosedError,
    EngineError,
    HexgridError,
    NonFiniteError,
    OverloadedError,
)
from hexgrid.metrics import Metrics, ModelMetrics
from hexgrid.wire import TokenIds
from tests.engine.runners import (
    DEADLINE,
    FAILS_IN_COLLECT,
    FAILS_IN_FLOAT32,
    FAILS_IN_RUN,
    INFINITE_ONCE,
    NAN_ALWAYS,
    NAN_ONCE,
    FakeRunner,
    row_of,
)

FAILURES = [FAILS_IN_RUN, FAILS_IN_COLLECT]


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
        self.engine = NativeEngine(
            self.runner,
            self.scheduler,
            ModelMetrics(self.metrics, "fake"),
            results=ResultCache(result_cache_bytes),
            store=store,
            max_num_queued_tokens=max_num_queued_tokens,
        )

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


@pytest.fixture
def open_store(tmp_path: Path) -> Callable[[], ResultStore]:
    """The same store each time; the engine that it is given to closes it."""
    return lambda: ResultStore(tmp_path, fingerprint="fake", hidden_size=4, max_bytes=2**20)


@pytest.fixture
def open_bench() -> Iterator[Opener]:
    benches: list[Bench] = []

    def open_(**settings: Any) -> Bench:
        benches.append(Bench(**settings))
        return benches[-1]

    yield open_
    for bench in benches:
        bench.release()
        bench.engine.close()


@pytest.fixture
def bench(open_bench: Opener) -> Bench:
    return open_bench()


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
    with engine._news:
        assert engine._news.wait_for(lambda: engine._closing, DEADLINE)
    return thread


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
    # The second one is not run again: nobody waits for it any more.
    assert bench.runner.batches[2:] == [[[failure]], [[2]]]


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
    assert bench.runner.batches == [[[FAILS_IN_RUN]], [[3]]]


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


def test_cancelling_drops_what_has_not_run_and_gives_its_room_back(bench: Bench) -> None:
    bench.hold()
    cancelled = bench.engine.submit([[1, 2], [3]])
    kept = bench.engine.submit([[4]])

    assert cancelled.cancel()

    assert bench.sample("queue_tokens") == 1
    bench.release()
    assert rows(kept) == [row_of([4])]
    assert bench.runner.batches == [[[0]], [[4]]]


def test_cancelling_what_runs_hurts_nobody(bench: Bench) -> None:
    running = bench.hold()
    waiting = bench.engine.submit([[1]])

    assert running.cancel()
    bench.release()

    assert rows(waiting) == [row_of([1])]


def test_a_full_queue_refuses_at_once_with_all_three_numbers(open_bench: Opener) -> None:
    bench = open_bench(max_num_queued_tokens=10)
    bench.hold()
    bench.engine.submit([[1] * 8])

    with pytest.raises(OverloadedError, match=r"8 tokens wait .* has 3; at most 10 ") as caught:
        bench.engine.submit([[1], [1, 2]])

    assert caught.value.retry_after == 1


def test_a_queue_is_full_only_past_its_limit(open_bench: Opener) -> None:
    bench = open_bench(max_num_queued_tokens=10)
    bench.hold()
    bench.engine.submit([[1] * 8])

    bench.engine.submit([[1, 2]])

    assert bench.sample("queue_tokens") == 10


def test_one_submission_of_any_size_is_taken_when_nothing_waits(open_bench: Opener) -> None:
    bench = open_bench(max_num_queued_tokens=10)
    bench.hold()

    large = bench.engine.submit([[1] * 50])
    bench.release()

    assert rows(large) == [row_of([1] * 50)]


def test_cancelling_makes_room_for_others(open_bench: Opener) -> None:
    bench = open_bench(max_num_queued_tokens=10)
    bench.hold()
    bench.engine.submit([[1] * 10]).cancel()

    bench.engine.submit([[1] * 10])


@pytest.mark.parametrize(("tokens_per_second", "expected"), [(100.0, 8), (0.5, 1600), (1e9, 1)])
def test_retry_after_is_the_time_that_the_queue_takes(
    open_bench: Opener, tokens_per_second: float, expected: int
) -> None:
    bench = open_bench(max_num_queued_tokens=800)
    bench.hold()
    bench.engine.submit([[1] * 800])
    bench.engine._tokens_per_second = tokens_per_second

    with pytest.raises(OverloadedError) as caught:
        bench.engine.submit([[1]])

    assert caught.value.retry_after == expected


def test_the_token_rate_is_measured(bench: Bench) -> None:
    rows(bench.engine.submit([[1] * 10]))
    bench.engine.close()

    assert bench.engine._tokens_per_second > 0


def test_closing_finishes_what_runs_and_answers_what_waits(bench: Bench) -> None:
    running = bench.hold()
    waiting = bench.engine.submit([[1]])

    thread = closing(bench.engine)
    bench.release()

    assert rows(running) == [row_of([0])]
    assert isinstance(error_of(waiting), EngineClosedError)
    thread.join(DEADLINE)
    assert not thread.is_alive()


def test_closing_finishes_both_batches_of_an_asynchronous_device(open_bench: Opener) -> None:
    bench = open_bench(runs_async=True, max_num_seqs=1)
    bench.hold()
    running, queued, waiting = (bench.engine.submit([[n]]) for n in (1, 2, 3))
    bench.runner.allow(1)
    bench.runner.wait_for_batches(3)

    closing(bench.engine)
    bench.release()

    assert (rows(running), rows(queued)) == ([row_of([1])], [row_of([2])])
    assert isinstance(error_of(waiting), EngineClosedError)


def test_closing_twice_and_idle_is_fine(bench: Bench) -> None:
    bench.engine.close()
    bench.engine.close()


def test_a_closed_engine_takes_nothing_and_says_so(bench: Bench) -> None:
    bench.engine.check_health()

    bench.engine.close()

    with pytest.raises(EngineClosedError):
        bench.engine.submit([[1]])
    with pytest.raises(EngineClosedError):
        bench.engine.check_health()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("broken", ["_start", "_answer"])
@pytest.mark.parametrize("runs_async", [False, True])
def test_when_the_engine_itself_breaks_everyone_is_answered_and_health_tells(
    open_bench: Opener, broken: str, *, runs_async: bool
) -> None:
    bench = open_bench(runs_async=runs_async, max_num_seqs=1)
    bench.hold()
    futures = [bench.engine.submit([[n]]) for n in range(4)]
    bench.runner.allow(1)
    bench.runner.wait_for_batches(3 if runs_async else 2)  # some run, some wait

    setattr(bench.engine, broken, None)
    bench.release()

    errors = [future.exception(DEADLINE) for future in futures]
    assert {type(error) for error in errors} <= {type(None), EngineClosedError}
    assert errors[-1] is not None
    bench.engine.close()
    with pytest.raises(EngineClosedError):
        bench.engine.check_health()


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
    with bench.engine._news:  # the canceller waits for it, in the Future's callback
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
    assert len(bench.runner.batches) == num_batches + 1


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
    assert not bench.engine._open
    bench.engine.close()
    assert (len(bench.scheduler), bench.scheduler.num_waiting_tokens) == (0, 0)
    bench.engine._results.check_integrity()


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


LONG = list(range(50))  # more than a batch may hold, in the tests below


@pytest.fixture
def narrow(open_bench: Opener) -> Bench:
    return open_bench(max_num_batched_tokens=10)


def test_short_inputs_run_between_the_steps_of_a_long_one(
    narrow: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "SHARE", 0.0)  # one step at a time
    order: list[str] = []
    short: list[Future[Vectors]] = []

    def on_step(number: int) -> None:
        order.append(f"step {number}")
        if number in (1, 2):
            future = narrow.engine.submit([[number, 7]])
            future.add_done_callback(lambda _: order.append(f"short {number}"))
            short.append(future)

    narrow.runner.num_steps = 5
    narrow.runner.on_step = on_step
    future = narrow.engine.submit([LONG])

    assert future.result(DEADLINE).tolist() == [row_of(LONG)]
    assert order == ["step 0", "step 1", "short 1", "step 2", "short 2", "step 3", "step 4"]
    assert [each.result(DEADLINE).tolist() for each in short] == [[row_of([n, 7])] for n in (1, 2)]


def test_one_long_input_follows_the_other_and_both_are_in_order_of_arrival(narrow: Bench) -> None:
    others = [[number, *LONG] for number in range(3)]
    first_steps: list[int] = []

    def on_step(number: int) -> None:
        if number == 0:
            first_steps.append(len(narrow.runner.batches))

    narrow.runner.num_steps = 3
    narrow.runner.on_step = on_step

    futures = narrow.together(*([ids] for ids in others), [[5]])

    assert [each.result(DEADLINE)[0].tolist() for each in futures[:3]] == [*map(row_of, others)]
    assert futures[3].result(DEADLINE).tolist() == [row_of([5])]
    started = narrow.runner.batches[1:]
    assert [ids for (ids,) in started if len(ids) > 10] == others
    assert started.index([[5]]) == 1  # it need not wait for the first


@pytest.mark.parametrize("failure", FAILURES)
def test_a_long_input_that_fails_is_answered_and_the_next_runs(narrow: Bench, failure: int) -> None:
    bad, good = narrow.engine.submit([[*LONG, failure]]), narrow.engine.submit([LONG])

    with pytest.raises(EngineError, match=r"failed for input 0 \(51 tokens\): ValueError"):
        bad.result(DEADLINE)
    assert good.result(DEADLINE).tolist() == [row_of(LONG)]
    assert narrow.sample("failed_batches_total") == 1


def test_a_long_input_that_is_not_finite_is_computed_again_in_float32(narrow: Bench) -> None:
    text = [*LONG, NAN_ONCE]

    assert narrow.engine.submit([text]).result(DEADLINE).tolist() == [row_of(text)]
    assert narrow.runner.in_float32 == [text]


def test_a_long_input_that_nobody_waits_for_takes_no_further_step(narrow: Bench) -> None:
    steps: list[int] = []

    def on_step(number: int) -> None:
        steps.append(number)
        future.cancel()

    narrow.runner.num_steps = 5
    narrow.runner.on_step = on_step
    narrow.hold()
    future = narrow.engine.submit([LONG])
    after = narrow.engine.submit([[1]])
    narrow.release()

    assert after.result(DEADLINE).tolist() == [row_of([1])]
    assert narrow.engine.submit([[2]]).result(DEADLINE).tolist() == [row_of([2])]
    assert steps == [0]


def test_closing_answers_a_long_input_in_the_middle(narrow: Bench) -> None:
    closing = threading.Thread(target=narrow.engine.close)

    def on_step(number: int) -> None:
        if number == 0:
            closing.start()  # it takes effect between two of the steps

    narrow.runner.num_steps = 1_000_000
    narrow.runner.on_step = on_step
    future = narrow.engine.submit([LONG])

    with pytest.raises(EngineClosedError):
        future.result(DEADLINE)
    closing.join(DEADLINE)
    assert not closing.is_alive()


def test_an_asynchronous_device_takes_a_long_input_at_once(open_bench: Opener) -> None:
    bench = open_bench(runs_async=True, max_num_batched_tokens=10)
    bench.runner.on_step = lambda _: pytest.fail("it has no steps")

    assert bench.engine.submit([LONG]).result(DEADLINE).tolist() == [row_of(LONG)]
