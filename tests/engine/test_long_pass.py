"""A long input's steps: as many as fit into the time that it is given, and at least one."""

from collections.abc import Generator

import numpy as np
import pytest

from hexgrid.encoding import Vectors
from hexgrid.engine import long_pass
from hexgrid.engine.long_pass import LongPass
from hexgrid.engine.sequence import Place, Sequence, Submission

HIDDEN = np.ones((1, 4), np.float32)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, as its only item; a step takes one second of it."""
    time = [0.0]
    monkeypatch.setattr(long_pass, "perf_counter", lambda: time[0])
    return time


def of_steps(clock: list[float], num_steps: int) -> LongPass:
    def steps() -> Generator[None, None, Vectors]:
        for _ in range(num_steps):
            clock[0] += 1
            yield
        clock[0] += 1
        return HIDDEN

    submission = Submission(1, priority=0, hidden_size=4, submitted_at=0.0)
    return LongPass(Sequence([1], b"", Place(submission, 0)), steps())


def test_it_takes_steps_until_its_time_is_over(clock: list[float]) -> None:
    long = of_steps(clock, 10)

    assert long.advance(2.5) is None
    assert long.seconds == 3.0
    clock[0] += 100.0  # others run
    assert long.advance(0.0) is None
    assert long.seconds == 4.0


def test_it_ends_with_the_hidden_states(clock: list[float]) -> None:
    long = of_steps(clock, 2)

    assert long.advance(1.0) is None
    assert long.advance(100.0) is HIDDEN
    assert long.seconds == 3.0


def test_it_takes_no_further_step_for_nobody(clock: list[float]) -> None:
    long = of_steps(clock, 10)
    (place,) = long.sequence.places
    place.submission.future.cancel()

    assert long.advance(100.0) is None
    assert long.seconds == 1.0
