"""A long input takes turns with short ones, and is answered whatever happens to it."""

import threading
from concurrent.futures import Future

import pytest

from hexgrid.encoding import Vectors
from hexgrid.engine import engine as engine_module
from hexgrid.errors import (
    EngineClosedError,
    EngineError,
)
from tests.engine.bench import FAILURES, Bench, Opener
from tests.engine.runners import (
    DEADLINE,
    NAN_ONCE,
    row_of,
)

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
