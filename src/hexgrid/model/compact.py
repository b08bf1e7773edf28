"""Checkpoints from one form into the other: compact, to ship a small model; published, for everyone else.

Only the embedding table differs: in a small model it is most of the bytes, and most of its rows are of words
that the model never learnt. Everything else of the directory goes along.
"""

import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from hexgrid.model import layout
from hexgrid.model.checkpoint import (
    COMPACT_EMBEDDING,
    EMBEDDING,
    INDEX_FILE,
    SINGLE_FILE,
    Checkpoint,
    expected_shapes,
    open_checkpoint,
)
from hexgrid.model.checkpoint_files import file_in, read_json_object
from hexgrid.model.embedding_table import quantise
from hexgrid.model.loading import load_tensor, stored_dtype

ExportDtype = Literal["float32", "bfloat16"]

_CPU = torch.device("cpu")
# What is copied; weights are written anew, and code is never taken along.
_SUFFIXES = (".json", ".txt", ".md", ".jinja")
_NOTICES = ("LICENSE", "NOTICE")


def compact(
    directory: Path,
    target: Path,
    *,
    keep: Collection[int] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write the checkpoint in `directory` with a compact embedding table into the new `target`.

    Tokens outside `keep` (None: all are kept) share one zero row. The other weights are written in `dtype`
    (None: as they are stored).

    Raises:
        CheckpointError: `directory` cannot be served, `target` holds something already, or the table cannot
            be quantised.
    """
    checkpoint = open_checkpoint(directory)
    layout.new_directory(target)
    tensors: dict[str, Tensor] = {}
    for name in expected_shapes(checkpoint.config):
        if name == EMBEDDING:
            table = quantise(load_tensor(checkpoint, name, _CPU, torch.float32), keep)
            tensors |= zip(COMPACT_EMBEDDING, table, strict=True)
        else:
            own = dtype or stored_dtype(checkpoint, name)
            tensors[name] = load_tensor(checkpoint, name, _CPU, own)
    _copy_files(checkpoint, target)
    if dtype is not None:
        _write_config(checkpoint, target, dtype)
    save_file(tensors, target / SINGLE_FILE, metadata={"format": "pt"})


def export(
    directory: Path,
    target: Path,
    dtype: ExportDtype = "float32",
    *,
    on_tensor: layout.Progress = lambda _done, _total: None,
) -> None:
    """Write the checkpoint in `directory`, of either form, in the published form into the new `target`.

    transformers, sentence-transformers and vLLM load the result, and give the vectors that hexgrid gives.
    float32 loses nothing of a compact table; bfloat16 is half as large. `on_tensor` is told the progress.

    Raises:
        CheckpointError: `directory` cannot be served, or `target` holds something already.
    """
    checkpoint = open_checkpoint(directory)
    layout.new_directory(target)
    _copy_files(checkpoint, target)
    if not (target / "modules.json").is_file():
        layout.write_modules(target, checkpoint.config.hidden_size)
    torch_dtype: torch.dtype = getattr(torch, dtype)
    _write_config(checkpoint, target, torch_dtype)
    layout.write_weights(
        target,
        expected_shapes(checkpoint.config),
        torch_dtype,
        lambda name, _shape: load_tensor(checkpoint, name, _CPU, torch_dtype),
        on_tensor,
    )


def _write_config(checkpoint: Checkpoint, target: Path, dtype: torch.dtype) -> None:
    """config.json with the dtype of the new weights: transformers loads them in what it says."""
    config = read_json_object(checkpoint.directory, "config.json")
    key = "dtype" if "dtype" in config else "torch_dtype"  # transformers 5 and 4
    layout.write_json(target / "config.json", config | {key: str(dtype).removeprefix("torch.")})


def _copy_files(checkpoint: Checkpoint, target: Path) -> None:
    for file in _files(checkpoint.directory):
        copy = target / file.relative_to(checkpoint.directory)
        copy.parent.mkdir(exist_ok=True)
        shutil.copyfile(file_in(checkpoint.directory, file.relative_to(checkpoint.directory)), copy)


def _files(directory: Path) -> Iterator[Path]:
    """The files beside the weights: of the directory itself and, for its modules, one folder down."""
    for path in sorted(directory.iterdir()):
        if path.is_dir() and not path.name.startswith("."):
            yield from (each for each in sorted(path.iterdir()) if each.suffix == ".json")
        elif path.is_file() and _goes_along(path.name):
            yield path


def _goes_along(name: str) -> bool:
    return name != INDEX_FILE and (name.endswith(_SUFFIXES) or name.startswith(_NOTICES))
