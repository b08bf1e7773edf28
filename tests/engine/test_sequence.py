"""Submissions: one Future for all inputs, answered once whatever happens first."""

import numpy as np
import pytest

from hexgrid.engine.sequence import Submission
from hexgrid.errors import EngineError


@pytest.fixture
def submission() -> Submission:
    return Submission([[7], [8, 9]], priority=3, hidden_size=2, submitted_at=0.0)


def row(*numbers: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.array(numbers, np.float32)


def test_each_input_becomes_a_sequence_that_knows_its_place(submission: Submission) -> None:
    first, second = submission.sequences

    assert (first.index, first.num_tokens, first.priority) == (0, 1, 3)
    assert (second.index, second.num_tokens, second.token_ids) == (1, 2, [8, 9])
    assert second.submission is submission


def test_the_last_answer_resolves_all_in_the_order_of_the_inputs(submission: Submission) -> None:
    first, second = submission.sequences

    second.answer(row(3, 4))
    assert not submission.future.done()
    first.answer(row(1, 2))

    assert submission.future.result(0).tolist() == [[1, 2], [3, 4]]


def test_an_answer_is_copied(submission: Submission) -> None:
    hidden = row(1, 2)

    for sequence in submission.sequences:
        sequence.answer(hidden)
    hidden.fill(0)

    assert submission.future.result(0).tolist() == [[1, 2], [1, 2]]


def test_one_failure_fails_all_and_the_first_one_counts(submission: Submission) -> None:
    first, second = submission.sequences

    first.answer(row(1, 2))
    second.fail(EngineError("first"))
    second.fail(EngineError("second"))

    assert str(submission.future.exception(0)) == "first"
    assert first.done
    assert second.done


def test_answers_and_errors_after_cancelling_are_dropped(submission: Submission) -> None:
    first, second = submission.sequences
    submission.future.cancel()

    first.answer(row(1, 2))
    second.answer(row(3, 4))
    second.fail(EngineError("late"))

    assert submission.future.cancelled()
    assert first.done
