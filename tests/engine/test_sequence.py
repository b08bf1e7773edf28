"""Submissions: one Future for all inputs, answered once whatever happens first."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hexgrid.engine.sequence import (
    NO_SALT,
    Place,
    Sequence,
    Submission,
    TimedFuture,
    key_of,
    salt_of,
)
from hexgrid.errors import EngineError

Ids = st.lists(st.integers(0, 2**20), max_size=6)


def make(num_inputs: int, *, priority: int = 3) -> Submission:
    return Submission(num_inputs, priority=priority, hidden_size=2, submitted_at=0.0)


def waiting_for(submission: Submission) -> list[Sequence]:
    """A sequence for each input."""
    return [
        Sequence([position], key_of([position]), Place(submission, position))
        for position in range(len(submission.vectors))
    ]


@pytest.fixture
def submission() -> Submission:
    return make(2)


def row(*numbers: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.array(numbers, np.float32)


def at(index: int) -> EngineError:
    return EngineError(f"input {index}")


parts = st.tuples(st.none() | st.text(max_size=3), st.none() | st.text(max_size=3))


@given(parts, parts)
def test_salts_are_equal_for_equal_parts_and_no_others(
    one: tuple[str | None, str | None], other: tuple[str | None, str | None]
) -> None:
    assert (salt_of(*one) == salt_of(*other)) == (one == other)
    assert (salt_of(*one) == NO_SALT) == (one == (None, None))


@given(Ids, parts, parts)
def test_keys_of_different_salts_differ(
    ids: list[int], one: tuple[str | None, str | None], other: tuple[str | None, str | None]
) -> None:
    assert (key_of(ids, salt_of(*one)) == key_of(ids, salt_of(*other))) == (one == other)


@given(Ids, Ids)
def test_keys_are_equal_for_equal_ids_and_no_others(one: list[int], other: list[int]) -> None:
    assert (key_of(one) == key_of(other)) == (one == other)


def test_a_sequence_has_the_priority_of_the_submission_it_was_made_for() -> None:
    sequence = Sequence([8, 9], key_of([8, 9]), Place(make(1, priority=3), 0))
    sequence.wait_at(Place(make(1, priority=5), 0))

    assert (sequence.num_tokens, sequence.priority) == (2, 3)


def test_a_more_urgent_submission_takes_along_only_who_still_waits() -> None:
    gone, waiting, urgent = make(1), make(1), make(1, priority=1)
    (sequence,) = waiting_for(gone)
    sequence.wait_at(Place(waiting, 0))
    gone.future.cancel()

    moved = sequence.moved_up(Place(urgent, 0))

    assert moved.priority == 1
    assert moved.places == [Place(urgent, 0), Place(waiting, 0)]
    assert moved not in gone.sequences


def test_the_last_answer_resolves_all_in_the_order_of_the_inputs(submission: Submission) -> None:
    first, second = waiting_for(submission)

    second.answer(row(3, 4))
    assert not submission.future.done()
    first.answer(row(1, 2))

    assert submission.future.result(0).tolist() == [[1, 2], [3, 4]]


def test_a_sequence_answers_at_every_place_that_waits() -> None:
    one, other = make(2), make(1)
    sequence = Sequence([7], key_of([7]), Place(one, 1))
    sequence.wait_at(Place(other, 0))
    sequence.wait_at(Place(one, 0))

    sequence.answer(row(1, 2))

    assert one.future.result(0).tolist() == [[1, 2], [1, 2]]
    assert other.future.result(0).tolist() == [[1, 2]]


def test_an_answer_is_copied(submission: Submission) -> None:
    hidden = row(1, 2)

    for sequence in waiting_for(submission):
        sequence.answer(hidden)
    hidden.fill(0)

    assert submission.future.result(0).tolist() == [[1, 2], [1, 2]]


def test_one_failure_fails_all_and_the_first_one_counts(submission: Submission) -> None:
    first, second = waiting_for(submission)

    first.answer(row(1, 2))
    second.fail(at)
    first.fail(at)

    assert str(submission.future.exception(0)) == "input 1"
    assert first.done
    assert second.done


def test_each_place_gets_the_error_with_its_own_index() -> None:
    one, other = make(4), make(1)
    sequence = Sequence([7], key_of([7]), Place(one, 3))
    sequence.wait_at(Place(other, 0))

    sequence.fail(at)

    assert str(one.future.exception(0)) == "input 3"
    assert str(other.future.exception(0)) == "input 0"


def test_a_sequence_is_done_only_when_nobody_waits_for_it() -> None:
    one, other = make(1), make(1)
    sequence = Sequence([7], key_of([7]), Place(one, 0))
    sequence.wait_at(Place(other, 0))

    one.future.cancel()
    assert not sequence.done
    other.future.cancel()
    assert sequence.done


def test_answers_and_errors_after_cancelling_are_dropped(submission: Submission) -> None:
    first, second = waiting_for(submission)
    submission.future.cancel()

    first.answer(row(1, 2))
    second.answer(row(3, 4))
    second.fail(at)

    assert submission.future.cancelled()
    assert first.done


Intervals = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)).map(sorted), max_size=8)


@given(Intervals)
def test_times_in_which_several_inputs_run_at_once_count_once(intervals: list[list[int]]) -> None:
    future = TimedFuture(0)
    for start, end in sorted(intervals, key=lambda each: each[1]):
        future.note_run(start, end)

    last = max((end for _, end in intervals), default=0)
    running = {t for start, end in intervals for t in range(start, end)}
    # Told in the order of their ends, a time before the last end that was told cannot be added any more.
    assert future.forward_seconds <= len(running)
    assert future.forward_seconds + future.queue_seconds == last


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), max_size=8))
def test_batches_one_after_the_other_add_up(steps: list[tuple[int, int]]) -> None:
    future, now = TimedFuture(5.0), 5.0
    for waited, ran in steps:
        future.note_run(now + waited, now + waited + ran)
        now += waited + ran

    assert future.forward_seconds == sum(ran for _, ran in steps)
    assert future.queue_seconds == sum(waited for waited, _ in steps)


def test_what_ran_before_the_submission_does_not_count() -> None:
    future = TimedFuture(10.0)

    future.note_run(4.0, 12.0)  # it joined an equal input that ran

    assert (future.forward_seconds, future.queue_seconds) == (2.0, 0.0)


def test_every_submission_that_waits_is_told_when_a_sequence_ran() -> None:
    one, other = make(2), make(1)
    sequence = Sequence([7], key_of([7]), Place(one, 1))
    sequence.wait_at(Place(other, 0))
    sequence.wait_at(Place(one, 0))

    sequence.note_run(2.0, 3.0)

    for submission in (one, other):
        assert (submission.future.queue_seconds, submission.future.forward_seconds) == (2.0, 1.0)


def test_inputs_that_were_at_hand_are_counted_where_they_stand() -> None:
    one, other = make(2), make(1)
    sequence = Sequence([7], key_of([7]), Place(one, 1))
    sequence.wait_at(Place(other, 0))
    sequence.wait_at(Place(one, 0))

    sequence.note_cached(4.0)

    assert (one.future.num_cached, other.future.num_cached) == (2, 1)
    assert (one.future.queue_seconds, one.future.forward_seconds) == (4.0, 0.0)
