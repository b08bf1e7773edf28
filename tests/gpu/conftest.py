"""A small model with the published head_dim on the CUDA device; its tests are skipped where there is none."""

from pathlib import Path

import pytest
import torch

from hexgrid.model.qwen3 import Qwen3
from tests.checkpoints import CheckpointFactory, shaped
from tests.model.running import open_qwen3

# The published head_dim, which kernels are made for; everything else small.
SHAPE = shaped(head_dim=128, num_attention_heads=8, num_key_value_heads=4, hidden_size=256)


@pytest.fixture(scope="module")
def cuda() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device("cuda")


@pytest.fixture(scope="module")
def directory(new_checkpoint: CheckpointFactory) -> Path:
    return new_checkpoint(SHAPE, dtype=torch.bfloat16)


@pytest.fixture(scope="module")
def narrow(directory: Path, cuda: torch.device) -> Qwen3:
    """In bfloat16, with as many rows at a time as the server has on a GPU."""
    return open_qwen3(directory, torch.bfloat16, device=cuda, rows_per_chunk=16_384)
