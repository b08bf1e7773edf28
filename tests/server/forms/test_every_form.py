"""What holds on every path that embeds: they share one way from body to answer."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import httpx2
import pytest

from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics
from hexgrid.server.forms.paths import FORMS
from hexgrid.server.key_store import KeyStore, Limits
from hexgrid.server.usage import Used, read
from hexgrid.tokenizer import Tokenizer
from tests.server.forms.bodies import BODIES, CUTS, num_inputs
from tests.server.gated_runner import GatedRunner
from tests.server.running import (
    TEXT,
    connect,
    embed,
    error,
    metric,
    num_tokens,
    serving,
    serving_one,
    variant,
    wait_for_metric,
)

each_path = pytest.mark.parametrize("path", BODIES)


def post(client: httpx2.Client, path: str, **fields: Any) -> httpx2.Response:
    return client.post(path, json=BODIES[path] | fields)


def test_there_is_a_body_for_every_form() -> None:
    forms = {form for _, form in FORMS}

    assert {form for path, form in FORMS if path in BODIES} == forms
    assert BODIES.keys() - {path for path, _ in FORMS} == {"/invocations"}


@each_path
def test_inputs_tokens_and_phases_are_counted(tiny_model: ServedModel, path: str) -> None:
    with serving_one(tiny_model) as client:
        assert post(client, path).status_code == 200
        tokens = num_tokens(embed(client, [TEXT, "hello"][: num_inputs(path)]))

        assert metric(client, "inputs_total") == 2 * num_inputs(path)
        assert metric(client, "prompt_tokens_total") == 2 * tokens
        assert metric(client, "request_duration_seconds_count") == 2
        assert metric(client, "http_requests_total", path=path, status="200") >= 1
        for phase in ("tokenize", "queue", "forward", "encode"):
            assert metric(client, "phase_duration_seconds_count", phase=phase) >= 2


@each_path
def test_an_answer_has_an_id_and_the_times_of_its_phases(client: httpx2.Client, path: str) -> None:
    response = client.post(path, json=BODIES[path], headers={"x-request-id": "my-id"})

    assert response.headers["x-request-id"] == "my-id"
    assert [entry.split(";")[0] for entry in response.headers["server-timing"].split(", ")] == [
        *("parse", "tokenize", "queue", "forward", "encode", "total")
    ]
    answer = response.json()
    if isinstance(answer, dict) and "id" in answer:
        assert answer["id"].endswith("-my-id")


@each_path
def test_times_can_be_hidden(tiny_model: ServedModel, path: str) -> None:
    with serving_one(tiny_model, hide_server_timing=True) as client:
        assert "server-timing" not in post(client, path).headers


@each_path
def test_a_line_in_the_log_tells_of_it(tiny_model: ServedModel, path: str) -> None:
    metrics, log = Metrics(), StringIO()
    with serving([variant(tiny_model, metrics, "m")], metrics, log, log_inputs=20) as client:
        assert post(client, path).status_code == 200

    (line,) = [line for line in log.getvalue().splitlines() if f"POST {path} " in line]
    assert "model=m" in line
    assert f"inputs={num_inputs(path)}" in line
    assert TEXT[:10] in line


@each_path
def test_an_unknown_model_is_404_and_another_one_is_found(client: httpx2.Client, path: str) -> None:
    assert error(post(client, path, model="nope"))["type"] == "NotFoundError"
    assert post(client, path, model="other").status_code == 200


@each_path
def test_a_priority_and_a_salt_are_taken_and_checked(client: httpx2.Client, path: str) -> None:
    assert post(client, path, priority=-5, cache_salt="a").status_code == 200
    assert error(post(client, path, priority=2**63))["param"] == "priority"
    assert error(post(client, path, cache_salt=""))["param"] == "cache_salt"


@each_path
def test_a_salt_separates_what_is_cached(tiny_model: ServedModel, path: str) -> None:
    metrics = Metrics()
    model = variant(tiny_model, metrics, "m", result_cache_bytes=2**20)
    with serving([model], metrics) as client:
        for salt, hits in (("a", 0), ("a", 1), ("b", 1)):
            assert post(client, path, cache_salt=salt).status_code == 200
            assert metric(client, "result_cache_hits_total") == hits * num_inputs(path)


@each_path
def test_urgent_requests_go_first(
    tiny_model: ServedModel, runner: GatedRunner, callers: ThreadPoolExecutor, path: str
) -> None:
    metrics = Metrics()
    model = variant(tiny_model, metrics, "m", runner=runner, max_num_seqs=1)
    with serving([model], metrics) as client:
        blocking = callers.submit(embed, client, [1])
        runner.wait_until_started(1)
        patient = callers.submit(embed, client, [7])
        wait_for_metric(client, "queue_sequences", 1)
        urgent = callers.submit(post, client, path, priority=-1)
        wait_for_metric(client, "queue_sequences", 1 + num_inputs(path))
        runner.gate.set()

        for asked in (blocking, patient, urgent):
            assert asked.result().status_code == 200
    assert runner.started[-1] == [7]


@each_path
def test_a_long_input_is_refused_or_cut_and_told(
    tiny_model: ServedModel, tiny_checkpoint: Path, path: str
) -> None:
    short = Tokenizer(
        tiny_checkpoint / "tokenizer.json",
        vocab_size=tiny_model.tokenizer.vocab_size,
        max_model_len=4,
    )
    with serving_one(replace(tiny_model, tokenizer=short, max_model_len=4)) as client:
        response = post(client, path)
        if path not in ("/v2/embed", "/api/embed"):  # those cut unless they are told not to
            assert error(response)["param"] == "input_tokens"
            if path == "/api/embeddings":
                return  # cuts nothing
            response = post(client, path, **CUTS[path])

        assert response.status_code == 200, response.text
        assert response.headers["x-hexgrid-truncated"] == "1"
        assert metric(client, "truncated_inputs_total") == 1


@each_path
def test_a_keys_limits_hold_and_its_use_is_counted(
    tiny_model: ServedModel, tmp_path: Path, path: str
) -> None:
    store = KeyStore(tmp_path / "keys.sqlite3")
    texts = [TEXT, "hello"][: num_inputs(path)]
    tokens = sum(len(tiny_model.tokenizer.tokenize(text)) for text in texts)
    key = store.create("somebody", Limits(tpm=tokens))
    with serving_one(tiny_model, key_store=store.file, usage_dir=tmp_path / "usage") as client:
        assert error(post(client, path))["code"] == 401
        client.headers["authorization"] = f"Bearer {key}"

        assert post(client, path).status_code == 200
        assert error(post(client, path))["code"] == 429

    (used,) = read(tmp_path / "usage").values()
    assert used == Used(requests=1, inputs=len(texts), tokens=tokens)


@each_path
def test_no_more_inputs_than_the_server_takes(tiny_model: ServedModel, path: str) -> None:
    with serving_one(tiny_model, max_num_inputs=1) as client:
        response = post(client, path)

        if num_inputs(path) == 1:
            assert response.status_code == 200
        else:
            assert "at most 1 inputs, got 2" in error(response)["message"]


@each_path
def test_a_client_that_goes_away_leaves_nothing_in_the_queue(
    tiny_model: ServedModel, runner: GatedRunner, callers: ThreadPoolExecutor, path: str
) -> None:
    metrics = Metrics()
    model = variant(tiny_model, metrics, "m", runner=runner, max_num_seqs=1)
    with serving([model], metrics) as client:
        blocking = callers.submit(embed, client, [1])
        runner.wait_until_started(1)
        connection = connect(client)
        body = httpx2.Request("POST", "http://x", json=BODIES[path]).content
        connection.request("POST", path, body, {"content-type": "application/json"})
        wait_for_metric(client, "queue_sequences", num_inputs(path))
        connection.close()
        wait_for_metric(client, "queue_sequences", 0)
        runner.gate.set()
        assert blocking.result().status_code == 200


@each_path
def test_only_post_is_taken(client: httpx2.Client, path: str) -> None:
    response = client.get(path)

    assert error(response)["code"] == 405
    assert response.headers["allow"] == "POST"


@each_path
def test_a_body_of_the_wrong_form_is_refused(client: httpx2.Client, path: str) -> None:
    for content in (b"", b"[]", b"{", b"\xff"):
        response = client.post(path, content=content, headers={"content-type": "application/json"})

        assert error(response)["type"] == "Bad Request"
