"""One line a request: what it says, and what it must not say."""

import re
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from hexgrid.config.settings import Secret
from hexgrid.encoding import Vectors
from hexgrid.engine.sequence import NO_SALT, Salt
from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics, ModelMetrics
from hexgrid.server.key_store import KeyStore, Limits
from hexgrid.wire import TokenIds
from tests.server.access_logs import OWN_ID, Log, logged
from tests.server.running import (
    DEADLINE,
    KEY,
    connect,
    embed,
    serving,
    variant,
)
from tests.server.test_errors import BrokenEngine
from tests.server.test_log_writer import Reader

TEXT = "nobody's business"


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
