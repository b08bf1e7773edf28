"""Where a request is encoded: short ones on the event loop, all others in a thread beside it."""

import threading
from typing import Any

import pytest

from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics
from hexgrid.tokenizer import Encoded, Tokenizer
from tests.server.running import embed, serving, variant, vectors


class WatchedTokenizer:
    """A Tokenizer that notes in which threads it encodes."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.threads: list[str] = []

    def encode(self, *arguments: Any, **options: Any) -> Encoded:
        self.threads.append(threading.current_thread().name)
        return self._tokenizer.encode(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


@pytest.mark.parametrize(
    ("inputs", "fields", "prompt", "is_short"),
    [
        ("x " * 250, {}, "", True),
        ([[1] * 500], {}, "", True),
        ("x " * 300, {}, "", False),
        ([[1] * 600], {}, "", False),
        (["x"] * 5, {}, "", False),
        (["x"] * 4, {"instruction": "y " * 100}, "", False),
        ("x", {"input_type": "query"}, "y " * 300, False),
    ],
    ids=["text", "ids", "long text", "long ids", "many", "instruction", "prompt"],
)
def test_only_short_requests_are_encoded_on_the_event_loop(
    tiny_model: ServedModel, inputs: Any, fields: dict[str, str], prompt: str, *, is_short: bool
) -> None:
    metrics, tokenizer = Metrics(), WatchedTokenizer(tiny_model.tokenizer)
    model = variant(tiny_model, metrics, "m", tokenizer=tokenizer, prompts={"query": prompt})
    with serving([model], metrics) as client:
        vectors(embed(client, inputs, **fields))

    (thread,) = tokenizer.threads
    assert (thread == "server") == is_short
    assert thread.startswith("server" if is_short else "hexgrid-tokenize")
