"""Everything that keeps a directory from being served, found from the headers and named."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from hexgrid.errors import CheckpointError
from hexgrid.model.checkpoint import open_checkpoint
from tests.checkpoints import SMALL, CheckpointFactory, edit_json, shaped, write_json

INDEX = "model.safetensors.index.json"
POOLING_MODES = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "lasttoken")


@pytest.fixture
def directory(new_checkpoint: CheckpointFactory) -> Path:
    """A small checkpoint of one's own, to break."""
    return new_checkpoint()


def edit_tensors(directory: Path, **changes: Tensor | None) -> None:
    """Replace tensors by name ("__" for a dot), None to remove."""
    path = directory / "model.safetensors"
    tensors: dict[str, Tensor | None] = {**load_file(path)}
    tensors |= {name.replace("__", "."): tensor for name, tensor in changes.items()}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path)


def refused(directory: Path, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(directory)


def test_a_checkpoint_is_opened_with_its_config_tensors_and_prompts(directory: Path) -> None:
    checkpoint = open_checkpoint(directory)

    assert checkpoint.config.hidden_size == SMALL.hidden_size
    assert checkpoint.tensors["norm.weight"].shape == (SMALL.hidden_size,)
    assert checkpoint.tokenizer_path.is_file()
    assert checkpoint.prompts["query"].startswith("Instruct: ")
    assert checkpoint.num_bytes == 4 * checkpoint.config.num_parameters


@pytest.mark.parametrize("prefix", ["", "model."])
@pytest.mark.parametrize("num_files", [1, 3])
def test_names_lose_their_prefix_and_keep_their_file(
    new_checkpoint: CheckpointFactory, prefix: str, num_files: int
) -> None:
    tensors = open_checkpoint(new_checkpoint(prefix=prefix, num_files=num_files)).tensors

    assert len({entry.file for entry in tensors.values()}) == num_files
    assert all(entry.stored_name == prefix + name for name, entry in tensors.items())
    assert len(tensors) == 2 + 11 * SMALL.num_hidden_layers


def test_an_output_layer_is_left_out(new_checkpoint: CheckpointFactory) -> None:
    directory = new_checkpoint(shaped(tie_word_embeddings=False), prefix="model.")

    assert "lm_head.weight" in load_file(directory / "model.safetensors")
    assert "lm_head.weight" not in open_checkpoint(directory).tensors


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_all_three_float_types_are_taken(
    new_checkpoint: CheckpointFactory, dtype: torch.dtype
) -> None:
    checkpoint = open_checkpoint(new_checkpoint(dtype=dtype))

    assert checkpoint.num_bytes == dtype.itemsize * checkpoint.config.num_parameters


def test_a_missing_tensor_is_named(directory: Path) -> None:
    edit_tensors(directory, layers__1__mlp__up_proj__weight=None)

    refused(directory, r"layers\.1\.mlp\.up_proj\.weight is missing$")


def test_an_unused_tensor_is_named_as_it_is_stored(directory: Path) -> None:
    edit_tensors(directory, model__layers__7__extra=torch.ones(1))

    refused(directory, r"model\.layers\.7\.extra is unused")


def test_a_misshapen_tensor_is_named_with_both_shapes(directory: Path) -> None:
    edit_tensors(directory, norm__weight=torch.ones(65))

    refused(directory, r"norm\.weight has shape \(65,\), config.json asks for \(64,\)")


def test_a_tensor_of_another_dtype_is_named(directory: Path) -> None:
    edit_tensors(directory, norm__weight=torch.ones(64, dtype=torch.int8))

    refused(directory, r"norm\.weight is I8, readable are F32, BF16, F16")


def test_many_faults_are_counted_and_the_first_shown(directory: Path) -> None:
    edit_json(directory / "config.json", num_hidden_layers=3)

    refused(directory, r"layers\.2.* is missing; .* is missing; .* is missing; and 8 more$")


def test_a_config_of_other_numbers_does_not_fit_the_weights(directory: Path) -> None:
    edit_json(directory / "config.json", head_dim=32)

    refused(directory, r"k_norm\.weight has shape \(16,\), config.json asks for \(32,\)")


def test_weights_cut_short_are_refused_by_file(directory: Path) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])

    refused(directory, f"{path} cannot be read as safetensors")


def test_an_absent_shard_is_named(new_checkpoint: CheckpointFactory) -> None:
    directory = new_checkpoint(num_files=3)
    shard = directory / "model-00002-of-00003.safetensors"
    shard.unlink()

    refused(directory, f"{shard} cannot be read")


@pytest.mark.parametrize("name", ["../x.safetensors", "/x.safetensors", "a/b.safetensors", "a/.."])
def test_an_index_that_names_no_plain_file_is_refused(directory: Path, name: str) -> None:
    write_json(directory / INDEX, {"weight_map": {"norm.weight": name}})

    refused(directory, f"{INDEX} names '{name}', which is not a plain file name")


@pytest.mark.parametrize("name", ["..", ".", ""])
def test_an_index_that_names_a_directory_is_refused(directory: Path, name: str) -> None:
    write_json(directory / INDEX, {"weight_map": {"norm.weight": name}})

    refused(directory, "cannot be read as safetensors|not a plain file name|outside of the")


@pytest.mark.parametrize("content", [{}, {"weight_map": {}}, {"weight_map": ["a"]}])
def test_an_index_without_a_map_is_refused(directory: Path, content: Any) -> None:
    write_json(directory / INDEX, content)

    refused(directory, f"{INDEX} has no weight_map")


def test_pickles_are_not_read(directory: Path) -> None:
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")

    refused(directory, "has neither model.safetensors .* pickles run code: convert to safetensors")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_missing_file_is_named(directory: Path, name: str) -> None:
    (directory / name).unlink()

    refused(directory, f"{directory} has no {name}")


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[]"])
def test_a_config_that_is_no_json_object_is_named(directory: Path, content: bytes) -> None:
    (directory / "config.json").write_bytes(content)

    refused(directory, str(directory / "config.json"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"auto_map": {"AutoModel": "evil.Model"}}, "never runs such code"),
        ({"architectures": ["LlamaForCausalLM"]}, "LlamaForCausalLM"),
    ],
)
def test_another_model_or_code_is_refused(
    directory: Path, changes: dict[str, Any], message: str
) -> None:
    edit_json(directory / "config.json", **changes)

    refused(directory, message)


def test_a_directory_of_plain_transformers_needs_no_modules(directory: Path) -> None:
    (directory / "modules.json").unlink()
    shutil.rmtree(directory / "1_Pooling")
    (directory / "config_sentence_transformers.json").unlink()

    assert open_checkpoint(directory).prompts == {}


@pytest.mark.parametrize("kind", ["Dense", "StaticEmbedding"])
def test_a_module_that_is_not_computed_is_named(directory: Path, kind: str) -> None:
    modules = json.loads((directory / "modules.json").read_text())
    modules.append({"path": "3_X", "type": f"sentence_transformers.models.{kind}"})
    write_json(directory / "modules.json", modules)

    refused(directory, f"module {kind} is not supported, only Transformer, Pooling, Normalize")


@pytest.mark.parametrize("content", [{"a": 1}, ["Pooling"], [{"type": "x.Pooling"}], 3])
def test_modules_of_another_form_are_refused(directory: Path, content: Any) -> None:
    write_json(directory / "modules.json", content)

    refused(directory, "modules.json cannot be read")


@pytest.mark.parametrize("mode", [mode for mode in POOLING_MODES if mode != "lasttoken"])
def test_another_pooling_is_refused_in_the_style_of_flags(directory: Path, mode: str) -> None:
    flags = {f"pooling_mode_{each}": each == mode for each in POOLING_MODES}
    write_json(directory / "1_Pooling/config.json", flags | {"include_prompt": True})

    refused(directory, f"pooling {mode} is not supported")


@pytest.mark.parametrize("mode", ["mean", "cls", ["lasttoken", "mean"]])
def test_another_pooling_is_refused_in_the_style_of_names(directory: Path, mode: Any) -> None:
    write_json(directory / "1_Pooling/config.json", {"pooling_mode": mode, "include_prompt": True})

    refused(directory, "pooling .* is not supported")


def test_two_poolings_at_once_are_refused(directory: Path) -> None:
    edit_json(directory / "1_Pooling/config.json", pooling_mode_mean_tokens=True)

    refused(directory, "pooling lasttoken, mean_tokens is not supported")


def test_no_pooling_at_all_is_refused(directory: Path) -> None:
    edit_json(directory / "1_Pooling/config.json", pooling_mode_lasttoken=False)

    refused(directory, "pooling nothing is not supported")


@pytest.mark.parametrize(
    "config",
    [
        {"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": False},
        {"pooling_mode": "lasttoken", "embedding_dimension": 64, "include_prompt": True},
    ],
    ids=["flags", "names"],
)
def test_last_token_pooling_is_taken_in_both_styles(
    directory: Path, config: dict[str, Any]
) -> None:
    write_json(directory / "1_Pooling/config.json", config)

    open_checkpoint(directory)


def test_prompts_that_are_no_object_are_refused(directory: Path) -> None:
    edit_json(directory / "config_sentence_transformers.json", prompts=["query"])

    refused(directory, "prompts must be an object")
