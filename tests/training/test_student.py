"""What the student is made of."""

from dataclasses import replace

import pytest
import torch

from batches import Source, steps
from student import Student
from tests.training.conftest import DESIGN


@pytest.mark.parametrize("layers", [1, 3])
def test_without_its_head_a_text_is_what_its_tokens_hand_on(
    source: Source, first: torch.Tensor, layers: int
) -> None:
    """The last layer's MLP adds nothing; those below it do what they did."""
    student = Student(replace(DESIGN.shape, layers=layers), first)
    packed = next(steps(source, 2_048, epoch=0, seed=0)).micro_batches[0]
    handed_on: list[torch.Tensor] = []
    mlp = student.get_submodule(f"layers.{layers - 1}.post_attention_layernorm")
    mlp.register_forward_pre_hook(lambda _, inputs: handed_on.append(inputs[0]))

    with torch.no_grad():
        with_head = student(packed)
        student.set_head_aside()
        without = student(packed)

    assert torch.equal(handed_on[0], handed_on[1])
    wanted = student.norm(handed_on[1]).flatten(0, 1)[packed.pooled]
    torch.testing.assert_close(without, wanted)
    assert (with_head - without).abs().max() > 0.1
