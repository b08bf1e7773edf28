"""A server that keeps files and batches."""

from collections.abc import Iterator
from pathlib import Path

import httpx2
import openai
import pytest

from hexgrid.engine.served_model import ServedModel
from tests.server.batches.asking import sdk
from tests.server.running import (
    serving_one,
)


@pytest.fixture
def client(tiny_model: ServedModel, tmp_path: Path) -> Iterator[httpx2.Client]:
    with serving_one(tiny_model, batch_dir=tmp_path / "batches") as client:
        yield client


@pytest.fixture
def api(client: httpx2.Client) -> openai.OpenAI:
    return sdk(client)
