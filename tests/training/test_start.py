"""The model begins as the bag of tokens that its table was, leaning to a text's beginning."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

import packing
import student as students
from batches import Source, steps
from designs import Shape
from start import as_bag
from student import THETA
from tests.training.conftest import DESIGN, HIDDEN
from tokens import EOS


def lean(distances: torch.Tensor, head_dim: int) -> torch.Tensor:
    """By how much the score of a token is raised for being so many tokens before the last [S]."""
    rates = THETA ** -(torch.arange(0, head_dim, 2) / head_dim)
    periods = 2 * torch.pi / rates
    some = rates[(periods > 700) & (periods < 10_000)]
    return 1.35 * (distances[:, None] * some - 0.75 * torch.pi).cos().mean(dim=1)


def leaning_mean(rows: torch.Tensor) -> torch.Tensor:
    """[H], of the rows [S, H] of a text's tokens."""
    weights = lean(torch.arange(len(rows) - 1, -1, -1), DESIGN.shape.head_dim).exp()
    return (weights[:, None] * rows).sum(dim=0) / weights.sum()


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
            leaning_mean(rows[packed.ids[packed.text == number]])
            for number in range(len(packed.texts))
        ])  # fmt: skip
        cosines = functional.cosine_similarity(vectors[:, :-2], means[:, :-2])
        assert cosines.min() > 0.98
        assert cosines.mean() > 0.995


def test_the_beginning_of_a_long_text_counts_more_than_its_end(first: torch.Tensor) -> None:
    """The first half of it is one word, the second another; EOS is a third."""
    student = as_bag(DESIGN.shape, first, eos=1)
    ids = torch.tensor([2] * 250 + [3] * 249 + [1])

    with torch.no_grad():
        vector = student(packing.alone(ids.numpy()))[0, :-2]

    leaning, level = leaning_mean(first[ids])[:-2], first[ids].mean(dim=0)[:-2]
    assert functional.cosine_similarity(vector, leaning, dim=0) > 0.99
    assert functional.cosine_similarity(vector, level, dim=0) < 0.96


def test_the_lean_rises_over_a_passage_and_ends_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads as wide as the shipped ones: their scores of one word that fills a long text, from its end."""
    scores: list[torch.Tensor] = []

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        scores.append((q @ k.transpose(2, 3))[0, 0, 0].flip(0) * q.shape[3] ** -0.5)
        return torch.zeros_like(q)

    monkeypatch.setattr(students, "_attend", attend)
    torch.manual_seed(0)
    shape = Shape(layers=1, intermediate=32, hidden=64, heads=1, kv_heads=1, head_dim=64)
    student = as_bag(shape, torch.randn(4, 64), eos=1)

    with torch.no_grad():
        student(packing.alone(np.array([2] * 8_191 + [1])))

    height = scores[0][1:] - scores[0][1]
    assert (height[25:300:25] > height[:275:25]).all()
    assert 1.0 < height[300] < 1.2
    assert height[300:].max() < 1.7
    assert height[300:].min() > 0


def test_the_row_of_unknown_tokens_adds_nothing(source: Source, first: torch.Tensor) -> None:
    student = as_bag(DESIGN.shape, first, int(source.vocabulary.row_of_token[EOS]))

    assert not student.embed_tokens.weight[0].any()
    assert student.embed_tokens.weight[1:].norm(dim=1).median().item() == pytest.approx(HIDDEN**0.5)


def test_a_shape_whose_values_cannot_pass_straight_on_is_refused(first: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="heads are as wide as hidden"):
        as_bag(replace(DESIGN.shape, kv_heads=1), first, 1)
