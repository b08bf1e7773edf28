"""One line a request: what it says, what it must not say, and the id that answer and log share."""

import io
import json
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from hexgrid.encoding import Vectors
from hexgrid.engine.sequence import NO_SALT, Salt
from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics, ModelMetrics
from hexgrid.server.key_store import KeyStore, Limits
from hexgrid.settings import Secret
from hexgrid.wire import TokenIds
from tests.server.gated_runner import GatedRunner
from tests.server.running import (
    DEADLINE,
    KEY,
    connect,
    embed,
    error,
    post_bytes,
    serving,
    variant,
)
from tests.server.test_errors import BrokenEngine, FailingRunner
from tests.server.test_log_writer import Reader

TEXT = "nobody's business"
OWN_ID = re.compile(r"[0-9a-f]{16}")


class Log:
    """A server with a log, and after its end the lines of that."""

    def __init__(self, model: ServedModel, metrics: Metrics, **settings: Any) -> None:
        self._stream = io.StringIO()
        settings = {"log_format": "json"} | settings
        self.server = serving([model], metrics, self._stream, **settings)

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    def lines(self, logger: str = "hexgrid.access") -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.text.splitlines()]
        return [line for line in found if line["logger"] == logger]

    def line(self) -> dict[str, Any]:
        (line,) = self.lines()
        return line


@contextmanager
def logged(model: ServedModel, **settings: Any) -> Iterator[tuple[httpx2.Client, Log]]:
    """A server of `tiny`, a client of it, and its log."""
    metrics = Metrics()
    log = Log(variant(model, metrics, "tiny"), metrics, **settings)
    with log.server as client:
        yield client, log


def test_a_request_is_one_line_that_says_what_an_operator_asks_for(
    tiny_model: ServedModel,
) -> None:
    with logged(tiny_model) as (client, log):
        embed(client, [[1, 2, 3], [4, 5]], truncate_prompt_tokens=2)

    line = log.line()
    times = {name: line.pop(name) for name in ("duration_ms", "queue_ms", "forward_ms")}
    assert OWN_ID.fullmatch(line.pop("request_id"))
    assert line.pop("time")
    assert line == {
        "level": "info",
        "logger": "hexgrid.access",
        "message": "POST /v1/embeddings 200",
        "method": "POST",
        "path": "/v1/embeddings",
        "status": 200,
        "model": "tiny",
        "inputs": 2,
        "tokens": 4,
        "truncated": 1,
        "cached": 0,
    }
    assert times["duration_ms"] >= times["queue_ms"] + times["forward_ms"] > 0


def test_in_text_it_is_one_line_too(tiny_model: ServedModel) -> None:
    with logged(tiny_model, log_format="console") as (client, log):
        embed(client, "a")

    (line,) = [line for line in log.text.splitlines() if "hexgrid.access" in line]
    assert re.search(
        r" INFO    hexgrid\.access: POST /v1/embeddings 200 request_id=\w{16} duration_ms=[\d.]+ "
        r"queue_ms=[\d.]+ forward_ms=[\d.]+ model=tiny inputs=1 tokens=2 truncated=0 cached=0$",
        line,
    )


@pytest.mark.parametrize(
    ("inputs", "fields", "kind"),
    [
        (TEXT, {"dimensions": 0}, "BadRequestError"),
        ({TEXT: 1}, {}, "Bad Request"),
        (TEXT, {"model": "nope"}, "NotFoundError"),
    ],
    ids=["value", "schema", "model"],
)
def test_an_error_is_told_by_its_type_and_without_the_text(
    tiny_model: ServedModel, inputs: object, fields: dict[str, object], kind: str
) -> None:
    with logged(tiny_model, log_level="debug") as (client, log):
        answer = embed(client, inputs, **fields)

    assert (log.line()["status"], log.line()["error"]) == (answer.status_code, kind)
    assert TEXT not in log.text


def test_the_name_of_a_stored_key_is_told_and_nothing_of_any_key(
    tiny_model: ServedModel, tmp_path: Path
) -> None:
    store = tmp_path / "keys.sqlite3"
    key = KeyStore(store).create("search team", Limits())
    with logged(tiny_model, key_store=store, api_key=(Secret(KEY),), log_level="debug") as (
        client,
        log,
    ):
        for each in (key, KEY, key[:-1], "hg_wrong"):
            client.get("/version", headers={"authorization": f"Bearer {each}"})

    assert [(line["status"], line.get("key")) for line in log.lines()] == [
        (200, "search team"),
        (200, None),
        (401, None),
        (401, None),
    ]
    assert key.split("_")[1] not in log.text
    assert KEY not in log.text
    assert "hg_" not in log.text


@pytest.mark.parametrize("path", ["/health", "/ping", "/live", "/ready", "/metrics"])
def test_probes_are_logged_at_debug_level_only(tiny_model: ServedModel, path: str) -> None:
    found = []
    for level in ("info", "debug"):
        with logged(tiny_model, log_level=level) as (client, log):
            client.get(path)
        found.append([(line["path"], line["level"]) for line in log.lines()])

    assert found == [[], [(path, "debug")]]


@pytest.mark.parametrize(
    "target",
    ["/nope", "/v1/embeddings/", "/v1/embeddings%0aforged", "/\x1b[31m", "/v1/embeddings?a=b%0a"],
)
@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_path_is_told_only_if_it_is_one_of_ours_and_never_its_query(
    tiny_model: ServedModel, target: str, log_format: str
) -> None:
    with logged(tiny_model, log_format=log_format) as (client, log):
        connection = connect(client)
        connection.putrequest("GET", "/")
        connection._buffer[0] = f"GET {target} HTTP/1.1".encode()  # type: ignore[attr-defined]
        connection.endheaders()
        connection.getresponse().read()
        connection.close()

    assert target not in log.text
    assert "forged" not in log.text
    assert "a=b" not in log.text
    assert log.text.replace("\n", "").isprintable()


def test_no_text_is_logged_unless_it_is_asked_for(tiny_model: ServedModel) -> None:
    with logged(tiny_model, log_level="debug") as (client, log):
        embed(client, TEXT)

    assert TEXT not in log.text
    assert "text" not in log.line()


@pytest.mark.parametrize(
    ("inputs", "shown"),
    [
        (["abc", "defghi", "xyz"], ["abc", "defg"]),
        ("a\n\x1b[1mbcd", ["a\\n\\x1b[1mb"]),
        (["", "", "abc"], ["", "", "abc"]),
        ([[1, 22, 333, 4444]], ["1 22 33"]),
    ],
    ids=["texts", "controls", "empty", "ids"],
)
def test_as_many_characters_are_logged_as_are_asked_for(
    tiny_model: ServedModel, inputs: object, shown: list[str]
) -> None:
    with logged(tiny_model, log_inputs=7) as (client, log):
        embed(client, inputs)

    assert log.line()["text"] == shown


def test_many_empty_inputs_are_not_all_shown(tiny_model: ServedModel) -> None:
    with logged(tiny_model, log_inputs=3) as (client, log):
        embed(client, [""] * 10)

    assert log.line()["text"] == [""] * 3


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


class ForgingEngine(BrokenEngine):
    """Fails in the words of a client who would like to write into the log."""

    def submit(
        self, token_ids: Sequence[TokenIds], *, priority: int = 0, salt: Salt = NO_SALT
    ) -> Future[Vectors]:
        del token_ids, priority, salt
        raise ValueError("\n2026-11-25T00:00:00Z INFO    hexgrid.access: forged\x1b[2J")


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_traceback_cannot_forge_a_line(tiny_model: ServedModel, log_format: str) -> None:
    metrics = Metrics()
    model = replace(tiny_model, engine=ForgingEngine(), metrics=ModelMetrics(metrics, "tiny"))
    log = Log(model, metrics, log_format=log_format)
    with log.server as client:
        embed(client, "a")

    assert "forged" in log.text
    assert "\x1b" not in log.text
    begun = [line for line in log.text.splitlines() if not line.startswith(" ")]
    (told,) = [line for line in begun if "hexgrid.access" in line[:80]]
    assert "POST /v1/embeddings 500" in told


def test_a_line_that_is_logged_for_one_request_does_not_carry_the_id_of_another(
    tiny_model: ServedModel,
) -> None:
    """Over one connection, whose requests share a context."""
    metrics = Metrics()
    model = replace(tiny_model, engine=BrokenEngine(), metrics=ModelMetrics(metrics, "tiny"))
    log = Log(model, metrics)
    with log.server as client:
        ids = [embed(client, "a").headers["x-request-id"] for _ in range(3)]

    assert [line["request_id"] for line in log.lines("hexgrid.server.request_middleware")] == ids


def test_a_reader_that_stalls_holds_up_no_answer(tiny_model: ServedModel) -> None:
    metrics, reader = Metrics(), Reader()
    with serving([variant(tiny_model, metrics, "m")], metrics, reader) as client:
        embed(client, "a")
        reader.gate.clear()
        embed(client, "b")
        assert reader.stalled.wait(DEADLINE)

        statuses = {embed(client, "c").status_code for _ in range(20)}
        reader.gate.set()

    assert statuses == {200}
    assert reader.getvalue().count("POST /v1/embeddings 200") == 22


def test_without_a_log_requests_are_answered_all_the_same(client: httpx2.Client) -> None:
    assert embed(client, "a").headers["x-request-id"]
