"""What uploads, batches and lists are refused, and what is too much."""

from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from hexgrid.engine.served_model import ServedModel
from tests.server.batches.asking import begin, ended, line, lines, sdk
from tests.server.running import (
    error,
    metric,
    serving_one,
)


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


@pytest.mark.parametrize("path", ["/v1/files", "/v1/batches"])
def test_a_list_takes_the_limits_that_are_described(client: httpx2.Client, path: str) -> None:
    described = client.get("/openapi.json").json()["paths"][path]["get"]["parameters"]
    (limit,) = [each["schema"] for each in described if each["name"] == "limit"]

    for good in (limit["minimum"], limit["default"], limit["maximum"]):
        assert client.get(f"{path}?limit={good}").status_code == 200
    for bad in (limit["minimum"] - 1, limit["maximum"] + 1):
        assert client.get(f"{path}?limit={bad}").status_code == 400
