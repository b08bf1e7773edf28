"""What several tests of the model share."""

import ctypes
from pathlib import Path

import pytest
import torch

from hexgrid.model import cpu_kernels
from hexgrid.model.checkpoint import open_checkpoint
from hexgrid.model.kv_cache import KVCache
from tests.checkpoints import CheckpointFactory
from tests.model.kernels import HAS_KERNELS, PROCESSORS
from tests.model.running import CPU


@pytest.fixture(scope="module")
def small_directory(new_checkpoint: CheckpointFactory) -> Path:
    return new_checkpoint()


@pytest.fixture(params=PROCESSORS or ["none"])
def processor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind of processor whose kernels this machine can run, in turn."""
    if HAS_KERNELS:
        library = cpu_kernels.open_library(request.param)
        assert isinstance(library, ctypes.CDLL), "compiled while the package was installed"
        monkeypatch.setattr(cpu_kernels, "_library", library)


@pytest.fixture
def kv_cache(small_directory: Path) -> KVCache:
    """Eight slots of the small model."""
    return KVCache(open_checkpoint(small_directory).config, 8, torch.float32, CPU)
