"""How much may wait for the engine, and how long it says that takes."""

import pytest

from hexgrid.errors import OverloadedError
from tests.engine.bench import Bench, Opener, rows
from tests.engine.runners import row_of


def test_cancelling_drops_what_has_not_run_and_gives_its_room_back(bench: Bench) -> None:
    bench.hold()
    cancelled = bench.engine.submit([[1, 2], [3]])
    kept = bench.engine.submit([[4]])

    assert cancelled.cancel()

    assert bench.sample("queue_tokens") == 1
    bench.release()
    assert rows(kept) == [row_of([4])]
    assert bench.runner.batches == [[[0]], [[4]]]


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
    bench.engine._admission.tokens_per_second = tokens_per_second

    with pytest.raises(OverloadedError) as caught:
        bench.engine.submit([[1]])

    assert caught.value.retry_after == expected


def test_the_token_rate_is_measured(bench: Bench) -> None:
    rows(bench.engine.submit([[1] * 10]))
    bench.engine.close()

    assert bench.engine._admission.tokens_per_second > 0
