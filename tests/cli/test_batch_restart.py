"""Batches over HTTP outlive the server, however it ends: each request is in the results once."""

import json
from pathlib import Path

import openai
import pytest

from tests.cli.hexgrid_process import Serving, serve
from tests.server.running import wait_until

NUM_LINES = 400


def sdk(served: Serving) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key="none")


@pytest.mark.parametrize("ending", ["kill", "terminate"])
def test_a_batch_goes_on_after_a_restart(
    tiny_checkpoint: Path, tmp_path: Path, ending: str
) -> None:
    model = (f"m={tiny_checkpoint}", "--batch-dir", str(tmp_path / "batches"))
    arguments = (*model, "--num-threads", "1", "--batch-concurrency", "2")
    body = {"model": "m", "input": "some text"}
    lines = [
        {"custom_id": f"r{n}", "method": "POST", "url": "/v1/embeddings", "body": body}
        for n in range(NUM_LINES)
    ]
    with serve(*arguments) as served:
        api = sdk(served)
        content = "".join(json.dumps(line) + "\n" for line in lines).encode()
        file = api.files.create(file=("in.jsonl", content), purpose="batch")
        batch = api.batches.create(
            input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h"
        )

        def num_done() -> int:
            counts = api.batches.retrieve(batch.id).request_counts
            return counts.completed if counts is not None else 0

        wait_until(lambda: num_done() > 3, "some requests are answered")
        assert num_done() < NUM_LINES
        getattr(served.process, ending)()
        served.process.wait(60)

    with serve(*arguments) as served:
        api = sdk(served)
        wait_until(lambda: api.batches.retrieve(batch.id).status == "completed", "it is done")
        done = api.batches.retrieve(batch.id)
        assert done.output_file_id is not None
        results = api.files.content(done.output_file_id).text.splitlines()

    assert [json.loads(each)["custom_id"] for each in results] == [
        f"r{n}" for n in range(NUM_LINES)
    ]
    assert done.request_counts is not None
    assert done.request_counts.completed == done.request_counts.total == NUM_LINES
    assert done.error_file_id is None


def test_two_servers_cannot_have_one_directory(tiny_checkpoint: Path, tmp_path: Path) -> None:
    arguments = (f"m={tiny_checkpoint}", "--batch-dir", str(tmp_path))
    with serve(*arguments) as first:
        assert first.url
        with serve(*arguments) as second:
            second.wait_for("is in use by another server")
            assert second.end() == 1
