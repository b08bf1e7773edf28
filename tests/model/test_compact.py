"""Compact checkpoints: served like others, exported to what everyone loads, refused by name when broken."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hexgrid.errors import CheckpointError
from hexgrid.model import layout
from hexgrid.model.checkpoint import open_checkpoint
from hexgrid.model.compact import compact, export
from hexgrid.model.embedding_table import CompactTable, look_up
from hexgrid.model.loading import load_weights
from hexgrid.tokenizer import Tokenizer
from tests.checkpoints import SMALL, CheckpointFactory, edit_json, random_ids, shaped
from tests.model.running import CPU, Transformers, embed, open_qwen3

WEIGHTS = "model.safetensors"
EMBEDDING = "embed_tokens.weight"
PARTS = ("embed_tokens.rows", "embed_tokens.scales", "embed_tokens.row_of_token")
KEPT = range(0, SMALL.vocab_size, 2)
IDS = [*random_ids([1, 3, 17, 40]), list(KEPT[:30])]


@pytest.fixture(scope="module")
def standard(new_checkpoint: CheckpointFactory) -> Path:
    """A small checkpoint as people publish it. Read only."""
    return new_checkpoint(prefix="model.", num_files=2, dtype=torch.bfloat16)


@pytest.fixture(scope="module")
def small(standard: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`standard`, compact, with every other token kept. Read only."""
    directory = tmp_path_factory.mktemp("compact")
    compact(standard, directory, keep=KEPT)
    return directory


@pytest.fixture
def broken(small: Path, tmp_path: Path) -> Path:
    """A copy of `small`, to break."""
    (tmp_path / "tokenizer.json").hardlink_to(small / "tokenizer.json")
    shutil.copy(small / "config.json", tmp_path)
    save_file(load_file(small / WEIGHTS), tmp_path / WEIGHTS)
    return tmp_path


def edit(directory: Path, name: str, tensor: Tensor | None) -> None:
    """Replace a tensor, or remove it."""
    tensors = load_file(directory / WEIGHTS)
    del tensors[name]
    save_file(tensors if tensor is None else tensors | {name: tensor}, directory / WEIGHTS)


def looked_up(directory: Path, dtype: torch.dtype) -> Tensor:
    """The rows of all tokens [V, H], as a model of that precision reads them."""
    weights = load_weights(open_checkpoint(directory), CPU, dtype)
    return look_up(weights.embedding, torch.arange(SMALL.vocab_size), dtype)


def files(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def test_a_compact_checkpoint_has_the_three_tensors_and_everything_else_as_it_was(
    standard: Path, small: Path
) -> None:
    before, after = (open_checkpoint(each) for each in (standard, small))

    assert after.tensors.keys() - before.tensors.keys() == set(PARTS)
    assert before.tensors.keys() - after.tensors.keys() == {EMBEDDING}
    assert after.tensors["embed_tokens.rows"].shape == (len(KEPT) + 1, SMALL.hidden_size)
    assert (after.config, after.prompts) == (before.config, before.prompts)
    assert {entry.dtype for entry in after.tensors.values()} == {"BF16", "I8", "F16", "I32"}


def test_its_size_is_told(small: Path) -> None:
    stored = sum(tensor.nbytes for tensor in load_file(small / WEIGHTS).values())

    assert open_checkpoint(small).num_bytes == stored


def test_the_other_weights_can_be_narrowed(
    new_checkpoint: CheckpointFactory, tmp_path: Path
) -> None:
    compact(new_checkpoint(), tmp_path, dtype=torch.bfloat16)

    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.tensors["norm.weight"].dtype == "BF16"
    assert checkpoint.config.dtype == "bfloat16"


def test_kept_tokens_are_read_from_their_rows_and_the_others_as_zero(
    standard: Path, small: Path
) -> None:
    original, loaded = (looked_up(each, torch.float32) for each in (standard, small))

    kept = torch.zeros(SMALL.vocab_size, dtype=torch.bool)
    kept[list(KEPT)] = True
    assert loaded[~kept].count_nonzero() == 0
    largest = original[kept].abs().amax(dim=1, keepdim=True)
    assert ((loaded - original)[kept].abs() <= largest / 127 / 2 * 1.001).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_table_is_served_as_it_is_stored(small: Path, dtype: torch.dtype) -> None:
    stored = load_file(small / WEIGHTS)

    embedding = load_weights(open_checkpoint(small), CPU, dtype).embedding

    assert isinstance(embedding, CompactTable)
    for name, part in zip(PARTS, embedding, strict=True):
        assert torch.equal(part, stored[name])
    assert embedding.nbytes == sum(stored[name].nbytes for name in PARTS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rows_take_the_precision_of_the_model(small: Path, dtype: torch.dtype) -> None:
    rows = looked_up(small, dtype)

    assert rows.dtype == dtype
    assert torch.equal(rows, looked_up(small, torch.float32).to(dtype))


def test_each_input_alone_is_itself_in_a_batch(small: Path) -> None:
    model = open_qwen3(small)

    together = embed(model, IDS)
    alone = torch.cat([embed(model, [ids]) for ids in IDS])

    assert torch.allclose(together, alone, atol=1e-6)


def test_vectors_stay_close_to_those_before(standard: Path, small: Path) -> None:
    ids = [[token for token in each if token in KEPT] or [0] for each in IDS]

    before, after = (embed(open_qwen3(each), ids) for each in (standard, small))

    assert ((before * after).sum(dim=1) > 0.999).all()


def test_exported_in_float32_it_gives_the_same_vectors_here_and_in_transformers(
    small: Path, tmp_path: Path
) -> None:
    expected = embed(open_qwen3(small), IDS)

    export(small, tmp_path)

    assert torch.allclose(embed(open_qwen3(tmp_path), IDS), expected, atol=1e-6)
    theirs = Transformers(tmp_path).embed(IDS, padding="left")
    assert torch.allclose(theirs, expected, atol=1e-4)


def test_exported_in_bfloat16_it_gives_nearly_the_same_vectors(small: Path, tmp_path: Path) -> None:
    export(small, tmp_path, "bfloat16")

    assert {t.dtype for t in open_checkpoint(tmp_path).tensors.values()} == {"BF16"}
    cosines = (embed(open_qwen3(tmp_path), IDS) * embed(open_qwen3(small), IDS)).sum(dim=1)
    assert (cosines > 0.999).all()


@pytest.fixture(scope="module")
def compact_tiny(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The tiny checkpoint with the real tokenizer, compact; the commonest and the special tokens are kept."""
    directory = tmp_path_factory.mktemp("compact-tiny")
    compact(tiny_checkpoint, directory, keep={*range(20_000), *range(151_643, 151_669)})
    yield directory
    (directory / WEIGHTS).unlink()


def test_sentence_transformers_gives_the_vectors_of_the_compact_checkpoint(
    compact_tiny: Path, tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    texts = ["What is the capital of China?", "", "Beijing."]
    tokenizer = Tokenizer(compact_tiny / "tokenizer.json", vocab_size=151_669, max_model_len=64)
    expected = embed(open_qwen3(compact_tiny), tokenizer.encode(texts).token_ids)

    export(compact_tiny, tmp_path)

    theirs = SentenceTransformer(str(tmp_path), device="cpu")
    assert torch.allclose(torch.from_numpy(theirs.encode(texts)), expected, atol=1e-4)
    query = theirs.encode(texts[:1], prompt_name="query")
    prompt = open_checkpoint(compact_tiny).prompts["query"]
    (ids,) = tokenizer.encode([prompt + texts[0]]).token_ids
    assert torch.allclose(
        torch.from_numpy(query), embed(open_qwen3(compact_tiny), [ids]), atol=1e-4
    )


def test_a_compact_checkpoint_is_a_fraction_of_the_whole(
    compact_tiny: Path, tiny_checkpoint: Path
) -> None:
    sizes = [(each / WEIGHTS).stat().st_size for each in (compact_tiny, tiny_checkpoint)]

    assert sizes[0] < sizes[1] / 6


def test_an_export_holds_every_file_of_the_published_layout(
    standard: Path, small: Path, tmp_path: Path
) -> None:
    export(small, tmp_path)

    assert files(tmp_path) == {
        "1_Pooling/config.json",
        "config.json",
        "config_sentence_transformers.json",
        "model.safetensors",
        "modules.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    for name in files(tmp_path) - {"config.json", WEIGHTS}:
        assert (tmp_path / name).read_bytes() == (standard / name).read_bytes(), name
    config = json.loads((tmp_path / "config.json").read_text())
    before = json.loads((standard / "config.json").read_text())
    assert config == before | {"torch_dtype": "float32"}


def test_notices_go_along_and_code_and_other_weights_do_not(small: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    compact(small, source)
    for name in ("README.md", "LICENSE", "merges.txt", "model.py", "pytorch_model.bin"):
        (source / name).write_text(name)
    (source / ".git").mkdir()
    (source / ".git/x.json").write_text("{}")

    export(source, target)

    assert files(target) - files(small) == {"README.md", "LICENSE", "merges.txt"}


def test_a_checkpoint_without_modules_gets_them(
    new_checkpoint: CheckpointFactory, tmp_path: Path
) -> None:
    directory = new_checkpoint(style="transformers 5")
    (directory / "modules.json").unlink()

    export(directory, tmp_path, "bfloat16")

    modules = json.loads((tmp_path / "modules.json").read_text())
    assert [module["path"] for module in modules] == ["", "1_Pooling", "2_Normalize"]
    pooling = json.loads((tmp_path / "1_Pooling/config.json").read_text())
    assert (pooling["pooling_mode_lasttoken"], pooling["word_embedding_dimension"]) == (True, 64)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"


def test_an_output_layer_is_left_behind(new_checkpoint: CheckpointFactory, tmp_path: Path) -> None:
    export(new_checkpoint(shaped(tie_word_embeddings=False)), tmp_path)

    assert "lm_head.weight" not in load_file(tmp_path / WEIGHTS)


def test_a_large_export_is_split_and_its_old_index_is_not_copied(
    standard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(standard, tmp_path / "one")
    monkeypatch.setattr(layout, "SHARD_BYTES", 100_000)
    told: list[tuple[int, int]] = []

    export(standard, tmp_path / "many", on_tensor=lambda *progress: told.append(progress))

    assert "model.safetensors.index.json" not in files(tmp_path / "one")
    assert len(list((tmp_path / "many").glob("model-*.safetensors"))) > 2
    assert told[-1] == (open_checkpoint(tmp_path / "many").num_bytes,) * 2
    assert torch.equal(*(embed(open_qwen3(tmp_path / name), IDS) for name in ("one", "many")))


@pytest.mark.parametrize("write", [compact, export])
def test_a_directory_that_holds_something_is_left_alone(
    small: Path, tmp_path: Path, write: Any
) -> None:
    (tmp_path / "thesis.txt").touch()

    with pytest.raises(CheckpointError, match="is not empty"):
        write(small, tmp_path)
    assert files(tmp_path) == {"thesis.txt"}


@pytest.mark.parametrize("name", PARTS)
def test_a_missing_part_is_named(broken: Path, name: str) -> None:
    edit(broken, name, None)

    with pytest.raises(CheckpointError, match=rf"{name} is missing"):
        open_checkpoint(broken)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        (
            PARTS[0],
            torch.zeros(251, 65, dtype=torch.int8),
            r"\(251, 65\), config.json asks for \(251, 64\)",
        ),
        (
            PARTS[0],
            torch.zeros(0, 64, dtype=torch.int8),
            r"rows has shape \(0, 64\), config.json asks",
        ),
        (PARTS[0], torch.zeros((), dtype=torch.int8), r"rows has shape \(\), config.json asks for"),
        (PARTS[0], torch.zeros(251, 64), "rows is F32, readable are I8"),
        (PARTS[1], torch.zeros(250).half(), r"\(250,\), embed_tokens.rows asks for \(251,\)"),
        (PARTS[1], torch.zeros(251), "scales is F32, readable are F16"),
        (PARTS[2], torch.zeros(499, dtype=torch.int32), r"\(499,\), config.json asks for \(500,\)"),
        (PARTS[2], torch.zeros(500, dtype=torch.int64), "row_of_token is I64, readable are I32"),
    ],
)
def test_a_part_of_another_shape_or_type_is_named(
    broken: Path, name: str, tensor: Tensor, message: str
) -> None:
    edit(broken, name, tensor)

    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(broken)


def test_both_forms_at_once_are_refused(broken: Path) -> None:
    tensors = load_file(broken / WEIGHTS)
    save_file(tensors | {EMBEDDING: torch.zeros(500, 64)}, broken / WEIGHTS)

    with pytest.raises(CheckpointError, match=r"embed_tokens\.row_of_token is unused"):
        open_checkpoint(broken)


def test_rows_that_are_not_there_are_found_when_loading(broken: Path) -> None:
    rows = torch.zeros(500, dtype=torch.int32)
    rows[7] = 251
    edit(broken, PARTS[2], rows)

    with pytest.raises(CheckpointError, match=r"token 7 reads row 251, but .* has rows 0 to 250"):
        load_weights(open_checkpoint(broken), CPU, torch.float32)


def test_a_config_of_another_vocabulary_does_not_fit(broken: Path) -> None:
    edit_json(broken / "config.json", vocab_size=600)

    with pytest.raises(
        CheckpointError, match=r"row_of_token has shape \(500,\).* asks for \(600,\)"
    ):
        open_checkpoint(broken)
