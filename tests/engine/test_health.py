"""What an engine does when its device, not an input, is at fault: everyone is answered, and health tells."""

import threading
from collections.abc import Callable
from itertools import repeat
from time import monotonic

import pytest

from hexgrid.encoding import Vectors
from hexgrid.engine.protocols import DeviceLostError
from hexgrid.engine.result_store import ResultStore
from hexgrid.errors import (
    EngineClosedError,
    EngineDeadError,
    EngineError,
    EngineUnwellError,
    InputMemoryError,
)
from tests.engine.bench import FAILURES, FORWARD_TIMEOUT, Bench, Opener, error_of, rows
from tests.engine.runners import DEADLINE, NAN_ALWAYS, row_of

LONG = list(range(50))


def ask_until_probed(bench: Bench) -> None:
    """Ask for health, and return when a probe has answered that."""
    count = len(bench.runner.batches)
    with pytest.raises(EngineUnwellError):
        bench.engine.check_health()
    bench.runner.wait_for_batches(count + 1)


def wait_until_well(bench: Bench) -> None:
    """Return when the engine takes requests; each round asks for a probe, which sets the pace."""
    deadline = monotonic() + DEADLINE
    while monotonic() < deadline:
        try:
            bench.engine.check_health()
        except EngineUnwellError:
            continue
        return
    pytest.fail("it does not recover")


@pytest.mark.parametrize("runs_async", [False, True])
def test_a_hung_pass_answers_everyone_at_once(open_bench: Opener, *, runs_async: bool) -> None:
    bench = open_bench(runs_async=runs_async, max_num_seqs=2)
    running = bench.hold()
    joined = bench.engine.submit([[0]])
    waiting = [bench.engine.submit([[n], [n, n]]) for n in range(1, 50)]

    bench.let_pass(FORWARD_TIMEOUT)

    errors = [error_of(future) for future in (running, joined, *waiting)]
    assert {type(error) for error in errors} == {EngineDeadError}
    assert str(errors[0]) == (
        "The engine is stuck: a pass takes longer than --forward-timeout 300 seconds; "
        "the server must be started again"
    )
    assert len({id(error) for error in errors}) == len(errors)
    assert "is stuck" in bench.engine.death.result(0)
    with pytest.raises(EngineDeadError):
        bench.engine.submit([[1]])
    with pytest.raises(EngineDeadError):
        bench.engine.check_health()
    assert (bench.sample("queue_sequences"), bench.sample("queue_tokens")) == (0, 0)
    bench.engine.close()  # it does not wait for the thread that hangs
    with pytest.raises(EngineDeadError):  # and tells no other reason
        bench.engine.check_health()


def test_a_pass_that_is_slow_but_within_its_time_is_answered(bench: Bench) -> None:
    futures = [bench.hold(), bench.engine.submit([[1]])]

    bench.let_pass(FORWARD_TIMEOUT - 1)
    bench.release()

    assert [rows(future) for future in futures] == [[row_of([0])], [row_of([1])]]
    bench.engine.check_health()


def test_an_idle_engine_never_hangs(bench: Bench) -> None:
    rows(bench.engine.submit([[1]]))
    bench.let_pass(1_000 * FORWARD_TIMEOUT)

    assert rows(bench.engine.submit([[2]])) == [row_of([2])]


def test_a_long_pass_may_take_longer_than_one_of_its_steps(open_bench: Opener) -> None:
    bench = open_bench(max_num_batched_tokens=10)
    bench.runner.num_steps = 5
    bench.runner.on_step = lambda _: bench.let_pass(FORWARD_TIMEOUT - 1)

    assert rows(bench.engine.submit([LONG])) == [row_of(LONG)]


def test_a_step_that_hangs_answers_everyone(open_bench: Opener) -> None:
    bench = open_bench(max_num_batched_tokens=10)
    entered, goes_on = threading.Event(), threading.Event()

    def hang(_: int) -> None:
        entered.set()
        assert goes_on.wait(DEADLINE)

    bench.runner.on_step = hang
    long = bench.engine.submit([LONG])
    assert entered.wait(DEADLINE)
    short = bench.engine.submit([[1]])

    bench.let_pass(FORWARD_TIMEOUT)

    assert {type(error_of(future)) for future in (long, short)} == {EngineDeadError}
    goes_on.set()


def test_a_hang_in_float32_has_as_much_time_as_its_tokens_need(open_bench: Opener) -> None:
    bench = open_bench(max_num_batched_tokens=10)
    entered, goes_on = threading.Event(), threading.Event()
    run_float32 = bench.runner.run_float32

    def hang(token_ids: list[list[int]]) -> Vectors:
        entered.set()
        assert goes_on.wait(DEADLINE)
        return run_float32(token_ids)

    bench.runner.run_float32 = hang  # type: ignore[assignment, method-assign]
    future = bench.engine.submit([[*LONG[:-1], NAN_ALWAYS]])
    assert entered.wait(DEADLINE)

    bench.let_pass(5 * FORWARD_TIMEOUT - 1)
    assert not future.done()
    bench.let_pass(1)

    assert type(error_of(future)) is EngineDeadError
    goes_on.set()


def test_a_store_that_hangs_is_a_hang_too(
    open_bench: Opener, open_store: Callable[[], ResultStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, goes_on = threading.Event(), threading.Event()

    def hang(*_: object) -> dict[bytes, Vectors]:
        entered.set()
        assert goes_on.wait(DEADLINE)
        return {}

    store = open_store()
    monkeypatch.setattr(store, "get", hang)
    bench = open_bench(store=store)
    future = bench.engine.submit([[1]])
    assert entered.wait(DEADLINE)

    bench.let_pass(FORWARD_TIMEOUT)

    assert "is stuck" in bench.engine.death.result(0)
    assert type(error_of(future)) is EngineDeadError
    goes_on.set()
    bench.engine._thread.join(DEADLINE)
    store.close()


def test_a_hung_pass_that_ends_after_all_changes_nothing(bench: Bench) -> None:
    running = bench.hold()
    bench.let_pass(FORWARD_TIMEOUT)

    bench.release()
    bench.engine._thread.join(DEADLINE)

    assert not bench.engine._thread.is_alive()
    assert type(error_of(running)) is EngineDeadError
    with pytest.raises(EngineDeadError):
        bench.engine.submit([[1]])


def test_closing_waits_no_longer_than_for_the_hang(bench: Bench) -> None:
    bench.hold()
    thread = threading.Thread(target=bench.engine.close)
    thread.start()

    bench.let_pass(FORWARD_TIMEOUT)

    thread.join(DEADLINE)
    assert not thread.is_alive()


@pytest.mark.parametrize("failure", [*FAILURES, NAN_ALWAYS])
def test_inputs_that_fail_leave_the_engine_ready(bench: Bench, failure: int) -> None:
    for number in range(10):
        assert isinstance(error_of(bench.engine.submit([[failure, number]])), EngineError)
        bench.engine.check_health()

    assert rows(bench.engine.submit([[1]])) == [row_of([1])]


def _raises(error: Exception) -> Callable[[Bench], None]:
    return lambda bench: setattr(bench.runner, "faults", repeat(error))


def _gives_nan(bench: Bench) -> None:
    bench.runner.gives_nan = True


@pytest.mark.parametrize("runs_async", [False, True])
@pytest.mark.parametrize(
    "break_", [_raises(ValueError("x")), _raises(MemoryError("x")), _gives_nan]
)
def test_when_no_pass_works_nobody_is_blamed_or_left_waiting(
    open_bench: Opener, break_: Callable[[Bench], None], *, runs_async: bool
) -> None:
    bench = open_bench(runs_async=runs_async, max_num_seqs=4)
    bench.hold()
    futures = [bench.engine.submit([[n], [n, n]]) for n in range(1, 20)]

    break_(bench)
    bench.release()

    assert {type(error_of(future)) for future in futures} == {EngineUnwellError}
    with pytest.raises(EngineUnwellError, match="No forward pass works at the moment"):
        bench.engine.submit([[1]])
    with pytest.raises(EngineUnwellError):
        bench.engine.check_health()
    assert not bench.engine.death.done()


def test_a_probe_is_run_for_who_asks_until_one_works(bench: Bench) -> None:
    bench.runner.faults = repeat(ValueError("x"))
    error_of(bench.engine.submit([[1]]))
    num_batches = len(bench.runner.batches)
    assert bench.runner.batches == [[[1]], *[[[0]]] * 3]

    ask_until_probed(bench)
    assert len(bench.runner.batches) == num_batches + 1
    bench.runner.faults = iter(())
    wait_until_well(bench)

    assert rows(bench.engine.submit([[1], [2]])) == [row_of([1]), row_of([2])]


def test_a_refused_request_asks_for_a_probe_too(bench: Bench) -> None:
    bench.runner.faults = repeat(ValueError("x"))
    error_of(bench.engine.submit([[1]]))
    count = len(bench.runner.batches)

    with pytest.raises(EngineUnwellError):
        bench.engine.submit([[2]])

    bench.runner.wait_for_batches(count + 1)


@pytest.mark.parametrize("num_failures", [1, 2])
def test_a_probe_that_fails_once_or_twice_is_tried_again(bench: Bench, num_failures: int) -> None:
    bench.runner.faults = iter([ValueError("x")] * (1 + num_failures))

    assert type(error_of(bench.engine.submit([[1]]))) is EngineError

    bench.engine.check_health()
    assert bench.runner.batches == [[[1]], *[[[0]]] * (num_failures + 1)]


def test_closing_an_engine_that_is_unwell_ends(bench: Bench) -> None:
    bench.runner.faults = repeat(ValueError("x"))
    error_of(bench.engine.submit([[1]]))

    bench.engine.close()

    with pytest.raises(EngineClosedError):
        bench.engine.check_health()


@pytest.mark.parametrize("runs_async", [False, True])
def test_a_lost_device_is_the_end(open_bench: Opener, *, runs_async: bool) -> None:
    bench = open_bench(runs_async=runs_async, max_num_seqs=4)
    bench.hold()
    futures = [bench.engine.submit([[n], [n, n]]) for n in range(1, 20)]

    bench.runner.faults = repeat(DeviceLostError("CUDA error: an illegal memory access"))
    bench.release()

    assert {type(error_of(future)) for future in futures} == {EngineDeadError}
    assert bench.engine.death.result(DEADLINE) == "The device is lost"
    with pytest.raises(EngineDeadError):
        bench.engine.submit([[1]])
    bench.engine.close()


def test_a_device_that_was_only_suspected_lost_goes_on(bench: Bench) -> None:
    """Some errors of CUDA are a pass's own: those after it work."""
    bench.runner.faults = iter([DeviceLostError("CUDA error: invalid configuration argument")])

    assert type(error_of(bench.engine.submit([[1]]))) is EngineError

    assert rows(bench.engine.submit([[2]])) == [row_of([2])]


@pytest.mark.parametrize("memory", range(1, 12))
def test_a_batch_that_is_too_large_for_the_memory_is_run_in_parts(
    bench: Bench, memory: int
) -> None:
    inputs = [[n] * (n % 5 + 1) for n in range(1, 20)]
    bench.hold()
    futures = [bench.engine.submit([ids]) for ids in inputs]

    bench.runner.memory = memory
    bench.release()

    for ids, future in zip(inputs, futures, strict=True):
        if len(ids) <= memory:
            assert rows(future) == [row_of(ids)]
        else:
            error = error_of(future)
            assert (type(error), error.index, error.param) == (InputMemoryError, 0, "input")
            assert str(error).startswith(
                f"There is too little memory for input 0 ({len(ids)} tokens) at the moment."
            )
    bench.engine.check_health()


@pytest.mark.parametrize("runs_async", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_who_comes_while_the_engine_dies_is_answered_or_refused(
    open_bench: Opener, seed: int, *, runs_async: bool
) -> None:
    bench = open_bench(runs_async=runs_async, max_num_seqs=3)
    futures = [bench.hold()]
    refused, many = threading.Event(), threading.Event()

    def submit() -> None:
        while not refused.is_set():
            try:
                futures.append(bench.engine.submit([[len(futures)]]))
            except EngineDeadError:
                refused.set()
            if len(futures) > 100 * seed:
                many.set()

    thread = threading.Thread(target=submit)
    thread.start()
    assert many.wait(DEADLINE)
    bench.let_pass(FORWARD_TIMEOUT)
    thread.join(DEADLINE)

    assert refused.is_set()
    assert all(type(error_of(future)) is EngineDeadError for future in futures)
