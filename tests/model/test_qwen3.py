"""The packed forward pass against transformers and a naive reference, and against itself."""

import itertools
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cosine_similarity

from hexgrid.model import qwen3
from hexgrid.model.packing import pack
from hexgrid.model.qwen3 import Qwen3
from tests.checkpoints import SMALL, CheckpointFactory, random_ids, shaped
from tests.model.running import CPU, Padding, Transformers, embed, open_qwen3
from tests.reference import Reference

# One token, neighbours of each other's length, and lengths on both sides of a chunk's end.
BATCH = random_ids([1, 2, 17, 17, 64, 65, 200])

SHAPES = {
    "published proportions": SMALL,
    "heads wider than the hidden size": shaped(
        hidden_size=48, num_attention_heads=6, num_key_value_heads=3, head_dim=40
    ),
    "one key head": shaped(num_attention_heads=5, num_key_value_heads=1, head_dim=24),
    "as many key heads as query heads": shaped(num_key_value_heads=4),
    "one layer": shaped(num_hidden_layers=1),
    "four layers": shaped(num_hidden_layers=4),
}

FORMS: dict[str, dict[str, Any]] = {
    "prefix": {"prefix": "model."},
    "output layer": {"prefix": "model.", "shape": shaped(tie_word_embeddings=False)},
    "files": {"num_files": 3},
    "transformers 5": {"style": "transformers 5", "config": {"rope_theta": 500}},
    "transformers 4": {"style": "transformers 4", "config": {"rope_theta": 500}},
    "epsilon": {"config": {"rms_norm_eps": 0.1}},
    "bfloat16 files": {"dtype": torch.bfloat16},
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("padding", ["left", "right"])
def test_vectors_are_those_of_transformers(
    new_checkpoint: CheckpointFactory, shape: Any, padding: Padding
) -> None:
    directory = new_checkpoint(shape)

    expected = Transformers(directory).embed(BATCH, padding=padding)

    torch.testing.assert_close(embed(open_qwen3(directory), BATCH), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_vectors_are_those_of_transformers_in_every_form_of_checkpoint(
    new_checkpoint: CheckpointFactory, form: dict[str, Any]
) -> None:
    directory = new_checkpoint(**form)

    expected = Transformers(directory).embed(BATCH, padding="left")

    torch.testing.assert_close(embed(open_qwen3(directory), BATCH), expected, rtol=0, atol=2e-5)


def test_hidden_states_are_those_of_transformers_before_they_are_normalised(
    new_checkpoint: CheckpointFactory,
) -> None:
    directory = new_checkpoint(config={"rms_norm_eps": 0.1})

    expected = Transformers(directory).forward(BATCH, padding="right")

    hidden = open_qwen3(directory).forward(pack(BATCH, CPU))
    torch.testing.assert_close(hidden, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("padding", ["left", "right"])
def test_vectors_are_those_of_the_naive_reference(
    new_checkpoint: CheckpointFactory, shape: Any, padding: Padding
) -> None:
    directory = new_checkpoint(shape, prefix="model.", num_files=2)

    expected = Reference(directory).embed(BATCH, padding=padding)

    torch.testing.assert_close(embed(open_qwen3(directory), BATCH), expected, rtol=0, atol=2e-5)


@pytest.fixture(scope="module")
def directory(new_checkpoint: CheckpointFactory) -> Path:
    return new_checkpoint(dtype=torch.bfloat16)


@pytest.fixture(scope="module")
def model(directory: Path) -> Qwen3:
    return open_qwen3(directory)


def close(actual: torch.Tensor, expected: torch.Tensor) -> bool:
    return torch.allclose(actual, expected, rtol=0, atol=1e-5)


def test_an_input_alone_and_in_a_batch_has_the_same_vector(model: Qwen3) -> None:
    alone = torch.cat([embed(model, [ids]) for ids in BATCH])

    assert close(embed(model, BATCH), alone)


def test_the_order_of_a_batch_changes_no_vector(model: Qwen3) -> None:
    order = random.Random(0).sample(range(len(BATCH)), len(BATCH))

    assert close(embed(model, [BATCH[i] for i in order]), embed(model, BATCH)[order])


def test_neighbours_change_no_vector(model: Qwen3) -> None:
    others = [[(token_id + 1) % SMALL.vocab_size for token_id in ids] for ids in BATCH[1:]]

    assert close(embed(model, [BATCH[0], *others])[0], embed(model, BATCH)[0])


def test_inputs_of_equal_length_keep_their_own_vectors(model: Qwen3) -> None:
    batch = random_ids([33] * 5)

    alone = torch.cat([embed(model, [ids]) for ids in batch])
    assert close(embed(model, batch), alone)
    assert len(alone.unique(dim=0)) == 5


def test_one_to_4096_tokens_mix_in_one_batch(model: Qwen3) -> None:
    batch = random_ids([4096, 1, 700, 2, 1024, 3])

    assert close(embed(model, batch), torch.cat([embed(model, [ids]) for ids in batch]))


def test_every_token_and_its_place_count(model: Qwen3) -> None:
    ids = random_ids([50])[0]
    variants = [ids, ids[::-1], ids[1:], [ids[0] ^ 1, *ids[1:]], [*ids[:-1], ids[-1] ^ 1]]

    vectors = embed(model, variants)
    for one, other in itertools.combinations(vectors, 2):
        assert not close(one, other)


@pytest.mark.parametrize("rows_per_chunk", [1, 7, 100_000])
def test_chunking_cannot_be_seen(directory: Path, model: Qwen3, rows_per_chunk: int) -> None:
    chunked = open_qwen3(directory, rows_per_chunk=rows_per_chunk)

    assert close(embed(chunked, BATCH), embed(model, BATCH))


def test_a_pass_leaves_nothing_behind(model: Qwen3) -> None:
    first = embed(model, BATCH)
    embed(model, random_ids([100, 3]))

    assert torch.equal(embed(model, BATCH), first)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_bfloat16_stays_close_to_float32(new_checkpoint: CheckpointFactory, shape: Any) -> None:
    directory = new_checkpoint(shape, dtype=torch.bfloat16)

    narrow = embed(open_qwen3(directory, torch.bfloat16), BATCH)

    assert cosine_similarity(narrow, embed(open_qwen3(directory), BATCH)).min() > 0.9999


def test_bfloat16_alone_and_in_a_batch_agree(directory: Path) -> None:
    model = open_qwen3(directory, torch.bfloat16)

    alone = torch.cat([embed(model, [ids]) for ids in BATCH])
    assert cosine_similarity(embed(model, BATCH), alone).min() > 0.9999


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_narrow_model_run_in_float32_is_the_float32_model(
    directory: Path, model: Qwen3, dtype: torch.dtype
) -> None:
    narrow = open_qwen3(directory, dtype)

    in_float32 = embed(narrow, BATCH, torch.float32)

    # bfloat16 weights fit float16 but for the smallest, so the two differ by rounding there.
    atol = 1e-5 if dtype == torch.bfloat16 else 1e-3
    torch.testing.assert_close(in_float32, embed(model, BATCH), rtol=0, atol=atol)


def test_hidden_states_are_float32_whatever_they_were_computed_in(directory: Path) -> None:
    model = open_qwen3(directory, torch.bfloat16)

    hidden = model.forward(pack(BATCH, CPU))

    assert (hidden.dtype, hidden.shape) == (torch.float32, (len(BATCH), SMALL.hidden_size))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_memory_of_the_weights_is_counted(directory: Path, dtype: torch.dtype) -> None:
    model = open_qwen3(directory, dtype)

    table = SMALL.vocab_size * SMALL.hidden_size
    # The table stays in the files' bfloat16.
    assert model.num_bytes == 2 * table + dtype.itemsize * (model.config.num_parameters - table)


@pytest.mark.parametrize(("most_scores", "num_pieces"), [(2**19, 5), (16 * 30, 9)])
def test_steps_give_what_the_pass_does_whatever_runs_in_between(
    new_checkpoint: CheckpointFactory,
    monkeypatch: pytest.MonkeyPatch,
    most_scores: int,
    num_pieces: int,
) -> None:
    monkeypatch.setattr(qwen3, "_MOST_SCORES", most_scores)
    model = open_qwen3(new_checkpoint(shaped(num_hidden_layers=3)), rows_per_chunk=16)
    (long,) = random_ids([70])
    expected = model.forward(pack([long], CPU))

    steps = model.steps(pack([long], CPU))
    num_steps = 0
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found = end.value
            break
        num_steps += 1
        model.forward(pack(BATCH, CPU))

    assert num_steps == 2 * num_pieces + 5  # the last layer has no attention of all rows
    assert torch.equal(found, expected)
    monkeypatch.undo()
    torch.testing.assert_close(found, model.forward(pack([long], CPU)), rtol=1e-5, atol=1e-5)


def test_a_chunk_bounds_the_memory_of_what_works_row_by_row(model: Qwen3) -> None:
    step = model.activation_bytes(20_000) - model.activation_bytes(10_000)

    assert model.activation_bytes(10_000) < 2 * step
    assert step == 4 * 10_000 * (64 + 2 * 32)  # hidden, k, v
