"""When an upstream is used: every rule of the breaker, on a clock of plain numbers."""

from hexgrid.upstream.breaker import Breaker


def closed() -> Breaker:
    breaker = Breaker()
    breaker.question_worked()
    return breaker


def test_nothing_goes_through_until_the_first_question_is_answered() -> None:
    breaker = Breaker()
    assert breaker.state == "half-open"

    breaker.question_worked()

    assert (breaker.state, breaker.is_down) == ("closed", False)


def test_a_failed_call_leads_to_a_question_at_once() -> None:
    breaker = closed()

    breaker.call_failed(100.0)

    assert (breaker.state, breaker.is_down) == ("half-open", False)


def test_calls_that_fail_together_are_one_failure() -> None:
    breaker = closed()

    for _ in range(10):
        breaker.call_failed(100.0)

    assert breaker.state == "half-open"


def test_waits_double_up_to_half_a_minute() -> None:
    breaker = Breaker()
    waits = []
    for now in range(0, 1000, 100):
        breaker.question_failed(float(now))
        assert (breaker.state, breaker.is_down) == ("open", True)
        waits.append(breaker.opens_until - now)
        breaker.wait_is_over()
        assert (breaker.state, breaker.is_down) == ("half-open", True)

    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30]


def test_who_answers_questions_but_fails_at_work_is_left_alone() -> None:
    breaker = closed()
    states = []
    for _ in range(4):
        breaker.call_failed(0.0)
        states.append(breaker.state)
        breaker.question_worked()

    assert states == ["half-open", "half-open", "open", "open"]
    assert breaker.opens_until == 4


def test_only_a_good_call_forgets_failures() -> None:
    breaker = closed()
    for _ in range(2):
        breaker.call_failed(0.0)
        breaker.question_worked()

    breaker.call_worked()
    breaker.call_failed(0.0)

    assert breaker.state == "half-open"
