"""/v1/files and /v1/batches with OpenAI's own client: what they answer, from upload to results."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import numpy as np
import openai
import pytest
from starlette.types import ASGIApp

from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics
from hexgrid.model.pooling import finish
from hexgrid.server.auth import Client
from hexgrid.server.batches import worker
from hexgrid.server.batches.lines import BatchLine, Outcome, run_line
from tests.server.batches.asking import begin, ended, line, lines, results, sdk
from tests.server.gated_runner import GatedRunner
from tests.server.running import (
    embed,
    metric,
    serving,
    serving_one,
    variant,
    wait_for_metric,
)


def test_a_batch_is_answered_in_order_with_the_apis_vectors(
    api: openai.OpenAI, tiny_model: ServedModel
) -> None:
    batch = begin(api, lines(40), metadata={"for": "test"})
    assert batch.status in ("validating", "in_progress")
    assert (batch.object, batch.endpoint) == ("batch", "/v1/embeddings")

    done = ended(api, batch.id)

    assert done.status == "completed"
    assert done.request_counts is not None
    assert done.request_counts.model_dump() == {"completed": 40, "failed": 0, "total": 40}
    assert done.metadata == {"for": "test"}
    assert done.error_file_id is None
    assert done.created_at <= (done.in_progress_at or 0) <= (done.completed_at or 0)
    found = results(api, done.output_file_id)
    assert [each["custom_id"] for each in found] == [f"r{number}" for number in range(40)]
    encoded = tiny_model.tokenizer.encode([f"text of r{number}" for number in range(40)])
    hidden = tiny_model.engine.submit(encoded.token_ids).result()
    right = finish(hidden, dimensions=None, normalize=True)
    for each, vector in zip(found, right, strict=True):
        assert each["error"] is None
        assert each["response"]["status_code"] == 200
        np.testing.assert_allclose(
            each["response"]["body"]["data"][0]["embedding"], vector, atol=2e-5
        )


def test_a_request_that_fails_is_in_the_file_of_errors(api: openai.OpenAI) -> None:
    bad = line("bad", body={"model": "other", "input": "x"})
    done = ended(api, begin(api, (line("a") + bad + line("b")).encode()).id)

    assert done.status == "completed"
    assert done.request_counts is not None
    assert done.request_counts.model_dump() == {"completed": 2, "failed": 1, "total": 3}
    assert [each["custom_id"] for each in results(api, done.output_file_id)] == ["a", "b"]
    (found,) = results(api, done.error_file_id)
    assert found["custom_id"] == "bad"
    assert found["error"] is None
    assert found["response"]["status_code"] == 404
    assert "`other` does not exist" in found["response"]["body"]["error"]["message"]


def test_files_are_listed_read_and_deleted(api: openai.OpenAI) -> None:
    made = [api.files.create(file=(f"{n}.jsonl", b"x" * n), purpose="batch") for n in (1, 2, 3)]

    assert [file.id for file in api.files.list()] == [file.id for file in reversed(made)]
    assert [f.id for f in api.files.list(order="asc", limit=1)] == [file.id for file in made]
    assert list(api.files.list(purpose="batch_output")) == []
    found = api.files.retrieve(made[1].id)
    assert (found.filename, found.bytes, found.purpose) == ("2.jsonl", 2, "batch")
    assert api.files.content(made[2].id).read() == b"xxx"
    assert api.files.delete(made[0].id).deleted
    with pytest.raises(openai.NotFoundError, match="No such file"):
        api.files.retrieve(made[0].id)
    assert len(list(api.files.list())) == 2


def test_batches_are_listed_newest_first_in_pages(api: openai.OpenAI) -> None:
    file = api.files.create(file=("in.jsonl", lines(1)), purpose="batch")
    made = [
        api.batches.create(
            input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h"
        ).id
        for _ in range(5)
    ]

    assert [batch.id for batch in api.batches.list(limit=2)] == made[::-1]
    for batch_id in made:
        assert ended(api, batch_id).status == "completed"


def test_a_batch_that_runs_can_be_cancelled_and_keeps_what_is_done(
    tiny_model: ServedModel, tmp_path: Path
) -> None:
    runner, metrics = GatedRunner(), Metrics()
    model = variant(tiny_model, metrics, "m", runner=runner, embedding_dimension=64)
    with serving([model], metrics, batch_dir=tmp_path) as client:
        api = sdk(client)
        batch = begin(api, lines(30))
        runner.wait_until_started(1)
        with pytest.raises(openai.BadRequestError, match="is the input of"):
            api.files.delete(batch.input_file_id)
        assert api.batches.cancel(batch.id).status == "cancelling"
        runner.gate.set()
        done = ended(api, batch.id)

        assert done.status == "cancelled"
        assert done.request_counts is not None
        assert done.request_counts.completed < 30
        with pytest.raises(openai.BadRequestError, match="status 'cancelled'"):
            api.batches.cancel(batch.id)


def test_a_batch_past_its_window_has_an_error_for_each_request_left(
    tiny_model: ServedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hexgrid.server.batches.routes.WINDOW_SECONDS", 0)
    with serving_one(tiny_model, batch_dir=tmp_path) as client:
        api = sdk(client)
        done = ended(api, begin(api, lines(3)).id)
        found = results(api, done.error_file_id)

    assert done.status == "expired"
    assert [each["custom_id"] for each in found] == ["r0", "r1", "r2"]
    assert {each["error"]["code"] for each in found} == {"batch_expired"}
    assert {each["response"] for each in found} == {None}


def test_people_go_before_batches(tiny_model: ServedModel, tmp_path: Path) -> None:
    runner, metrics = GatedRunner(), Metrics()
    model = variant(tiny_model, metrics, "m", runner=runner, max_num_seqs=1, embedding_dimension=64)
    with (
        serving([model], metrics, batch_dir=tmp_path, batch_concurrency=6) as client,
        ThreadPoolExecutor(1) as threads,
    ):
        api = sdk(client)
        batch = begin(api, lines(6))
        runner.wait_until_started(1)
        wait_for_metric(client, "queue_sequences", 5)
        person = threads.submit(embed, client, [[7, 7]])
        wait_for_metric(client, "queue_sequences", 6)
        runner.gate.set()
        assert person.result().status_code == 200
        assert ended(api, batch.id).status == "completed"

    assert runner.started[1] == [7, 7]


def test_paths_with_ids_share_one_name_in_the_metrics(client: httpx2.Client) -> None:
    for name in ("file-1", "file-2"):
        client.get(f"/v1/files/{name}")

    assert metric(client, "http_requests_total", path="/v1/files/{file_id}") == 2


def test_a_bug_ends_its_batch_and_no_other(
    tiny_model: ServedModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked: list[str] = []

    async def broken_at_r1(
        line: BatchLine, app: ASGIApp, client_now: Callable[[], Client]
    ) -> Outcome:
        asked.append(line.custom_id)
        if line.custom_id == "r1":
            raise RuntimeError("a bug")
        return await run_line(line, app, client_now)

    monkeypatch.setattr(worker, "run_line", broken_at_r1)
    with serving_one(tiny_model, batch_dir=tmp_path, batch_concurrency=1) as client:
        api = sdk(client)
        bad, good = begin(api, lines(3)), begin(api, lines(1))
        done = ended(api, bad.id)
        assert ended(api, good.id).status == "completed"
        found = results(api, done.output_file_id)

    assert done.status == "failed"
    assert done.errors is not None
    assert done.errors.data is not None
    assert done.errors.data[0].code == "internal_error"
    assert [each["custom_id"] for each in found] == ["r0"]
    assert asked == ["r0", "r1", "r0"]
    assert f"The batch {bad.id} ends by a bug" in caplog.text
