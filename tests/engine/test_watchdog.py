"""A call that takes too long is noticed at its deadline and not before, whatever clocks do."""

import math
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hexgrid.engine.watchdog import CallTimer, Watchdog
from tests.engine.runners import DEADLINE

TIMEOUT = 10.0


def test_a_call_is_a_hang_at_its_deadline_and_not_before() -> None:
    timer = CallTimer(TIMEOUT, now=100.0)
    timer.begin(103.0)

    assert timer.look(110.0) == 3.0
    assert timer.look(113.0) == 0.0


def test_a_call_that_is_over_is_none() -> None:
    timer = CallTimer(TIMEOUT, now=100.0)
    timer.begin(103.0)
    timer.end()

    assert timer.look(110.0) == TIMEOUT
    assert timer.look(120.0) == TIMEOUT


@pytest.mark.parametrize(("num_batches", "seconds"), [(0.01, 10), (1, 10), (2.5, 25), (32, 320)])
def test_a_call_of_more_tokens_may_take_longer(num_batches: float, seconds: float) -> None:
    timer = CallTimer(TIMEOUT, now=0.0)
    timer.begin(0.0, num_batches)

    waited = 0.0
    while wait := timer.look(waited):
        waited += wait

    assert waited == seconds


def test_time_in_which_the_process_stood_still_does_not_count() -> None:
    timer = CallTimer(TIMEOUT, now=0.0)
    timer.begin(2.0)
    assert timer.look(10.0) == 2.0

    # It was to look again at 12, but was stopped, or its machine suspended, until then.
    assert timer.look(1_010.0) == 2.0
    assert timer.look(1_012.0) == 0.0


def test_a_watchdog_that_is_late_by_less_does_not_let_go() -> None:
    timer = CallTimer(TIMEOUT, now=0.0)
    timer.begin(2.0)

    assert timer.look(10.9) == pytest.approx(1.1)
    assert timer.look(12.9) == 0.0


@given(
    st.lists(
        st.tuples(
            st.floats(0, 50),  # idle before it
            st.floats(0, 40),  # seconds that it takes
            st.floats(0, 3),  # batches' worth of tokens
        ),
        min_size=1,
        max_size=20,
    )
)
def test_of_any_calls_the_first_that_takes_too_long_is_found(
    calls: list[tuple[float, float, float]],
) -> None:
    """The watchdog looks exactly when it said that it would."""
    timer = CallTimer(TIMEOUT, now=0.0)
    next_look, now = timer.look(0.0), 0.0

    def look_until(moment: float) -> bool:
        nonlocal next_look
        while next_look <= moment:
            wait = timer.look(next_look)
            if wait == 0:
                return True
            next_look += wait
        return False

    for idle, seconds, num_batches in calls:
        assert not look_until(now + idle)
        now += idle
        timer.begin(now, num_batches)
        bound = TIMEOUT * max(1.0, num_batches)
        assert not look_until(now + min(seconds, bound) * (1 - 1e-9) - 1e-9)
        if seconds > bound + 1e-6:
            assert look_until(now + bound + 1e-6)
            return
        now += seconds
        timer.end()


def test_the_thread_tells_of_a_hang_once() -> None:
    told = threading.Semaphore(0)
    watchdog = Watchdog(0.01, told.release)

    with watchdog.watching():
        assert told.acquire(timeout=DEADLINE)
        watchdog._thread.join(DEADLINE)
        assert watchdog.look() == 0

    assert not watchdog._thread.is_alive()
    assert not told.acquire(blocking=False)


def test_the_thread_ends_when_it_is_closed_whatever_the_timeout() -> None:
    for timeout in (300.0, math.inf):
        watchdog = Watchdog(timeout, lambda: pytest.fail("nothing hangs"))
        watchdog.close()
        assert not watchdog._thread.is_alive()


def test_who_closes_it_may_be_told_of_the_hang() -> None:
    closed = threading.Event()

    def close() -> None:
        watchdog.close()
        closed.set()

    watchdog = Watchdog(0.01, close)
    with watchdog.watching():
        assert closed.wait(DEADLINE)
