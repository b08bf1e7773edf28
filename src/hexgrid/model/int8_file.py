"""Weights in int8, and the file that keeps them: only the first start of a checkpoint quantises.

A file is good for the checkpoint's files as they are, by their sizes and times of change. One that is of
others, or broken, is made anew; where none can be written, the weights are quantised at each start.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hexgrid.errors import CheckpointError
from hexgrid.model.checkpoint import COMPACT_EMBEDDING, Checkpoint
from hexgrid.model.config import ModelConfig
from hexgrid.model.embedding_table import CompactTable, check_values, quantise
from hexgrid.model.heap import trim_heap
from hexgrid.model.int8 import Int8Matrix, quantise_matrix
from hexgrid.model.loading import load_embedding, load_layers, load_tensor
from hexgrid.model.qwen3 import LastLayerWeights, LayerWeights, Norms, Weights

_FORM = 1  # of the file: to be counted up when its tensors change
_MADE_OF = "made_of"
_VALUES, _SCALES = "values", "scales"
_NORMS = ("input", "q", "k", "mlp")
_CPU = torch.device("cpu")

Report = Callable[[str], None]
_Read = Callable[[str], Tensor]


def load_int8(checkpoint: Checkpoint, directory: Path, report: Report) -> Weights:
    """All weights: matrices in int8, the embedding table compact, norms in float32.

    `directory` keeps the files; `report` is told when the weights are quantised, and why that is not kept.

    Raises:
        CheckpointError: a value of the checkpoint is not finite, or its compact table does not fit together.
    """
    made_of = _made_of(checkpoint)
    file = directory / f"{_digest(str(checkpoint.directory.resolve()))}.safetensors"
    if _is_good(file, made_of, checkpoint.config):
        return _from_file(file, checkpoint.config)
    report("Quantising the weights to int8; the next start finds them")
    tensors = _quantised(checkpoint)
    try:
        _write(tensors, file, made_of)
    except OSError as error:
        report(f"WARNING: the quantised weights are not kept: {error}. See --quantized-dir")
        return _weights(checkpoint.config, tensors.__getitem__, tensors.__getitem__)
    tensors.clear()  # at most one copy of the weights is in memory
    return _from_file(file, checkpoint.config)


def _quantised(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Every tensor of the file."""
    table = load_embedding(checkpoint, _CPU, torch.float32)
    if isinstance(table, Tensor):
        table = quantise(table)
    tensors: dict[str, Tensor] = dict(zip(COMPACT_EMBEDDING, table, strict=True))
    tensors["norm"] = load_tensor(checkpoint, "norm.weight", _CPU, torch.float32)
    for index, (norms, matrices) in enumerate(load_layers(checkpoint, _CPU, torch.float32)):
        for part in _NORMS:
            tensors[f"{index}.{part}"] = getattr(norms, part)
        for part, matrix in matrices.items():
            if not matrix.isfinite().all():
                raise CheckpointError(f"Layer {index}, {part}: a weight is NaN or infinite")
            values, scales = quantise_matrix(matrix)
            tensors |= {f"{index}.{part}.{_VALUES}": values, f"{index}.{part}.{_SCALES}": scales}
    return tensors


def _from_file(file: Path, config: ModelConfig) -> Weights:
    """The weights; the file is mapped anew for each tensor, so that read pages are given back."""

    def view(name: str) -> Tensor:
        with safe_open(file, framework="pt") as opened:
            tensor: Tensor = opened.get_tensor(name)
            return tensor

    weights = _weights(config, view, lambda name: view(name).clone())
    trim_heap()
    return weights


def _weights(config: ModelConfig, view: _Read, read: _Read) -> Weights:
    """From tensors to look at, of which a matrix makes its own layout, and from those to keep."""

    def matrix(name: str, rows: slice = slice(None)) -> Int8Matrix:
        return Int8Matrix(view(f"{name}.{_VALUES}")[rows], read(f"{name}.{_SCALES}")[rows])

    def common(index: int) -> dict[str, Any]:
        """What all layers have, by its names."""
        matrices = {part: matrix(f"{index}.{part}") for part in ("output", "gate_up", "down")}
        return {"norms": Norms(*(read(f"{index}.{part}") for part in _NORMS)), **matrices}

    *layers, last = range(config.num_hidden_layers)
    return Weights(
        CompactTable(*map(read, COMPACT_EMBEDDING)),
        tuple(LayerWeights(**common(index), qkv=matrix(f"{index}.qkv")) for index in layers),
        LastLayerWeights(
            **common(last),
            q=matrix(f"{last}.qkv", slice(config.q_size)),
            kv=matrix(f"{last}.qkv", slice(config.q_size, None)),
        ),
        read("norm"),
    )


def _write(tensors: dict[str, Tensor], file: Path, made_of: str) -> None:
    """Beside the target first: no reader ever sees half a file."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=file.parent, suffix=".tmp", delete=False) as opened:
        partial = Path(opened.name)
    try:
        save_file(tensors, partial, metadata={_MADE_OF: made_of})
        partial.replace(file)
    except SafetensorError as error:  # what it makes of a full disk
        raise OSError(str(error)) from error
    finally:
        partial.unlink(missing_ok=True)


def _is_good(file: Path, made_of: str, config: ModelConfig) -> bool:
    """Whether the file is there, whole, and of the same checkpoint."""
    try:
        with safe_open(file, framework="pt") as opened:
            if (opened.metadata() or {}).get(_MADE_OF) != made_of:
                return False
            shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
            if any(shapes.get(name) != shape for name, shape in _shapes(config).items()):
                return False
            check_values(CompactTable(*map(opened.get_tensor, COMPACT_EMBEDDING)))
    except (OSError, SafetensorError, CheckpointError):
        return False
    return True


def _shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Of every tensor but the compact table's, whose number of rows the checkpoint decides."""
    hidden, intermediate = config.hidden_size, config.intermediate_size
    matrices = {
        "qkv": (config.q_size + 2 * config.kv_size, hidden),
        "output": (hidden, config.q_size),
        "gate_up": (2 * intermediate, hidden),
        "down": (hidden, intermediate),
    }
    norms = {"input": hidden, "q": config.head_dim, "k": config.head_dim, "mlp": hidden}
    shapes: dict[str, tuple[int, ...]] = {"norm": (hidden,)}
    for index in range(config.num_hidden_layers):
        for part, size in norms.items():
            shapes[f"{index}.{part}"] = (size,)
        for part, shape in matrices.items():
            shapes[f"{index}.{part}.{_VALUES}"] = shape
            shapes[f"{index}.{part}.{_SCALES}"] = shape[:1]
    return shapes


def _made_of(checkpoint: Checkpoint) -> str:
    """The same while the checkpoint's files are. No content is read: that would take as long as loading."""
    parts = [str(_FORM)]
    weights = {entry.file for entry in checkpoint.tensors.values()}
    for path in [checkpoint.directory / "config.json", *sorted(weights)]:
        state = path.stat()  # of what a link points to, as in the hub's cache
        parts.append(f"{path.name} {state.st_size} {state.st_mtime_ns}")
    return _digest("\n".join(parts))


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
