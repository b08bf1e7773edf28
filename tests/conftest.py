"""Fixtures that many test files share: seeded random checkpoints of the real architecture."""

import os
import signal

# Before huggingface_hub is imported: no test may reach for the hub.
os.environ["HF_HUB_OFFLINE"] = "1"
# A job in the background is started deaf to Ctrl-C, and so would be the commands that tests interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from hexgrid.config import EngineConfig
from hexgrid.engine.native import open_model
from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics
from hexgrid.model.synthetic import make_checkpoint
from tests.checkpoints import CheckpointFactory, write_checkpoint

# The tensors are tiny: handing rows to other threads takes a hundred times longer than the rows do.
torch.set_num_threads(1)
# No deadline: tests assert nothing about time.
settings.register_profile("hexgrid", deadline=None)
settings.load_profile("hexgrid")


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The "tiny" checkpoint in bfloat16, with the real tokenizer. Read only: all tests share it."""
    directory = tmp_path_factory.mktemp("shared") / "tiny"
    make_checkpoint(directory, "tiny")
    return directory


@pytest.fixture(scope="session")
def tiny_model(tiny_checkpoint: Path) -> Iterator[ServedModel]:
    """`tiny_checkpoint`, opened in float32."""
    model = open_model(
        ["tiny"], tiny_checkpoint, EngineConfig(dtype="float32", result_cache_bytes=0), Metrics()
    )
    yield model
    model.engine.close()


@pytest.fixture(scope="session")
def new_checkpoint(
    tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> CheckpointFactory:
    """Writes a checkpoint of any shape and form into a new directory."""

    def write(*args: object, **kwargs: object) -> Path:
        directory = tmp_path_factory.mktemp("checkpoint")
        write_checkpoint(directory, tiny_checkpoint, *args, **kwargs)  # type: ignore[arg-type]
        return directory

    return write
