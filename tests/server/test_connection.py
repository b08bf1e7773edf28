"""The limits of a connection, over bare sockets: what is refused, how, and that the others are served."""

from collections.abc import Iterator

import httpx2
import pytest

from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics
from hexgrid.server.connection import MAX_PIPELINED
from tests.server.gated_runner import GatedRunner
from tests.server.raw_http import ANSWER, HEAD, LIVE, TOO_MUCH, ask, dial, refusal, refused, rest
from tests.server.running import metric, serving, serving_one, variant, wait_for_metric, wait_until


def rejections(client: httpx2.Client) -> dict[str, float]:
    """How many are counted among all others, by the reason of the error."""
    reasons = ("bad_schema", "url_too_long", "headers_too_large", "client_gone")
    return {reason: metric(client, "rejections_total", reason=reason) for reason in reasons}


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
