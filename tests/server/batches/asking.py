"""Files and batches with OpenAI's own client."""

import json
from time import monotonic
from typing import Any

import httpx2
import openai
from openai.types import Batch

from tests.server.running import (
    DEADLINE,
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
