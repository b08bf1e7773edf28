"""Weights in int8, and the file that keeps them: only the first start of a checkpoint quantises.

Matrices are kept as oneDNN lays them out, so that a start only reads them. A file is good for the
checkpoint's files as they are, by their sizes and times of change, and for processors whose layout is the
same. One that is of others, or broken, is made anew; where none can be written, the weights are quantised at
each start.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
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
from hexgrid.model.onednn_layout import Layout, Shape, can_restore, content, layout_of, restored
from hexgrid.model.qwen3 import LastLayerWeights, LayerWeights, Norms, Weights

_FORM = 2  # of the file: to be counted up when its tensors change
_MADE_OF = "made_of"
_LAID_OUT, _CHANNELS = "laid_out", "scales"
_NORMS = ("input", "q", "k", "mlp")
_CPU = torch.device("cpu")

Report = Callable[[str], None]
_Matrices = dict[str, Int8Matrix]  # by "LAYER.PART"
_Tensors = dict[str, Tensor]  # all else


def load_int8(checkpoint: Checkpoint, directory: Path, report: Report) -> Weights:
    """All weights: matrices in int8, the embedding table compact, norms in float32.

    `directory` keeps the files; `report` is told when the weights are quantised, and why that is not kept.

    Raises:
        CheckpointError: a value of the checkpoint is not finite, or its compact table does not fit together.
    """
    config = checkpoint.config
    if not can_restore():
        report(
            f"WARNING: torch {torch.__version__} brings no quantised weights back from a file: quantising "
            "the weights to int8, as at every start"
        )
        return _weights(config, *_quantised(checkpoint))
    layouts = {shape: layout_of(shape) for shape in sorted(set(_matrix_shapes(config).values()))}
    made_of = _made_of(checkpoint)
    file = directory / f"{_name(checkpoint, layouts.values())}.safetensors"
    if _is_good(file, made_of, config, layouts):
        return _from_file(file, config, layouts)
    report("Quantising the weights to int8; the next start finds them")
    tensors, matrices = _quantised(checkpoint)
    try:
        _write(tensors, matrices, file, made_of)
    except OSError as error:
        report(f"WARNING: the quantised weights are not kept: {error}. See --quantized-dir")
        return _weights(config, tensors, matrices)
    for held in (tensors, matrices):
        held.clear()  # at most one copy of the weights is in memory
    trim_heap()
    return _from_file(file, config, layouts)


def _quantised(checkpoint: Checkpoint) -> tuple[_Tensors, _Matrices]:
    """All of the weights, from the checkpoint."""
    table = load_embedding(checkpoint, _CPU, torch.float32)
    if isinstance(table, Tensor):
        table = quantise(table)
    tensors: _Tensors = dict(zip(COMPACT_EMBEDDING, table, strict=True))
    tensors["norm"] = load_tensor(checkpoint, "norm.weight", _CPU, torch.float32)
    matrices: _Matrices = {}
    for index, (norms, parts) in enumerate(load_layers(checkpoint, _CPU, torch.float32)):
        for part in _NORMS:
            tensors[f"{index}.{part}"] = getattr(norms, part)
        for part, matrix in parts.items():
            if not matrix.isfinite().all():
                raise CheckpointError(f"Layer {index}, {part}: a weight is NaN or infinite")
        if index == checkpoint.config.num_hidden_layers - 1:
            q, kv = parts.pop("qkv").tensor_split((checkpoint.config.q_size,))
            parts |= {"q": q, "kv": kv}
        for part, matrix in parts.items():
            matrices[f"{index}.{part}"] = Int8Matrix.of(*quantise_matrix(matrix))
    return tensors, matrices


def _from_file(file: Path, config: ModelConfig, layouts: Mapping[Shape, Layout]) -> Weights:
    """The weights; the file is mapped anew for each tensor, so that read pages are given back."""

    def read(name: str) -> Tensor:
        with safe_open(file, framework="pt") as opened:
            tensor: Tensor = opened.get_tensor(name).clone()
            return tensor

    matrices = {
        name: Int8Matrix(
            restored(read(f"{name}.{_LAID_OUT}"), layouts[shape]), read(f"{name}.{_CHANNELS}")
        )
        for name, shape in _matrix_shapes(config).items()
    }
    names = (*COMPACT_EMBEDDING, *_norm_sizes(config))
    return _weights(config, {name: read(name) for name in names}, matrices)


def _weights(config: ModelConfig, tensors: _Tensors, matrices: _Matrices) -> Weights:
    """The parts in their places."""

    def layer(index: int) -> dict[str, Any]:
        """What a layer has, by its names."""
        prefix = f"{index}."
        parts = {
            name.removeprefix(prefix): matrix
            for name, matrix in matrices.items()
            if name.startswith(prefix)
        }
        return {"norms": Norms(*(tensors[prefix + part] for part in _NORMS)), **parts}

    *layers, last = range(config.num_hidden_layers)
    return Weights(
        CompactTable(*(tensors[name] for name in COMPACT_EMBEDDING)),
        tuple(LayerWeights(**layer(index)) for index in layers),
        LastLayerWeights(**layer(last)),
        tensors["norm"],
    )


def _write(tensors: _Tensors, matrices: _Matrices, file: Path, made_of: str) -> None:
    """Beside the target first: no reader ever sees half a file."""
    kept = dict(tensors)
    for name, matrix in matrices.items():
        kept[f"{name}.{_LAID_OUT}"] = content(matrix.packed)
        kept[f"{name}.{_CHANNELS}"] = matrix.scales
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=file.parent, suffix=".tmp", delete=False) as opened:
        partial = Path(opened.name)
    try:
        save_file(kept, partial, metadata={_MADE_OF: made_of})
        partial.replace(file)
    except SafetensorError as error:  # what it makes of a full disk
        raise OSError(str(error)) from error
    finally:
        partial.unlink(missing_ok=True)


def _is_good(
    file: Path, made_of: str, config: ModelConfig, layouts: Mapping[Shape, Layout]
) -> bool:
    """Whether the file is there, whole, and of the same checkpoint."""
    expected = {name: (size,) for name, size in _norm_sizes(config).items()}
    for name, shape in _matrix_shapes(config).items():
        expected[f"{name}.{_LAID_OUT}"] = (layouts[shape].num_bytes,)
        expected[f"{name}.{_CHANNELS}"] = shape[:1]
    try:
        with safe_open(file, framework="pt") as opened:
            if (opened.metadata() or {}).get(_MADE_OF) != made_of:
                return False
            shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
            if any(shapes.get(name) != shape for name, shape in expected.items()):
                return False
            check_values(CompactTable(*map(opened.get_tensor, COMPACT_EMBEDDING)))
    except (OSError, SafetensorError, CheckpointError):
        return False
    return True


def _matrix_shapes(config: ModelConfig) -> dict[str, Shape]:
    """[out, in] of every matrix."""
    hidden, intermediate = config.hidden_size, config.intermediate_size
    q, kv = config.q_size, 2 * config.kv_size
    common = {
        "output": (hidden, config.q_size),
        "gate_up": (2 * intermediate, hidden),
        "down": (hidden, intermediate),
    }
    *layers, last = range(config.num_hidden_layers)
    shapes = {f"{index}.qkv": (q + kv, hidden) for index in layers}
    shapes |= {f"{last}.q": (q, hidden), f"{last}.kv": (kv, hidden)}
    for index in (*layers, last):
        shapes |= {f"{index}.{part}": shape for part, shape in common.items()}
    return shapes


def _norm_sizes(config: ModelConfig) -> dict[str, int]:
    hidden, head = config.hidden_size, config.head_dim
    sizes = dict(zip(_NORMS, (hidden, head, head, hidden), strict=True))
    of_layers = {
        f"{index}.{part}": size
        for index in range(config.num_hidden_layers)
        for part, size in sizes.items()
    }
    return {"norm": hidden, **of_layers}


def _name(checkpoint: Checkpoint, layouts: Iterable[Layout]) -> str:
    """Of the file: machines that share a home directory have one for each kind of processor."""
    orders = [layout.order for layout in layouts]
    return _digest("\n".join([str(checkpoint.directory.resolve()), *orders]))


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
