"""The limits of a connection, over bare sockets: what is refused, how, and that the others are served."""

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest

from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics
from hexgrid.server.connection import MAX_PIPELINED
from tests.server.gated_runner import GatedRunner
from tests.server.running import (
    DEADLINE,
    embed,
    error,
    metric,
    serving,
    serving_one,
    variant,
    vectors,
    wait_for_metric,
    wait_until,
)

LIVE = b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\n"
HEAD = b"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"


@contextmanager
def dial(client: httpx2.Client, receive_buffer: int | None = None) -> Iterator[socket.socket]:
    """A connection of one's own to the client's server."""
    with socket.socket() as connection:
        connection.settimeout(DEADLINE)
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        assert client.base_url.port is not None
        connection.connect((client.base_url.host, client.base_url.port))
        yield connection


def rest(connection: socket.socket) -> bytes:
    """All that comes until the server closes; an abrupt end is one, too."""
    parts = []
    try:
        while part := connection.recv(2**16):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def refusal(answer: bytes) -> dict[str, Any]:
    """The error object of an answer that ends its connection, checked to be of the one shape."""
    head, _, body = answer.partition(b"\r\n\r\n")
    line, *headers = head.decode().split("\r\n")
    named = dict(header.split(": ", 1) for header in headers)
    assert named["connection"] == "close"
    assert int(named["content-length"]) == len(body)
    return error(httpx2.Response(int(line.split()[1]), headers=named, content=body))


def refused(client: httpx2.Client, reason: str) -> float:
    return metric(client, "refused_connections_total", reason=reason)


def rejections(client: httpx2.Client) -> dict[str, float]:
    """How many are counted among all others, by the reason of the error."""
    reasons = ("bad_schema", "url_too_long", "headers_too_large", "client_gone")
    return {reason: metric(client, "rejections_total", reason=reason) for reason in reasons}


def ask(client: httpx2.Client, request: bytes) -> bytes:
    """What a connection answers to `request` until it is closed."""
    with dial(client) as connection:
        connection.sendall(request)
        return rest(connection)


def answer_behind_a_running_one(
    model: ServedModel, runner: GatedRunner, then: bytes, reason: str
) -> bytes:
    """What a connection answers to a request that runs until `then`, sent behind it, is refused."""
    metrics = Metrics()
    body = b'{"input":[1]}'
    first = HEAD + b"content-length: %d\r\n\r\n" % len(body) + body
    with (
        serving([variant(model, metrics, "m", runner=runner)], metrics) as client,
        dial(client) as connection,
    ):
        connection.sendall(first + then)
        runner.wait_until_started(1)
        wait_for_metric(client, "refused_connections_total", 1, reason=reason)
        runner.gate.set()
        answer = rest(connection)
        wait_for_metric(client, "http_requests_in_flight", 1)
    return answer


@pytest.fixture(scope="module")
def narrow(tiny_model: ServedModel) -> Iterator[httpx2.Client]:
    """A server of small limits for what stands before a body."""
    with serving_one(
        tiny_model, max_url_bytes=64, max_num_headers=8, max_header_bytes=256
    ) as client:
        yield client


HEADERS = b"".join(b"h%d: x\r\n" % number for number in range(9))
TOO_MUCH = {
    "many headers": (
        b"GET /live HTTP/1.1\r\n" + HEADERS + b"\r\n",
        431,
        "headers",
        "more than 8 headers",
    ),
    "long headers": (
        b"GET /live HTTP/1.1\r\na: " + b"x" * 200 + b"\r\nb: " + b"x" * 200 + b"\r\n\r\n",
        431,
        "headers",
        "419 or more bytes; at most 256",
    ),
    "one header without an end": (
        b"GET /live HTTP/1.1\r\na: " + b"x" * 2_000_000,
        431,
        "headers",
        "at most 256 are taken",
    ),
    "a header's name without an end": (
        b"GET /live HTTP/1.1\r\n" + b"x" * 2_000_000,
        431,
        "headers",
        "at most 256 are taken",
    ),
    "a long path": (
        b"GET /" + b"x" * 64 + b" HTTP/1.1\r\n\r\n",
        414,
        "url_bytes",
        "65 bytes or more; at most 64",
    ),
    "a long query": (
        b"GET /live?" + b"x" * 60 + b" HTTP/1.1\r\n\r\n",
        414,
        "url_bytes",
        "at most 64",
    ),
    "a path without an end": (b"GET /" + b"x" * 2_000_000, 414, "url_bytes", "at most 64"),
    "endless trailers": (
        HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\na: " + b"x" * 2_000_000,
        431,
        "headers",
        "at most 256",
    ),
    "many trailers": (
        HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\n" + HEADERS,
        431,
        "headers",
        "more than 8 headers",
    ),
    "an endless chunk extension": (
        HEAD + b"transfer-encoding: chunked\r\n\r\n1;a=" + b"x" * 2_000_000,
        431,
        "headers",
        "at most 256",
    ),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400, "malformed", "Invalid HTTP request"),
}


@pytest.mark.parametrize(
    ("request_", "status", "reason", "message"), TOO_MUCH.values(), ids=TOO_MUCH
)
def test_what_is_too_much_is_refused_in_the_one_shape_and_counted(
    narrow: httpx2.Client, request_: bytes, status: int, reason: str, message: str
) -> None:
    before, rejected = refused(narrow, reason), rejections(narrow)

    detail = refusal(ask(narrow, request_))

    assert detail["code"] == status
    assert message in detail["message"]
    assert refused(narrow, reason) == before + 1
    # What comes with a body is the application's already, which sees its client go.
    counted = {400: "bad_schema", 414: "url_too_long", 431: "headers_too_large"}[status]
    counted = "client_gone" if b"chunked" in request_ else counted
    rejected[counted] += 1
    wait_until(lambda: rejections(narrow) == rejected, f"one more is {counted}")


def test_as_much_as_may_be_is_answered(narrow: httpx2.Client) -> None:
    path = b"/" + b"x" * 63
    headers = b"".join(b"h%d: x\r\n" % number for number in range(7)) + b"connection: close\r\n"

    assert ask(narrow, b"GET /live HTTP/1.1\r\n" + headers + b"\r\n").startswith(ANSWER)
    assert b" 404 " in ask(narrow, b"GET " + path + b" HTTP/1.1\r\nconnection: close\r\n\r\n")


def test_trailers_are_no_headers(tiny_model: ServedModel) -> None:
    body = b'd\r\n{"input":"a"}\r\n0\r\ncontent-type: text/plain\r\nx-request-id: t\r\n\r\n'
    with serving_one(tiny_model) as client:
        request = HEAD + b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n" + body
        answer = ask(client, request)

    assert answer.startswith(ANSWER)
    assert b'"id":"embd-t"' not in answer


def test_a_refusal_waits_for_the_answers_before_it(
    tiny_model: ServedModel, runner: GatedRunner
) -> None:
    """Else the first answer would be taken for the second request's."""
    answer = answer_behind_a_running_one(tiny_model, runner, b"GET /" + b"x" * 10_000, "url_bytes")

    assert answer.startswith(ANSWER)
    _, separator, second = answer.partition(b"HTTP/1.1 414 ")
    assert refusal(separator + second)["code"] == 414


def test_pipelined_requests_are_answered_in_order_up_to_a_number(
    tiny_model: ServedModel, runner: GatedRunner
) -> None:
    requests = LIVE * (MAX_PIPELINED + 5)
    answer = answer_behind_a_running_one(tiny_model, runner, requests, "malformed")

    assert answer.count(ANSWER) == 1 + MAX_PIPELINED
    detail = refusal(b"HTTP/1.1 400" + answer.partition(b"HTTP/1.1 400")[2])
    assert f"More than {MAX_PIPELINED} requests" in detail["message"]


def test_a_connection_too_many_gets_503_and_the_others_are_served(tiny_model: ServedModel) -> None:
    with serving_one(tiny_model, max_connections=2) as client:
        assert client.get("/live").status_code == 200  # and keeps its connection
        with dial(client) as second:
            second.sendall(LIVE)
            assert second.recv(2**16).startswith(ANSWER)
            with dial(client) as third:
                detail = refusal(rest(third))
            assert metric(client, "connections") == 2
            assert refused(client, "max_connections") == 1
            second.sendall(LIVE)
            assert second.recv(2**16).startswith(ANSWER)
        wait_for_metric(client, "connections", 1)
        assert ask(client, LIVE[:-2] + b"connection: close\r\n\r\n").startswith(ANSWER)

    assert (detail["code"], detail["type"]) == (503, "ServiceUnavailableError")
    assert "2 connections open" in detail["message"]


def test_of_very_many_connections_too_many_the_last_are_closed_without_a_word(
    tiny_model: ServedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hexgrid.server.connection._MAX_TURNED_AWAY", 0)
    with serving_one(tiny_model, max_connections=1) as client:
        assert client.get("/live").status_code == 200
        with dial(client) as second:
            assert rest(second) == b""
        assert refused(client, "max_connections") == 1


def test_a_connection_that_sends_nothing_is_closed(tiny_model: ServedModel) -> None:
    with serving_one(tiny_model, header_timeout=0.1) as client:
        assert ask(client, b"") == b""
        wait_for_metric(client, "refused_connections_total", 1, reason="header_timeout")


def test_line_ends_alone_are_nothing(tiny_model: ServedModel) -> None:
    with serving_one(tiny_model, header_timeout=0.1) as client:
        assert ask(client, b"\r\n\r\n") == b""


@pytest.mark.parametrize("sent", [b"GET /li", HEAD], ids=["a line", "headers without an end"])
def test_headers_that_do_not_come_are_a_408(tiny_model: ServedModel, sent: bytes) -> None:
    with serving_one(tiny_model, header_timeout=0.1) as client:
        detail = refusal(ask(client, sent))
        assert refused(client, "header_timeout") == 1

    assert (detail["code"], detail["type"]) == (408, "RequestTimeoutError")
    assert "headers did not arrive within 0.1 seconds" in detail["message"]


def test_each_request_of_a_connection_has_the_time_for_its_headers(
    tiny_model: ServedModel,
) -> None:
    with serving_one(tiny_model, header_timeout=0.2) as client, dial(client) as connection:
        connection.sendall(LIVE + b"GET /li")
        answer = rest(connection)

    assert answer.startswith(ANSWER)
    assert refusal(b"HTTP/1.1 408" + answer.partition(b"HTTP/1.1 408")[2])["code"] == 408


def test_the_time_for_headers_ends_when_they_are_there(
    tiny_model: ServedModel, runner: GatedRunner, callers: ThreadPoolExecutor
) -> None:
    metrics = Metrics()
    model = variant(tiny_model, metrics, "m", runner=runner)
    with serving([model], metrics, header_timeout=0.1, keep_alive_timeout=60) as client:
        request = callers.submit(embed, client, [1])
        runner.wait_until_started(1)
        assert ask(client, b"") == b""  # whose time began later
        runner.gate.set()

        vectors(request.result())
        wait_for_metric(client, "refused_connections_total", 1, reason="header_timeout")


@pytest.mark.parametrize(
    ("settings", "reason", "message"),
    [
        ({"body_timeout": 0.1}, "body_timeout", "body did not arrive within 0.1 seconds"),
        (
            {"stall_timeout": 0.1, "min_transfer_rate": 1000},
            "slow_body",
            "9 bytes in 0.1 seconds; at least 1000 a second",
        ),
    ],
    ids=["late", "slow"],
)
def test_a_body_that_does_not_come_is_a_408(
    tiny_model: ServedModel, settings: dict[str, Any], reason: str, message: str
) -> None:
    with serving_one(tiny_model, **settings) as client:
        detail = refusal(ask(client, HEAD + b'content-length: 100\r\n\r\n{"input":'))
        assert refused(client, reason) == 1
        wait_for_metric(client, "http_requests_in_flight", 1)
        assert metric(client, "rejections_total") == 1  # once, whoever notices

    assert (detail["code"], detail["type"]) == (408, "RequestTimeoutError")
    assert message in detail["message"]


def test_a_body_at_the_rate_asked_for_is_taken(tiny_model: ServedModel) -> None:
    """Window after window, each with its share of bytes."""
    body = b'{"input":"a"%s}' % (b" " * 90)
    with (
        serving_one(tiny_model, stall_timeout=0.1, min_transfer_rate=10) as client,
        dial(client) as connection,
    ):
        head = HEAD + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        connection.sendall(head)
        for byte in body[:-1]:
            connection.sendall(bytes([byte]))
            client.get("/live")  # sets the pace
        connection.sendall(body[-1:])

        assert rest(connection).startswith(ANSWER)


def test_a_body_that_waits_behind_another_request_is_not_late(
    tiny_model: ServedModel, runner: GatedRunner
) -> None:
    metrics = Metrics()
    body = b'{"input":[1]}'
    first = HEAD + b"content-length: %d\r\n\r\n" % len(body) + body
    second = HEAD + b'content-length: 100\r\n\r\n{"input":'
    model = variant(tiny_model, metrics, "m", runner=runner)
    with serving([model], metrics, body_timeout=0.2) as client, dial(client) as connection:
        connection.sendall(first + second)
        runner.wait_until_started(1)
        runner.gate.set()
        answer = rest(connection)

    assert answer.startswith(ANSWER)
    assert b"HTTP/1.1 408" in answer


def test_who_leaves_behind_pipelined_requests_leaves_no_work(
    tiny_model: ServedModel, runner: GatedRunner, caplog: pytest.LogCaptureFixture
) -> None:
    """The request that runs is not the last one on its connection."""
    metrics = Metrics()
    body = b'{"input":[1]}'
    first = HEAD + b"content-length: %d\r\n\r\n" % len(body) + body
    model = variant(tiny_model, metrics, "m", runner=runner)
    with serving([model], metrics) as client:
        with dial(client) as connection:
            connection.sendall(first + LIVE + LIVE)
            runner.wait_until_started(1)
        wait_for_metric(client, "http_requests_total", 1, path="/v1/embeddings", status="499")
        runner.gate.set()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_nobody_is_told_to_go_on_after_a_refusal(
    tiny_model: ServedModel, caplog: pytest.LogCaptureFixture
) -> None:
    """The request whose body is refused may not have been looked at yet."""
    head = HEAD + b"expect: 100-continue\r\ntransfer-encoding: chunked\r\n\r\n"
    with serving_one(tiny_model) as client:
        assert refusal(ask(client, head + b"no chunk\r\n"))["code"] == 400
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_an_idle_connection_is_closed(tiny_model: ServedModel) -> None:
    with serving_one(tiny_model, keep_alive_timeout=0.1) as client, dial(client) as connection:
        connection.sendall(LIVE)

        assert rest(connection).startswith(ANSWER)
        assert metric(client, "refused_connections_total") == 0


LARGE = b'{"input":%s,"dimensions":64}' % json.dumps([[i] for i in range(2000)]).encode()


def test_a_client_that_does_not_read_its_answer_is_cut_off(tiny_model: ServedModel) -> None:
    with (
        serving_one(tiny_model, stall_timeout=0.2) as client,
        dial(client, receive_buffer=4096) as connection,
    ):
        head = HEAD + b"content-length: %d\r\n\r\n" % len(LARGE)
        for _ in range(4):  # more than the kernel holds
            connection.sendall(head + LARGE)
        wait_for_metric(client, "refused_connections_total", 1, reason="slow_reader")
        wait_for_metric(client, "connections", 1)


def test_a_client_that_reads_slowly_but_reads_gets_all(tiny_model: ServedModel) -> None:
    with (
        serving_one(
            tiny_model, stall_timeout=0.5, min_transfer_rate=100, keep_alive_timeout=0.1
        ) as client,
        dial(client, receive_buffer=4096) as connection,
    ):
        connection.sendall(HEAD + b"content-length: %d\r\n\r\n" % len(LARGE) + LARGE)
        answer = b""
        while b"\r\n\r\n" not in answer or len(answer) < length_of(answer):
            client.get("/live")  # sets the pace
            answer += connection.recv(20_000)

    assert len(json.loads(answer.partition(b"\r\n\r\n")[2])["data"]) == 2000


def length_of(answer: bytes) -> int:
    """Of the head and the body that it declares."""
    head = answer.partition(b"\r\n\r\n")[0]
    declared = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return len(head) + 4 + int(declared)


def test_a_request_refused_before_its_body_came_leaves_its_connection_usable(
    tiny_model: ServedModel,
) -> None:
    with serving_one(tiny_model, max_body_bytes=10) as client, dial(client) as connection:
        connection.sendall(HEAD + b"content-length: 1000\r\n\r\n")
        assert b" 413 " in connection.recv(2**16)
        connection.sendall(b"x" * 1000 + LIVE)

        assert connection.recv(2**16).startswith(ANSWER)


def test_a_refused_client_may_send_to_its_end_and_then_reads_why(tiny_model: ServedModel) -> None:
    with serving_one(tiny_model, max_url_bytes=64) as client, dial(client) as connection:
        connection.sendall(b"GET /" + b"x" * 100)
        for _ in range(100):
            connection.sendall(b"x" * 2**16)

        assert refusal(rest(connection))["code"] == 414


def test_who_keeps_no_connection_may_send_to_its_end_and_then_reads_the_answer(
    tiny_model: ServedModel,
) -> None:
    body = b"x" * 2**16 * 100
    head = HEAD.replace(b"1.1", b"1.0") + b"content-length: %d\r\n\r\n" % len(body)
    with serving_one(tiny_model, max_body_bytes=10) as client, dial(client) as connection:
        connection.sendall(head)
        for start in range(0, len(body), 2**16):
            connection.sendall(body[start : start + 2**16])

        assert refusal(rest(connection))["code"] == 413
