"""The server that most tests ask: several models without a key, shared by the whole session."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from hexgrid.config import EngineConfig
from hexgrid.engine.native import open_model
from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics
from hexgrid.model.synthetic import make_checkpoint
from hexgrid.tokenizer import Tokenizer
from tests.server.gated_runner import GatedRunner
from tests.server.running import TEXT, serving, variant

SHORT_MODEL_LEN = 32


@pytest.fixture(scope="session")
def client(
    tiny_checkpoint: Path, tiny_model: ServedModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx2.Client]:
    """A client of a server with four models.

    `tiny`, also called `alias`; `other`, of other weights; `short`, which takes 32 tokens; `listed`, which
    lists its dimensions.
    """
    directory = tmp_path_factory.mktemp("server") / "other"
    make_checkpoint(directory, "tiny", seed=1)
    metrics = Metrics()
    short = Tokenizer(
        tiny_checkpoint / "tokenizer.json",
        vocab_size=tiny_model.tokenizer.vocab_size,
        max_model_len=SHORT_MODEL_LEN,
    )
    models = [
        variant(tiny_model, metrics, "tiny", "alias"),
        open_model(
            ["other"], directory, EngineConfig(dtype="float32", result_cache_bytes=0), metrics
        ),
        variant(tiny_model, metrics, "short", tokenizer=short, max_model_len=SHORT_MODEL_LEN),
        variant(tiny_model, metrics, "listed", matryoshka_dimensions=(16, 32)),
    ]
    with serving(models, metrics) as client:
        yield client


@pytest.fixture
def own_ids(tiny_model: ServedModel) -> list[int]:
    """The ids of TEXT without the EOS."""
    return tiny_model.tokenizer.tokenize(TEXT, add_special_tokens=False)


@pytest.fixture
def runner() -> Iterator[GatedRunner]:
    """A runner whose gate opens at the latest when the test ends, so that its engine can stop."""
    runner = GatedRunner()
    yield runner
    runner.gate.set()


@pytest.fixture
def callers() -> Iterator[ThreadPoolExecutor]:
    """Threads for requests that are answered later."""
    with ThreadPoolExecutor(16) as threads:
        yield threads
