"""hexgrid run-batch: OpenAI's batch file form, answered as the server answers."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hexgrid.engine.served_model import ServedModel
from hexgrid.model.pooling import finish
from tests.cli.conftest import Command, one_line
from tests.server.running import serving_one


def request(custom_id: str, **changes: Any) -> dict[str, Any]:
    fields = {
        "custom_id": custom_id,
        "method": "POST",
        "url": "/v1/embeddings",
        "body": {"model": "m", "input": f"text of {custom_id}", "dimensions": 8},
    }
    return fields | changes


class Batch:
    """Writes a batch file, runs it, reads the results."""

    def __init__(self, command: Command, checkpoint: Path, folder: Path) -> None:
        self._command = command
        self._checkpoint = checkpoint
        self.source, self.target = folder / "in.jsonl", folder / "out.jsonl"

    def run(self, *lines: Any) -> list[dict[str, Any]]:
        written = [each if isinstance(each, str) else json.dumps(each) for each in lines]
        self.source.write_text("\n".join(written) + "\n")
        result = self._command(
            *("run-batch", "-i", str(self.source), "-o", str(self.target)),
            *("--model", f"m={self._checkpoint}", "--dtype", "float32"),
            env={"HEXGRID_API_KEY": "of a server, not of this"},
        )
        assert result.exit_code == 0, result.output
        return [json.loads(line) for line in self.target.read_text().splitlines()]


@pytest.fixture
def batch(command: Command, tiny_checkpoint: Path, tmp_path: Path) -> Batch:
    return Batch(command, tiny_checkpoint, tmp_path)


def test_each_request_is_answered_in_order_as_the_api_does(
    batch: Batch, tiny_model: ServedModel
) -> None:
    results = batch.run(*(request(f"r{number}") for number in range(150)))

    assert [result["custom_id"] for result in results] == [f"r{n}" for n in range(150)]
    assert len({result["id"] for result in results}) == 150
    texts = [f"text of r{number}" for number in range(150)]
    encoded = tiny_model.tokenizer.encode(texts)
    hidden = tiny_model.engine.submit(encoded.token_ids).result()
    right = finish(hidden, dimensions=8, normalize=True)
    for number, result in enumerate(results):
        assert list(result) == ["id", "custom_id", "response", "error"]
        assert result["error"] is None
        response = result["response"]
        assert response["status_code"] == 200
        assert response["request_id"]
        assert response["body"]["object"] == "list"
        assert response["body"]["usage"]["prompt_tokens"] == len(encoded.token_ids[number])
        (item,) = response["body"]["data"]
        np.testing.assert_allclose(item["embedding"], right[number], atol=2e-5)


@pytest.mark.parametrize(
    ("line", "status", "words"),
    [
        (request("bad", url="/v1/chat/completions"), 400, "Supported endpoints: /v1/embeddings."),
        (request("bad", method="GET"), 400, "method must be POST, got 'GET'"),
        (request("bad", body={"model": "other", "input": "x"}), 404, "`other` does not exist"),
        (request("bad", body={"model": "m", "input": 5}), 400, "body.input"),
        (request("bad", body="text"), 400, "body"),
        (request("bad", body={"model": "m", "input": "word " * 50_000}), 400, "context length"),
        ("{not json", 400, "no request of a batch"),
        ('{"custom_id": "bad"}', 400, "missing required field `method`"),
        (request("x" * 600), 400, "custom_id must have 1 to 512 characters"),
    ],
)
def test_a_bad_request_has_its_error_and_harms_no_other(
    batch: Batch, line: Any, status: int, words: str
) -> None:
    first, bad, last = batch.run(request("a"), line, request("b"))

    assert (first["error"], last["error"]) == (None, None)
    assert bad["response"]["status_code"] == status
    assert bad["response"]["body"] is None
    assert words in bad["error"]["error"]["message"]
    assert bad["error"]["error"]["code"] == status
    is_known = isinstance(line, dict) or "custom_id" in line
    assert (bad["custom_id"] is not None) == is_known


def test_blank_lines_are_no_requests(batch: Batch) -> None:
    assert len(batch.run(request("a"), "", "  ", request("b"))) == 2


def test_an_answer_is_that_of_the_server(batch: Batch, tiny_model: ServedModel) -> None:
    body = {"model": "m", "input": ["a", "b"], "input_type": "query", "encoding_format": "base64"}
    (result,) = batch.run(request("a", body=body))

    with serving_one(tiny_model) as client:
        answer = client.post("/v1/embeddings", json=body).json()
    found = result["response"]["body"]
    assert found.keys() == answer.keys()
    assert found["usage"] == answer["usage"]
    assert [item["index"] for item in found["data"]] == [0, 1]


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("none.jsonl", "out.jsonl", "none.jsonl cannot be read: No such file"),
        ("in.jsonl", "none/out.jsonl", "The folder of .*none/out.jsonl is not there"),
    ],
)
def test_what_cannot_be_read_or_written_is_told_at_once(
    command: Command, tmp_path: Path, source: str, target: str, message: str
) -> None:
    (tmp_path / "in.jsonl").write_text("")

    result = command("run-batch", "-i", str(tmp_path / source), "-o", str(tmp_path / target))

    assert result.exit_code == 2
    assert re.search(message, one_line(result))
