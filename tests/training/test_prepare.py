"""The space that nano is asked for."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.progress import Progress

import prepare
import teacher
from corpus import Corpus

SIZES = (4.0, 2.0, 1.0)


def space_of(directions: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    """The space of texts that lie along `directions` [3, 384], by `SIZES` far from the origin."""
    vectors = directions * torch.tensor(SIZES)[:, None]
    return prepare.principal_axes(vectors.numpy().astype(np.float16), np.array(lengths))


def test_axes_stand_by_size_and_the_small_ones_are_enlarged() -> None:
    directions = torch.eye(teacher.WIDTH)[[7, 300, 41]]

    space = space_of(directions, [1, 1, 1])

    found = (directions @ space)[:, :3]
    wanted = torch.tensor([(size / SIZES[0]) ** -prepare._EVENING for size in SIZES])
    assert wanted[0] < wanted[1] < wanted[2]
    torch.testing.assert_close(found.abs(), torch.diag(wanted), atol=1e-3, rtol=1e-3)


def test_long_texts_count_for_more() -> None:
    directions = torch.eye(teacher.WIDTH)[[7, 300, 41]]

    space = space_of(directions, [1, 1, 10_000])

    first = (directions @ space)[:, 0].abs()
    assert first.tolist() == pytest.approx([0, 0, 1], abs=1e-3)


def test_a_text_whose_beginning_counts_twice_is_asked_for_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The teacher here gives each text the axis of its length."""

    def of_length(texts: Sequence[str], *_: object) -> teacher.Vectors:
        return np.eye(teacher.WIDTH, dtype=np.float16)[[len(text) for text in texts]]

    monkeypatch.setattr(teacher, "vectors", of_length)
    corpus = Corpus(sources=["prose"])
    corpus.add(0, "a question", "a beginning and an end")
    corpus.add_beginning("a beginning and an end", "a beginning")

    found = prepare._taught(corpus, tmp_path, Progress(disable=True))

    wanted = of_length(corpus.texts).astype(np.float32)
    wanted[1] += of_length(["a beginning"])[0]
    wanted[1] /= np.linalg.norm(wanted[1])
    np.testing.assert_allclose(found, wanted, atol=1e-3)
