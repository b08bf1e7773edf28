"""One real vLLM for all tests of this directory, and a front of it. `make test-vllm` runs them."""

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from hexgrid.config import EngineConfig, UpstreamConfig
from hexgrid.engine.native import open_model
from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics
from hexgrid.model.synthetic import make_checkpoint
from hexgrid.tokenizer import Tokenizer
from hexgrid.upstream.opening import open_upstream_model
from tests.server.conftest import SHORT_MODEL_LEN, callers, own_ids
from tests.server.running import serving
from tests.vllm.running import Vllm, vllm

__all__ = ["callers", "own_ids"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark them all."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.vllm)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def upstream(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vllm]:
    """A vLLM with the "tiny" checkpoint in float32."""
    with vllm(tiny_checkpoint, tmp_path_factory.mktemp("vllm"), free_port(), "tiny") as server:
        yield server


@pytest.fixture(scope="session")
def client(
    upstream: Vllm, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx2.Client]:
    """A client of a server with the four models of the server's own tests, three of them computed by vLLM.

    `other`, of other weights, is computed here.
    """
    directory = tmp_path_factory.mktemp("server") / "other"
    make_checkpoint(directory, "tiny", seed=1)
    metrics = Metrics()
    tiny = open_upstream_model(
        ["tiny", "alias"],
        tiny_checkpoint,
        EngineConfig(),
        UpstreamConfig(engine="vllm", upstream=(upstream.url,)),
        metrics,
    )
    short = Tokenizer(
        tiny_checkpoint / "tokenizer.json",
        vocab_size=tiny.tokenizer.vocab_size,
        max_model_len=SHORT_MODEL_LEN,
    )
    models = [
        tiny,
        open_model(["other"], directory, EngineConfig(dtype="float32"), metrics),
        _named(tiny, "short", tokenizer=short, max_model_len=SHORT_MODEL_LEN),
        _named(tiny, "listed", matryoshka_dimensions=(16, 32)),
    ]
    with serving(models, metrics) as client:
        yield client


def _named(model: ServedModel, name: str, **changes: object) -> ServedModel:
    """`model` under another name, on the same engine."""
    return replace(model, names=(name,), **changes)  # type: ignore[arg-type]
