"""The fuzzer in a few seconds: what is known to be hostile, and some cases that were spoilt at random."""

import json
from pathlib import Path

import pytest

from tests.fuzz import hostile
from tests.fuzz.answers import Answer, MalformedError, fault_of, take
from tests.fuzz.cases import FIRST_SPOILT, light, make_case
from tests.fuzz.hostile import ROUTES
from tests.fuzz.report import growth_percent, log_problems
from tests.fuzz.server import fuzz
from tests.server.running import KEY

_SEED = 7
_NUM_SPOILT = 300
ERROR = b'{"error":{"message":"no","type":"x","param":null,"code":400}}'
SENT = b"GET / HTTP/1.1\r\nauthorization: Bearer " + KEY.encode() + b"\r\n\r\n"


def test_no_request_however_spoilt_harms_the_server_or_other_requests(tmp_path: Path) -> None:
    known = range(len(light()))
    spoilt = range(FIRST_SPOILT, FIRST_SPOILT + _NUM_SPOILT)

    seen = fuzz([*known, *spoilt], _SEED, tmp_path)

    assert [(case.index, case.kind, fault) for case, fault in seen.faults] == []
    assert dict(seen.problems) == {}
    assert seen.num_cases == len(known) + _NUM_SPOILT
    assert seen.num_good > 0


def test_a_case_can_be_made_again_from_its_seed_and_number() -> None:
    numbers = range(FIRST_SPOILT, FIRST_SPOILT + 50)

    assert [make_case(1, each) for each in numbers] == [make_case(1, each) for each in numbers]
    assert [make_case(1, each) for each in numbers] != [make_case(2, each) for each in numbers]


def test_no_hostile_case_is_left_out() -> None:
    assert len(light()) + len(list(hostile.heavy())) < FIRST_SPOILT


def test_hostile_cases_go_to_every_route() -> None:
    assert [path for _, path in ROUTES if not any(b" %s " % path in case for case in light())] == []


@pytest.mark.parametrize(
    "answer",
    [
        Answer(500, {b"content-type": b"application/json"}, ERROR.replace(b"400", b"500")),
        Answer(400, {b"content-type": b"text/plain"}, ERROR),
        Answer(404, {b"content-type": b"application/json"}, ERROR),
        Answer(400, {b"content-type": b"application/json"}, b'{"detail":"no"}'),
        Answer(400, {}, b""),
        Answer(400, {b"content-type": b"application/json"}, ERROR.replace(b"no", KEY.encode())),
        Answer(
            400, {b"content-type": b"application/json"}, ERROR.replace(b"no", b"in /usr/lib/x.py")
        ),
        Answer(307, {b"location": b"//evil.example"}, b""),
        Answer(200, {}, b'{"id":"embd-1","object":"list","data":[{"index":0,"embedding":[null]}]}'),
    ],
    ids=lambda answer: repr(answer.body or answer.headers)[:60],
)
def test_what_must_not_be_answered_is_a_fault(answer: Answer) -> None:
    assert fault_of(answer, SENT)


def test_an_error_of_the_one_shape_is_none() -> None:
    assert fault_of(Answer(400, {b"content-type": b"application/json"}, ERROR), SENT) is None


@pytest.mark.parametrize(
    "answer",
    [b"x\r\n\r\n", b"HTTP/1.1 200 OK\r\nA\r\n\r\n", b"HTTP/1.1 200 OK\r\na: b\r\na: c\r\n\r\n"],
)
def test_what_is_no_answer_is_not_read_as_one(answer: bytes) -> None:
    with pytest.raises(MalformedError):
        take(bytearray(answer))


def test_answers_are_taken_one_after_the_other_and_not_before_they_are_whole() -> None:
    buffer = bytearray(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab"
    )
    last = b"HTTP/1.1 404 Not Found\r\ncontent-length: 3\r\n\r\nxy"
    buffer += last

    assert take(buffer) == Answer(200, {b"content-length": b"2"}, b"ab")
    assert take(buffer) is None
    assert bytes(buffer) == last


@pytest.mark.parametrize(
    "line",
    [
        "no JSON",
        '{"level":"error","message":"x"}',
        '{"level":"info","message":"Traceback (most recent call last)"}',
        json.dumps({"level": "info", "message": KEY}),
    ],
)
def test_what_must_not_be_logged_is_a_problem(line: str) -> None:
    assert log_problems(line)
    assert not log_problems('{"level":"info","message":"POST /v1/embeddings","path":"/"}')


def test_growth_is_that_after_the_warm_up() -> None:
    flat = [(number, 100 if number >= 300 else 50) for number in range(600)]
    growing = [(number, 100 + number) for number in range(600)]

    assert growth_percent(flat) == pytest.approx(0, abs=0.1)
    assert growth_percent(growing) == pytest.approx(74.75, abs=0.1)
    assert growth_percent(flat[:400]) is None
