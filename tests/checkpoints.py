"""Small checkpoints in every form that people publish: any shape, prefix, sharding and config style."""

import dataclasses
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from safetensors.torch import save_file
from torch import Tensor

from hexgrid.model import config as model_config
from hexgrid.model.checkpoint import expected_shapes
from hexgrid.model.synthetic import Shape, config_json, random_tensor

ConfigStyle = Literal["transformers 4", "transformers 5"]

# The published models' proportions, small; the vocabulary is that of no tokenizer.
SMALL = Shape(
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=16,
    intermediate_size=96,
    vocab_size=500,
    max_position_embeddings=4096,
    eos_token_id=499,
    tie_word_embeddings=True,
)


def shaped(**changes: int) -> Shape:
    """SMALL with other numbers."""
    return dataclasses.replace(SMALL, **changes)  # type: ignore[arg-type]


class CheckpointFactory(Protocol):
    """`write_checkpoint` into a new directory, which it returns."""

    def __call__(
        self,
        shape: Shape = SMALL,
        *,
        prefix: str = "",
        num_files: int = 1,
        style: ConfigStyle = "transformers 4",
        dtype: torch.dtype = torch.float32,
        config: Mapping[str, Any] | None = None,
    ) -> Path: ...


def write_checkpoint(
    directory: Path,
    template: Path,
    shape: Shape = SMALL,
    *,
    prefix: str = "",
    num_files: int = 1,
    style: ConfigStyle = "transformers 4",
    dtype: torch.dtype = torch.float32,
    config: Mapping[str, Any] | None = None,
) -> None:
    """Random weights of `shape`; whatever does not depend on the shape comes from `template`.

    A shape whose embeddings are not tied gets the `lm_head.weight` of a causal language model. `config`
    overrides keys of config.json.
    """
    for path in template.iterdir():
        if path.is_dir():
            shutil.copytree(path, directory / path.name)
        elif path.name == "tokenizer.json":
            (directory / path.name).hardlink_to(path)
        elif path.suffix == ".json":
            shutil.copy(path, directory)
    document = config_json(shape, shape.num_hidden_layers, dtype) | dict(config or {})
    write_json(directory / "config.json", in_style(document, style))
    shapes = expected_shapes(model_config.parse(document))
    tensors = {prefix + name: random_tensor(name, shapes[name], 0, dtype) for name in shapes}
    if not shape.tie_word_embeddings:
        tensors["lm_head.weight"] = torch.ones(shape.vocab_size, shape.hidden_size, dtype=dtype)
    _write_tensors(directory, tensors, num_files)


def in_style(config: Mapping[str, Any], style: ConfigStyle) -> dict[str, Any]:
    """config.json as that version of transformers writes it."""
    config = dict(config)
    if style == "transformers 5":
        del config["rope_scaling"]
        theta = config.pop("rope_theta")
        config["rope_parameters"] = {"rope_theta": theta, "rope_type": "default"}
        config["dtype"] = config.pop("torch_dtype")
    return config


def edit_json(path: Path, **changes: object) -> None:
    """Set some keys of a JSON object in a file."""
    write_json(path, json.loads(path.read_text()) | changes)


def write_json(path: Path, content: object) -> None:
    """Write JSON to a file."""
    path.write_text(json.dumps(content))


def random_ids(lengths: Iterable[int], *, vocab_size: int = SMALL.vocab_size) -> list[list[int]]:
    """Seeded token ids, one list of each length."""
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randint(vocab_size, (length,), generator=generator).tolist() for length in lengths
    ]


def _write_tensors(directory: Path, tensors: dict[str, Tensor], num_files: int) -> None:
    """One file, or several with an index; neighbours in the model lie in different files."""
    if num_files == 1:
        save_file(tensors, directory / "model.safetensors")
        return
    weight_map: dict[str, str] = {}
    names = sorted(tensors)
    for number in range(num_files):
        file = f"model-{number + 1:05}-of-{num_files:05}.safetensors"
        shard = {name: tensors[name] for name in names[number::num_files]}
        save_file(shard, directory / file)
        weight_map |= dict.fromkeys(shard, file)
    index = {"metadata": {}, "weight_map": weight_map}
    write_json(directory / "model.safetensors.index.json", index)
