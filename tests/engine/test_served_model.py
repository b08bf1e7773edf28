"""What stands in front of an engine: made of a directory without weights, in a process without torch."""

import json
import subprocess
import sys
from collections.abc import Sequence as Items
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest

from hexgrid.encoding import Vectors
from hexgrid.engine.sequence import NO_SALT, Salt
from hexgrid.engine.served_model import ServedModel, open_front
from hexgrid.errors import CheckpointError, ConfigError
from hexgrid.metrics import Metrics, ModelMetrics
from hexgrid.model.checkpoint import open_checkpoint, open_outline
from hexgrid.wire import TokenIds


class CountingEngine:
    """Answers every input with how many tokens it has."""

    hidden_size = 64

    def __init__(self) -> None:
        self.death: Future[str] = Future()

    def submit(
        self, token_ids: Items[TokenIds], *, priority: int = 0, salt: Salt = NO_SALT
    ) -> Future[Vectors]:
        assert (priority, salt) == (0, NO_SALT)
        future: Future[Vectors] = Future()
        future.set_result(np.array([[len(ids)] * 64 for ids in token_ids], dtype=np.float32))
        return future

    def retry_after(self) -> int:
        return 1

    def check_health(self) -> None:
        """Well."""

    def close(self) -> None:
        """Nothing runs."""


@pytest.fixture
def outline_directory(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """The checkpoint without its weights."""
    for path in tiny_checkpoint.rglob("*.json"):
        copy = tmp_path / path.relative_to(tiny_checkpoint)
        copy.parent.mkdir(exist_ok=True)
        copy.hardlink_to(path)
    return tmp_path


def serving(directory: Path, max_model_len: int | None = None) -> ServedModel:
    return open_front(open_outline(directory), max_model_len).serving(
        ["a", "b"],
        "root",
        CountingEngine(),
        ModelMetrics(Metrics(), "a"),
        precision="unknown",
        description="counts",
    )


def test_a_front_without_weights_says_what_the_whole_checkpoint_says(
    outline_directory: Path, tiny_model: ServedModel
) -> None:
    model = serving(outline_directory)

    assert (model.names, model.root, model.precision, model.description) == (
        ("a", "b"),
        "root",
        "unknown",
        "counts",
    )
    for name in ("prompts", "config", "max_model_len", "embedding_dimension"):
        assert getattr(model, name) == getattr(tiny_model, name)
    text = "The capital of China is Beijing."
    assert model.tokenizer.encode([text]) == tiny_model.tokenizer.encode([text])


def test_its_engine_is_handed_the_ids(outline_directory: Path) -> None:
    model = serving(outline_directory)

    encoded = model.tokenizer.encode(["hello"])

    (ids,) = encoded.token_ids
    assert model.engine.submit(encoded.token_ids).result().tolist() == [[len(ids)] * 64]


def test_the_whole_checkpoint_still_needs_its_weights(outline_directory: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has neither model\.safetensors"):
        open_checkpoint(outline_directory)


def test_the_length_is_bounded_by_the_models_positions(outline_directory: Path) -> None:
    assert serving(outline_directory, 100).max_model_len == 100
    with pytest.raises(ConfigError, match="--max-model-len 32769 is more than the model's 32768"):
        serving(outline_directory, 32_769)


def test_a_front_and_its_server_do_without_torch(outline_directory: Path) -> None:
    code = """
import json, sys
from pathlib import Path
from hexgrid.engine.queued_engine import QueuedEngine
from hexgrid.engine.served_model import open_front
from hexgrid.model.checkpoint import open_outline
from hexgrid.server.app import create_app
front = open_front(open_outline(Path(sys.argv[1])), None)
print(json.dumps([front.max_model_len, "torch" in sys.modules]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, outline_directory], capture_output=True, text=True, check=True
    )

    assert json.loads(done.stdout) == [32_768, False]
