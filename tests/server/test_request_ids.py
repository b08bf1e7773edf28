"""The id of a request: in its answer, in its line, and in the traceback of what went wrong."""

import json
from dataclasses import replace

import pytest

from hexgrid.config.settings import Secret
from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics, ModelMetrics
from tests.server.access_logs import OWN_ID, Log, logged
from tests.server.gated_runner import GatedRunner
from tests.server.running import (
    KEY,
    connect,
    embed,
    error,
    post_bytes,
    variant,
)
from tests.server.test_errors import BrokenEngine, FailingRunner


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/version", 200),
        ("GET", "/live", 200),
        ("GET", "/nope", 404),
        ("GET", "/v1/embeddings", 405),
        ("POST", "/v1/embeddings", 400),
        ("POST", "/v1/embeddings/", 307),
    ],
)
def test_every_answer_carries_the_id_of_its_line(
    tiny_model: ServedModel, method: str, path: str, status: int
) -> None:
    with logged(tiny_model, log_level="debug") as (client, log):
        answer = client.request(method, path)

    assert answer.status_code == status
    assert OWN_ID.fullmatch(answer.headers["x-request-id"])
    assert log.line()["request_id"] == answer.headers["x-request-id"]


def test_refusals_of_the_middlewares_carry_the_id(tiny_model: ServedModel) -> None:
    metrics, runner = Metrics(), GatedRunner()
    log = Log(
        variant(tiny_model, metrics, "m", runner=runner),
        metrics,
        api_key=(Secret(KEY),),
        request_timeout=0.05,
    )
    with log.server as client:
        answers = [
            client.get("/version", headers={"x-request-id": "first"}),
            client.post(
                "/v1/embeddings",
                json={"input": [[1]]},
                headers={"authorization": f"Bearer {KEY}", "x-request-id": "second"},
            ),
        ]
        runner.gate.set()

    assert [(a.status_code, a.headers["x-request-id"]) for a in answers] == [
        (401, "first"),
        (504, "second"),
    ]
    assert [(line["request_id"], line["error"]) for line in log.lines()] == [
        ("first", "AuthenticationError"),
        ("second", "GatewayTimeoutError"),
    ]


@pytest.mark.parametrize(
    "given", ["mine", "a" * 128, "Root=1-67891233-abcdef01", "req_1:2/3+4@5~6|7."]
)
def test_a_clients_id_is_taken_over(tiny_model: ServedModel, given: str) -> None:
    with logged(tiny_model) as (client, log):
        answer = post_bytes(client, b'{"input":"a"}', x_request_id=given)

    assert answer.headers["x-request-id"] == given
    assert answer.json()["id"] == f"embd-{given}"
    assert log.line()["request_id"] == given


@pytest.mark.parametrize(
    "given", ["", "a" * 129, "two words", "a\tb", 'a"b', "a\\nb", "<b>", "m\xfcde", "a,b", "a;b"]
)
def test_a_clients_id_that_could_act_somewhere_is_replaced(
    tiny_model: ServedModel, given: str
) -> None:
    with logged(tiny_model) as (client, log):
        connection = connect(client)
        headers: dict[str, str | bytes] = {
            "content-type": "application/json",
            "x-request-id": given.encode("latin-1"),
        }
        connection.request("POST", "/v1/embeddings", b'{"input":"a"}', headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
        connection.close()

    own = response.getheader("x-request-id")
    assert OWN_ID.fullmatch(own or "")
    assert answer["id"] == f"embd-{own}"
    assert log.line()["request_id"] == own


def test_the_id_in_the_body_names_the_answer_and_not_the_request(tiny_model: ServedModel) -> None:
    with logged(tiny_model) as (client, _):
        answer = embed(client, "a", request_id="theirs")

    assert answer.json()["id"] == "embd-theirs"
    assert OWN_ID.fullmatch(answer.headers["x-request-id"])


def test_two_requests_have_two_ids(tiny_model: ServedModel) -> None:
    with logged(tiny_model) as (client, _):
        ids = {client.get("/version").headers["x-request-id"] for _ in range(20)}

    assert len(ids) == 20


def test_a_bug_is_a_500_with_an_id_and_its_traceback_has_the_same(tiny_model: ServedModel) -> None:
    metrics = Metrics()
    model = replace(tiny_model, engine=BrokenEngine(), metrics=ModelMetrics(metrics, "tiny"))
    log = Log(model, metrics)
    with log.server as client:
        answer = post_bytes(client, b'{"input":"a"}', x_request_id="mine")

    assert (answer.status_code, answer.headers["x-request-id"]) == (500, "mine")
    assert error(answer)["type"] == "InternalServerError"
    (line,) = log.lines("hexgrid.server.request_middleware")
    assert (line["level"], line["request_id"]) == ("error", "mine")
    assert "KeyError: ('secret insides'" in line["exception"]
    assert (log.line()["status"], log.line()["error"]) == (500, "InternalServerError")
    assert log.text.count("Traceback") == 1


def test_the_traceback_of_a_failed_pass_has_the_requests_id(tiny_model: ServedModel) -> None:
    metrics, runner = Metrics(), FailingRunner(ValueError)
    runner.gate.set()
    log = Log(variant(tiny_model, metrics, "m", runner=runner), metrics)
    with log.server as client:
        post_bytes(client, b'{"input":[13]}', x_request_id="mine")

    (line,) = log.lines("hexgrid.server.errors")
    assert line["request_id"] == "mine"
    assert "ValueError: secret insides" in line["exception"]
