"""The model begins as the bag of tokens that its table was, whatever its depth."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from batches import Source, steps
from start import as_bag
from tests.training.conftest import DESIGN, HIDDEN
from tokens import EOS


@pytest.mark.parametrize("layers", [1, 3])
def test_the_model_begins_as_the_bag_of_its_table(
    source: Source, first: torch.Tensor, layers: int
) -> None:
    """With rows of very different lengths, which the model's norm takes away."""
    rows = first * torch.linspace(0.2, 3.0, len(first))[:, None]
    eos = int(source.vocabulary.row_of_token[EOS])
    student = as_bag(replace(DESIGN.shape, layers=layers), rows, eos)
    step = next(steps(source, 2_048, epoch=0, seed=0))

    for packed in step.micro_batches:
        with torch.no_grad():
            vectors = student(packed)
        means = torch.stack([
            rows[packed.ids[packed.text == number]].mean(dim=0)
            for number in range(len(packed.texts))
        ])  # fmt: skip
        cosines = functional.cosine_similarity(vectors[:, :-2], means[:, :-2])
        assert cosines.min() > 0.98
        assert cosines.mean() > 0.995


def test_the_row_of_unknown_tokens_adds_nothing(source: Source, first: torch.Tensor) -> None:
    student = as_bag(DESIGN.shape, first, int(source.vocabulary.row_of_token[EOS]))

    assert not student.embed_tokens.weight[0].any()
    assert student.embed_tokens.weight[1:].norm(dim=1).median().item() == pytest.approx(HIDDEN**0.5)


def test_a_shape_whose_values_cannot_pass_straight_on_is_refused(first: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="heads are as wide as hidden"):
        as_bag(replace(DESIGN.shape, kv_heads=1), first, 1)
