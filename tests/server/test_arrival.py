"""The times of a connection, over bare sockets: how long a request may arrive and an answer lie unread."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics
from tests.server.gated_runner import GatedRunner
from tests.server.raw_http import ANSWER, HEAD, LIVE, ask, dial, refusal, refused, rest
from tests.server.running import (
    embed,
    metric,
    serving,
    serving_one,
    variant,
    vectors,
    wait_for_metric,
)


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
