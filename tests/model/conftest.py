"""What several tests of the model share."""

from pathlib import Path

import pytest
import torch

from hexgrid.model.checkpoint import open_checkpoint
from hexgrid.model.kv_cache import KVCache
from tests.checkpoints import CheckpointFactory
from tests.model.running import CPU


@pytest.fixture(scope="module")
def small_directory(new_checkpoint: CheckpointFactory) -> Path:
    return new_checkpoint()


@pytest.fixture
def kv_cache(small_directory: Path) -> KVCache:
    """Eight slots of the small model."""
    return KVCache(open_checkpoint(small_directory).config, 8, torch.float32, CPU)
