"""Texts with a common beginning: the same vectors, from fewer computed tokens."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from hexgrid.engine.shared_prefixes import SharedPrefixes
from hexgrid.model.checkpoint import open_checkpoint
from hexgrid.model.int8_file import load_int8
from hexgrid.model.packing import Packed, pack
from hexgrid.model.qwen3 import Qwen3
from tests.checkpoints import CheckpointFactory, random_ids, shaped
from tests.model.running import CPU, open_qwen3

HEADS = random_ids([20, 33, 8])
TAILS = random_ids([1, 5, 17, 64, 2, 3])
MANY = 2**22  # bytes: room for all of them


@pytest.fixture(scope="module")
def directory(new_checkpoint: CheckpointFactory) -> Path:
    return new_checkpoint(shaped(num_hidden_layers=3))


@pytest.fixture(scope="module")
def model(directory: Path) -> Qwen3:
    return open_qwen3(directory, rows_per_chunk=16)


def forward(
    model: Qwen3, prefixes: SharedPrefixes, batch: list[list[int]]
) -> tuple[Tensor, Packed]:
    """Unit vectors, and what was run for them."""
    with prefixes.reused(batch) as reuse:
        packed = pack(batch, CPU, reuse)
        return normalize(model.forward(packed)), packed


def alone(model: Qwen3, batch: list[list[int]]) -> Tensor:
    """Unit vectors of each, computed whole and by itself."""
    return normalize(torch.cat([model.forward(pack([ids], CPU)) for ids in batch]))


def batches() -> list[list[list[int]]]:
    """Texts of every head with every tail, few at a time; the same ones again in another order."""
    texts = [[*head, *tail] for tail in TAILS for head in HEADS]
    return [texts[at : at + 4] for at in range(0, len(texts), 4)] + [texts[::-2], texts[::3]]


@pytest.mark.parametrize("num_bytes", [MANY, 40 * 768, 12 * 768], ids=["room", "tight", "few"])
def test_vectors_are_those_without_the_cache(model: Qwen3, num_bytes: int) -> None:
    reused: list[int] = []
    prefixes = SharedPrefixes(model, num_bytes, reused.append)

    for batch in batches():
        found, packed = forward(model, prefixes, batch)
        torch.testing.assert_close(found, alone(model, batch), rtol=0, atol=2e-5)
        assert len(packed.token_ids) == sum(map(len, batch)) - (
            reused[-1] if packed.prefixes else 0
        )

    assert sum(reused) > 0
    assert prefixes.num_bytes <= num_bytes


@pytest.mark.parametrize("shape", [shaped(num_hidden_layers=1), shaped(num_key_value_heads=4)])
def test_in_every_shape(new_checkpoint: CheckpointFactory, shape: object) -> None:
    model = open_qwen3(new_checkpoint(shape))  # type: ignore[arg-type]
    prefixes = SharedPrefixes(model, MANY)

    for batch in batches():
        found, _ = forward(model, prefixes, batch)
        torch.testing.assert_close(found, alone(model, batch), rtol=0, atol=2e-5)


def test_in_bfloat16_and_int8(directory: Path, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(directory)
    weights = load_int8(checkpoint, tmp_path, lambda _: None)
    int8 = Qwen3(checkpoint.config, weights, max_positions=256, rows_per_chunk=256)
    for model in (open_qwen3(directory, torch.bfloat16), int8):
        prefixes = SharedPrefixes(model, MANY)
        for batch in batches():
            found, _ = forward(model, prefixes, batch)
            assert cosine_similarity(found, alone(model, batch)).min() > 0.9999


def test_only_a_texts_own_tokens_are_computed(model: Qwen3) -> None:
    counted: list[int] = []
    prefixes = SharedPrefixes(model, MANY, counted.append)
    head = HEADS[0]
    for tail in TAILS[:2]:
        forward(model, prefixes, [[*head, *tail]])

    _, packed = forward(model, prefixes, [[*head, 7, 8], [*head, 9]])

    assert packed.token_ids.tolist() == [7, 8, 9]
    assert packed.positions.tolist() == [20, 21, 20]
    assert counted[-1] == 40
    assert prefixes.num_bytes == 20 * 768


def test_a_pass_that_fails_leaves_nothing_to_be_read(model: Qwen3) -> None:
    prefixes = SharedPrefixes(model, MANY)
    text = [*HEADS[0], 1]
    forward(model, prefixes, [text])
    with pytest.raises(ZeroDivisionError), prefixes.reused([text]):
        raise ZeroDivisionError

    assert prefixes.num_bytes == 0
    torch.testing.assert_close(
        forward(model, prefixes, [text])[0], alone(model, [text]), rtol=0, atol=2e-5
    )
