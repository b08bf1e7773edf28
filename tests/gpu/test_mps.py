"""The forward pass on Apple's GPUs."""

import pytest
import torch

from tests.checkpoints import CheckpointFactory, random_ids
from tests.model.running import embed, open_qwen3

pytestmark = pytest.mark.gpu


def test_float32_vectors_are_those_of_the_processor(new_checkpoint: CheckpointFactory) -> None:
    if not torch.mps.is_available():
        pytest.skip("no MPS device")
    directory, batch = new_checkpoint(), random_ids([1, 2, 17, 300])

    vectors = embed(open_qwen3(directory, device=torch.device("mps")), batch)

    expected = embed(open_qwen3(directory), batch)
    torch.testing.assert_close(vectors, expected, rtol=0, atol=5e-5)
