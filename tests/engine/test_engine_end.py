"""The end of an engine, by its owner or by a bug: everyone is answered."""

import pytest

from hexgrid.errors import EngineClosedError, EngineDeadError
from tests.engine.bench import Bench, Opener, closing, error_of, rows
from tests.engine.runners import DEADLINE, row_of


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
    assert {type(error) for error in errors} <= {type(None), EngineDeadError}
    assert errors[-1] is not None
    assert bench.engine.death.result(DEADLINE) == "The engine broke (TypeError)"
    bench.engine.close()
    with pytest.raises(EngineDeadError):
        bench.engine.check_health()
