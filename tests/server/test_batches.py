"""/v1/files and /v1/batches with OpenAI's own client: what they answer, whose things are, what is refused."""

import json
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from time import monotonic
from typing import Any

import httpx2
import msgspec
import numpy as np
import openai
import pytest
from openai.types import Batch

from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics
from hexgrid.model.pooling import finish
from hexgrid.server import usage
from hexgrid.server.batch_objects import Batch as Stored
from hexgrid.server.key_store import KeyStore, Limits
from tests.server.gated_runner import GatedRunner
from tests.server.running import (
    DEADLINE,
    embed,
    error,
    metric,
    serving,
    serving_one,
    variant,
    wait_for_metric,
    wait_until,
)

FINAL = ("completed", "failed", "expired", "cancelled")


def line(custom_id: str, **changes: Any) -> str:
    fields = {
        "custom_id": custom_id,
        "method": "POST",
        "url": "/v1/embeddings",
        "body": {"model": "m", "input": f"text of {custom_id}"},
    }
    return json.dumps(fields | changes) + "\n"


def lines(count: int) -> bytes:
    return "".join(line(f"r{number}") for number in range(count)).encode()


def sdk(client: httpx2.Client, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{client.base_url}/v1", api_key=key, max_retries=0)


def begin(api: openai.OpenAI, content: bytes, **options: Any) -> Batch:
    file = api.files.create(file=("in.jsonl", content), purpose="batch")
    return api.batches.create(
        input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h", **options
    )


def ended(api: openai.OpenAI, batch_id: str) -> Batch:
    """The batch once it is at its end; each round asks the server, which sets the pace."""
    deadline = monotonic() + DEADLINE
    while (batch := api.batches.retrieve(batch_id)).status not in FINAL:
        assert monotonic() < deadline, batch
    return batch


def results(api: openai.OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id is not None
    return [json.loads(each) for each in api.files.content(file_id).text.splitlines()]


@pytest.fixture
def client(tiny_model: ServedModel, tmp_path: Path) -> Iterator[httpx2.Client]:
    with serving_one(tiny_model, batch_dir=tmp_path / "batches") as client:
        yield client


@pytest.fixture
def api(client: httpx2.Client) -> openai.OpenAI:
    return sdk(client)


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


@pytest.mark.parametrize(
    ("content", "code", "number", "words"),
    [
        (line("a") + "{nope\n", "invalid_request", 2, "no request of a batch"),
        (line("a") + line("b") + line("a"), "duplicate_custom_id", 3, "'a' came before"),
        (line("a", url="/v1/models"), "invalid_request", 1, "Supported endpoints"),
        ("\n\n", "empty_file", None, "no requests"),
        (line("a") + line("b") + line("c") + line("d"), "too_many_requests", 4, "at most 3"),
    ],
)
def test_a_file_that_is_wrong_fails_before_anything_is_asked(
    tiny_model: ServedModel, tmp_path: Path, content: str, code: str, number: int, words: str
) -> None:
    with serving_one(tiny_model, batch_dir=tmp_path, max_batch_requests=3) as client:
        done = ended(sdk(client), begin(sdk(client), content.encode()).id)
        assert metric(client, "prompt_tokens_total") == 0

    assert done.status == "failed"
    assert done.errors is not None
    assert done.errors.data is not None
    (found,) = done.errors.data
    assert (found.code, found.line) == (code, number)
    assert words in (found.message or "")


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


@pytest.fixture
def shared(tiny_model: ServedModel, tmp_path: Path) -> Iterator[tuple[openai.OpenAI, ...]]:
    """A server with two keys, as their clients."""
    store = KeyStore(tmp_path / "keys")
    keys = [store.create("ann", Limits()), store.create("ben", Limits(rpm=600))]
    settings = {"key_store": tmp_path / "keys", "usage_dir": tmp_path / "usage"}
    with serving_one(tiny_model, batch_dir=tmp_path / "batches", **settings) as client:
        yield tuple(sdk(client, key) for key in keys)


def test_no_key_sees_what_is_anothers(shared: tuple[openai.OpenAI, ...]) -> None:
    ann, ben = shared
    batch = begin(ann, lines(2))
    done = ended(ann, batch.id)
    assert done.output_file_id is not None

    assert list(ben.files.list()) == []
    assert list(ben.batches.list()) == []
    for ask in (
        lambda: ben.batches.retrieve(batch.id),
        lambda: ben.batches.cancel(batch.id),
        lambda: ben.files.content(done.output_file_id or ""),
        lambda: ben.files.delete(batch.input_file_id),
        lambda: ben.files.list(after=batch.input_file_id),
        lambda: ben.batches.create(
            input_file_id=batch.input_file_id,
            endpoint="/v1/embeddings",
            completion_window="24h",
        ),
    ):
        with pytest.raises(openai.NotFoundError, match="No such"):
            ask()
    assert ann.files.retrieve(batch.input_file_id).id == batch.input_file_id


def test_what_a_batch_uses_is_counted_for_its_key(
    shared: tuple[openai.OpenAI, ...], tmp_path: Path
) -> None:
    ended(shared[0], begin(shared[0], lines(7)).id)

    used = [(slot.name, of.requests) for slot, of in usage.read(tmp_path / "usage").items()]
    assert used == [("ann", 7)]


def test_a_keys_limits_hold_batches_up_and_fail_none(
    tiny_model: ServedModel, tmp_path: Path
) -> None:
    store = KeyStore(tmp_path / "keys")
    key = store.create("ann", Limits(rpm=1200, tpm=1200))
    settings = {"key_store": tmp_path / "keys", "public_metrics": True}
    with serving_one(tiny_model, batch_dir=tmp_path, **settings) as client:
        api = sdk(client, key)
        # All tokens of a minute at once: the batch has to wait for more.
        api.embeddings.create(model="m", input=["word " * 1195])
        done = ended(api, begin(api, lines(4)).id)
        refused = metric(client, "rejections_total", reason="rate_limited")

    assert done.status == "completed"
    assert done.request_counts is not None
    assert done.request_counts.completed == 4
    assert refused > 0


def test_a_batch_ends_when_its_key_is_revoked(tiny_model: ServedModel, tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys")
    key = store.create("ann", Limits())
    runner, metrics = GatedRunner(), Metrics()
    model = variant(tiny_model, metrics, "m", runner=runner, embedding_dimension=64)
    settings: dict[str, Any] = {"batch_dir": tmp_path, "key_store": tmp_path / "keys"}
    with serving([model], metrics, batch_concurrency=1, **settings) as client:
        batch = begin(sdk(client, key), lines(3))
        runner.wait_until_started(1)
        store.revoke("ann")
        headers = {"authorization": f"Bearer {key}"}
        wait_until(
            lambda: client.get("/v1/models", headers=headers).status_code == 401, "it is revoked"
        )
        runner.gate.set()
        with closing(sqlite3.connect(tmp_path / "batches.sqlite3")) as database:

            def found() -> Stored:
                (row,) = database.execute("SELECT object FROM batches WHERE id = ?", (batch.id,))
                return msgspec.json.decode(row[0], type=Stored)

            wait_until(lambda: found().status == "failed", "the batch fails")
            done = found()

    assert done.errors is not None
    assert done.errors.data[0].code == "key_invalid"
    assert done.request_counts.completed == 1
    assert done.output_file_id is not None


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
    monkeypatch.setattr("hexgrid.server.batch_routes.WINDOW_SECONDS", 0)
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


@pytest.mark.parametrize(
    ("path", "method"),
    [("/v1/files", "GET"), ("/v1/files/x", "GET"), ("/v1/batches", "GET"), ("/v1/files", "POST")],
)
def test_without_a_directory_the_answer_says_so(
    tiny_model: ServedModel, path: str, method: str
) -> None:
    with serving_one(tiny_model) as client:
        detail = error(client.request(method, path))

    assert detail["code"] == 404
    assert "started without --batch-dir" in detail["message"]


@pytest.mark.parametrize(
    ("files", "data", "message"),
    [
        ({"file": ("a", b"x")}, {"purpose": "fine-tune"}, "purpose must be 'batch'"),
        ({"file": ("a", b"x")}, {}, "purpose must be 'batch'"),
        ({"other": ("a", b"x")}, {"purpose": "batch"}, "the form holds no file"),
        (
            {"file": ("a", b"x")},
            {
                "purpose": "batch",
                "expires_after[anchor]": "created_at",
                "expires_after[seconds]": "5",
            },
            "seconds must be from 3600 to 2592000, got 5",
        ),
        (
            {"file": ("a", b"x")},
            {"purpose": "batch", "expires_after[seconds]": "7200"},
            "the anchor 'created_at'",
        ),
    ],
)
def test_a_wrong_upload_is_told(
    client: httpx2.Client, files: Any, data: dict[str, str], message: str
) -> None:
    detail = error(client.post("/v1/files", files=files, data=data))

    assert detail["code"] == 400
    assert message in detail["message"]
    assert client.get("/v1/files").json()["data"] == []


def test_a_body_that_is_no_form_is_told(client: httpx2.Client) -> None:
    assert "must be multipart/form-data" in error(client.post("/v1/files", json={}))["message"]
    kind = {"content-type": "multipart/form-data; boundary=x"}
    detail = error(client.post("/v1/files", content=b"--y", headers=kind))
    assert "no form of multipart/form-data" in detail["message"]


def test_files_are_bounded_in_size_and_number_and_room(
    tiny_model: ServedModel, tmp_path: Path
) -> None:
    bounds = {"max_batch_file_bytes": 1000, "max_batch_files": 2, "max_batch_dir_bytes": 1500}
    with serving_one(tiny_model, batch_dir=tmp_path, **bounds) as client:
        api = sdk(client)
        for size in (1001, 400_000):
            with pytest.raises(openai.APIStatusError, match="more than 1000 bytes") as found:
                api.files.create(file=("a", b"x" * size), purpose="batch")
            assert found.value.status_code == 413
        api.files.create(file=("a", b"x" * 1000), purpose="batch")
        with pytest.raises(openai.RateLimitError, match="at most 1500"):
            api.files.create(file=("a", b"x" * 1000), purpose="batch")
        api.files.create(file=("a", b"x"), purpose="batch")
        with pytest.raises(openai.BadRequestError, match="has 2 files; at most 2"):
            api.files.create(file=("a", b"x"), purpose="batch")

    assert len(list((tmp_path / "contents").iterdir())) == 2


def test_results_that_have_no_room_end_the_batch(tiny_model: ServedModel, tmp_path: Path) -> None:
    with serving_one(tiny_model, batch_dir=tmp_path, max_batch_dir_bytes=9_000) as client:
        done = ended(sdk(client), begin(sdk(client), lines(10)).id)

    assert done.status == "failed"
    assert done.errors is not None
    assert done.errors.data is not None
    assert done.errors.data[0].code == "no_room"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"endpoint": "/v1/completions"}, "endpoint must be /v1/embeddings"),
        ({"completion_window": "1h"}, "completion_window must be 24h"),
        ({"input_file_id": "file-none"}, "No such file: file-none"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "at most 16 pairs"),
        ({"metadata": {"k": "x" * 513}}, "values of at most 512"),
        (
            {"output_expires_after": {"anchor": "created_at", "seconds": 1}},
            "output_expires_after.seconds must be from",
        ),
        ({"endpoint": None}, "body.endpoint"),
    ],
)
def test_a_wrong_batch_is_told(
    client: httpx2.Client, api: openai.OpenAI, fields: dict[str, Any], message: str
) -> None:
    file = api.files.create(file=("in.jsonl", lines(1)), purpose="batch")
    body = {
        "input_file_id": file.id,
        "endpoint": "/v1/embeddings",
        "completion_window": "24h",
    }

    assert message in error(client.post("/v1/batches", json=body | fields))["message"]


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "limit=10001", "order=up", "after=none"])
def test_a_wrong_page_is_told(client: httpx2.Client, query: str) -> None:
    assert error(client.get(f"/v1/files?{query}"))["code"] in (400, 404)


def test_paths_with_ids_share_one_name_in_the_metrics(client: httpx2.Client) -> None:
    for name in ("file-1", "file-2"):
        client.get(f"/v1/files/{name}")

    assert metric(client, "http_requests_total", path="/v1/files/{file_id}") == 2
