"""The Hugging Face layout, written: a new directory, what is beside the weights, the weights in shards."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from hexgrid.errors import CheckpointError
from hexgrid.model.checkpoint import INDEX_FILE, SINGLE_FILE

SHARD_BYTES = 4 * 2**30
# What the published checkpoints' query prompt asks for.
QUERY_TASK = "Given a web search query, retrieve relevant passages that answer the query"

Shapes = Mapping[str, tuple[int, ...]]
# Called with bytes written and bytes in all.
Progress = Callable[[int, int], None]


def new_directory(directory: Path) -> None:
    """Make `directory`.

    Raises:
        CheckpointError: it holds something already, or is a file.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise CheckpointError(f"{directory} is not empty; name a new directory")
    directory.mkdir(parents=True, exist_ok=True)


def write_json(path: Path, content: object) -> None:
    """Write JSON for people to read, in a new folder if need be."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")


def write_modules(directory: Path, hidden_size: int) -> None:
    """What tells sentence-transformers to pool the last token and normalise."""
    write_json(directory / "modules.json", _modules())
    write_json(directory / "1_Pooling/config.json", _pooling(hidden_size))


def write_weights(
    directory: Path,
    shapes: Shapes,
    dtype: torch.dtype,
    tensor_of: Callable[[str, tuple[int, ...]], Tensor],
    on_tensor: Progress,
) -> None:
    """One file, or shards with an index where there is more than one shard's worth.

    `tensor_of(name, shape)` gives each tensor, of `dtype`; one shard's are held at a time.
    """
    shards = list(_shards(shapes, dtype.itemsize))
    total = sum(dtype.itemsize * torch.Size(shape).numel() for shape in shapes.values())
    done = 0
    weight_map = {}
    for number, shard in enumerate(shards, start=1):
        file = SINGLE_FILE
        if len(shards) > 1:
            file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        tensors = {}
        for name, shape in shard.items():
            tensors[name] = tensor_of(name, shape)
            weight_map[name] = file
            done += tensors[name].nbytes
            on_tensor(done, total)
        save_file(tensors, directory / file, metadata={"format": "pt"})
    if len(shards) > 1:
        write_json(
            directory / INDEX_FILE, {"metadata": {"total_size": total}, "weight_map": weight_map}
        )


def _shards(shapes: Shapes, itemsize: int) -> Iterator[dict[str, tuple[int, ...]]]:
    """`shapes` in runs of at most a shard's bytes."""
    shard: dict[str, tuple[int, ...]] = {}
    size = 0
    for name, shape in shapes.items():
        num_bytes = itemsize * torch.Size(shape).numel()
        if shard and size + num_bytes > SHARD_BYTES:
            yield shard
            shard, size = {}, 0
        shard[name] = shape
        size += num_bytes
    yield shard


def _modules() -> list[dict[str, Any]]:
    kinds = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
    return [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds)
    ]


def _pooling(hidden_size: int) -> dict[str, Any]:
    modes = (
        "cls_token",
        "mean_tokens",
        "max_tokens",
        "mean_sqrt_len_tokens",
        "weightedmean_tokens",
    )
    off = {f"pooling_mode_{mode}": False for mode in modes}
    return {
        "word_embedding_dimension": hidden_size,
        **off,
        "pooling_mode_lasttoken": True,
        "include_prompt": True,
    }
