"""The embedded model as it is shipped, loaded once, and the small evaluation set that it is scored on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from hexgrid import nano
from hexgrid.config import EngineConfig
from hexgrid.engine.native import open_model
from hexgrid.engine.served_model import ServedModel
from hexgrid.evaluation.datasets import EvaluationSet, read_sets
from hexgrid.metrics import Metrics

DATA = Path(__file__).parents[1] / "data/eval"


@pytest.fixture(scope="session")
def nano_model() -> Iterator[ServedModel]:
    """`hexgrid/nano` in float32, with room for all of a test's inputs in one batch."""
    config = EngineConfig(dtype="float32", max_num_batched_tokens=16_384, result_cache_bytes=0)
    model = open_model([nano.NAME], nano.NAME, config, Metrics())
    yield model
    model.engine.close()


@pytest.fixture(scope="session")
def sets() -> list[EvaluationSet]:
    """Pairs of everyday sentences, and questions on household paragraphs."""
    return read_sets(DATA)
