"""Which failures are met by another try, when, and how often; a conversation is held without a network."""

import email.utils
import time
from typing import Any

import pytest

from hexgrid.client.exchange import Reply, Request, Wait, exchange
from hexgrid.errors import (
    DeadlineError,
    HexgridError,
    RateLimitedError,
    RemoteError,
    RequestError,
    UnreachableError,
)

REQUEST = Request("/embeddings", b"{}")
GOOD = Reply(200, {}, b"vectors")
GONE = UnreachableError("gone")


def refusal(status: int, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, named, b'{"error": {"message": "no", "type": "t", "code": 1}}')


def held(*events: Reply | HexgridError, max_retries: int = 5) -> tuple[Reply, list[float]]:
    """What an exchange that meets these events ends with, and the seconds that it waited."""
    conversation = exchange(REQUEST, url="http://u/v1", max_retries=max_retries)
    waits: list[float] = []
    coming = iter(events)
    wanted: Any = conversation.send(None)
    while True:
        try:
            if isinstance(wanted, Wait):
                waits.append(wanted.seconds)
                wanted = conversation.send(None)
                continue
            assert wanted == REQUEST
            event = next(coming)
            throws = isinstance(event, HexgridError)
            wanted = conversation.throw(event) if throws else conversation.send(event)  # type: ignore[arg-type]
        except StopIteration as end:
            assert next(coming, None) is None
            return end.value, waits


def test_a_good_answer_is_taken_at_once() -> None:
    assert held(GOOD) == (GOOD, [])


@pytest.mark.parametrize(
    "failure",
    [*map(refusal, [429, 502, 503, 504]), GONE, DeadlineError("late")],
    ids=lambda failure: str(getattr(failure, "status", failure)),
)
def test_what_may_pass_is_waited_out(failure: Reply | HexgridError) -> None:
    reply, waits = held(failure, failure, GOOD)

    assert reply == GOOD
    assert len(waits) == 2


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 413, 422, 500, 501])
def test_what_will_not_pass_is_told_at_once(status: int) -> None:
    with pytest.raises((RequestError, RemoteError)):
        held(refusal(status))


@pytest.mark.parametrize("status", [500, 503])
def test_an_input_that_failed_is_not_tried_again(status: int) -> None:
    with pytest.raises(HexgridError) as caught:
        held(refusal(status, x_hexgrid_index="3"))

    assert caught.value.index == 3


def test_the_last_failure_is_raised_when_all_tries_are_used_up() -> None:
    with pytest.raises(RateLimitedError, match="no"):
        held(GONE, refusal(503), refusal(429, retry_after="7"), max_retries=2)
    with pytest.raises(UnreachableError, match="gone"):
        held(GONE, max_retries=0)


def test_pauses_grow_and_are_not_alike() -> None:
    runs = [held(*[GONE] * 9, GOOD, max_retries=9)[1] for _ in range(20)]

    for number, pauses in enumerate(zip(*runs, strict=True)):
        most = min(0.5 * 2**number, 60)
        assert len(set(pauses)) > 1
        assert all(most / 2 <= pause <= most for pause in pauses)


def test_the_server_is_not_asked_sooner_than_it_says() -> None:
    for _ in range(20):
        (pause,) = held(refusal(429, retry_after="7"), GOOD)[1]
        assert 7 <= pause <= 7.25


def test_a_servers_word_does_not_stop_us_for_hours() -> None:
    (pause,) = held(refusal(429, retry_after="86400"), GOOD)[1]

    assert 60 <= pause <= 61


def test_the_server_may_name_a_date() -> None:
    date = email.utils.formatdate(time.time() + 30, usegmt=True)

    (pause,) = held(refusal(503, retry_after=date), GOOD)[1]

    assert 20 < pause < 31


@pytest.mark.parametrize("said", ["soon", "", "-5", "1.5e9", "Mon, 99 Foo"])
def test_a_word_that_is_none_is_passed_over(said: str) -> None:
    (pause,) = held(refusal(503, retry_after=said), GOOD)[1]

    assert 0.25 <= pause <= 0.5
