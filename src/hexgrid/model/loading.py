"""Weights from the files into memory: memory-mapped, one layer at a time, fused and converted on the way.

The files are mapped anew for each layer, so that pages already copied are given back: at most the weights
themselves and one layer's share of the files are resident.
"""

import platform
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import safe_open
from torch import Tensor

from hexgrid.config import Device, Dtype, Quantization
from hexgrid.errors import ConfigError
from hexgrid.model.checkpoint import COMPACT_EMBEDDING, EMBEDDING, Checkpoint
from hexgrid.model.config import ModelConfig
from hexgrid.model.embedding_table import CompactTable, check_values, expand
from hexgrid.model.heap import trim_heap
from hexgrid.model.packed_matrix import PackedMatrix, pack
from hexgrid.model.qwen3 import LastLayerWeights, LayerWeights, Norms, Weights

# From this width on (the 8B model), float16 overflows on ordinary texts ("import numpy as np" is one):
# QwenLM/Qwen3-Embedding issues 164 and 186.
_FLOAT16_OVERFLOWS_AT = 4096


def pick_device(wanted: Device) -> torch.device:
    """The device that `wanted` means on this machine.

    Raises:
        ConfigError: a device was named that is not here.
    """
    here = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if wanted == "auto":
        return torch.device(next(name for name, available in here.items() if available))
    if not here[wanted]:
        raise ConfigError(f"--device {wanted}: this machine, or this build of torch, has none")
    return torch.device(wanted)


def pick_dtype(
    wanted: Dtype,
    device: torch.device,
    config: ModelConfig,
    quantization: Quantization = "none",
) -> torch.dtype:
    """The precision that `wanted` means for this model on this device.

    Raises:
        ConfigError: float16 for a model that overflows in it, or one that does not go with int8.
    """
    if quantization == "int8":
        if wanted not in ("auto", "float32"):
            raise ConfigError(
                f"--quantization int8 computes all but the linear layers in float32: --dtype {wanted} "
                "does not go with it"
            )
        return torch.float32
    if wanted == "auto":
        native = device.type == "cuda" or (device.type == "cpu" and _cpu_computes_bfloat16())
        return torch.bfloat16 if native else torch.float32
    if wanted == "float16" and config.hidden_size >= _FLOAT16_OVERFLOWS_AT:
        raise ConfigError(
            f"--dtype float16 gives NaN with this model (hidden_size {config.hidden_size}): "
            "use bfloat16 or float32"
        )
    dtype: torch.dtype = getattr(torch, wanted)
    return dtype


def load_weights(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> Weights:
    """All weights of `checkpoint` on `device` in `dtype`, matrices in the order that its kernels read.

    The embedding table stays as it is stored where that is narrower, compact or in the checkpoint's own
    dtype: rows are converted as they are looked up, which loses nothing and halves the table, or quarters it.

    Raises:
        CheckpointError: a compact table's values do not fit together.
    """
    embedding = load_embedding(checkpoint, device, dtype)
    final_norm = load_tensor(checkpoint, "norm.weight", device, dtype)
    layers: list[LayerWeights] = []
    for norms, matrices in load_layers(checkpoint, device, dtype):
        if len(layers) < checkpoint.config.num_hidden_layers - 1:
            layers.append(LayerWeights(norms, **_packed(matrices)))
        else:
            q, kv = matrices.pop("qkv").tensor_split((checkpoint.config.q_size,))
            matrices |= {"q": q, "kv": kv}
            last_layer = LastLayerWeights(norms, **_packed(matrices))
    return Weights(embedding, tuple(layers), last_layer, final_norm)


def _packed(matrices: dict[str, Tensor]) -> dict[str, Tensor | PackedMatrix]:
    # Taken out one by one, so that no more than one is there twice.
    packed = {name: pack(matrices.pop(name)) for name in list(matrices)}
    trim_heap()
    return packed


def load_embedding(
    checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype
) -> Tensor | CompactTable:
    """The embedding table, as it is stored where that is narrower than `dtype`.

    Raises:
        CheckpointError: a compact table's values do not fit together.
    """
    if EMBEDDING in checkpoint.tensors:
        stored = stored_dtype(checkpoint, EMBEDDING)
        narrow = stored if stored.itemsize < dtype.itemsize else dtype
        return load_tensor(checkpoint, EMBEDDING, device, narrow)
    with _Reader(checkpoint, COMPACT_EMBEDDING) as reader:
        # Expanded, nano's table would be 155 MB of new memory, which takes longer to get than to fill.
        table = CompactTable(*(reader.view(name).clone() for name in COMPACT_EMBEDDING))
    check_values(table)
    return CompactTable(*(part.to(device) for part in table))


def load_tensor(
    checkpoint: Checkpoint, name: str, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """One tensor of the published form, by its name; a compact embedding table is expanded.

    Raises:
        CheckpointError: a compact table's values do not fit together.
    """
    if name in checkpoint.tensors:
        with _Reader(checkpoint, [name]) as reader:
            return reader.read([name], device, dtype)
    assert name == EMBEDDING
    config = checkpoint.config
    target = torch.empty(config.vocab_size, config.hidden_size, dtype=dtype, device=device)
    with _Reader(checkpoint, COMPACT_EMBEDDING) as reader:
        expand(CompactTable(*map(reader.view, COMPACT_EMBEDDING)), target)
    return target


def stored_dtype(checkpoint: Checkpoint, name: str) -> torch.dtype:
    """The dtype in which a tensor of the published form is stored; float32 for a compact table."""
    if name not in checkpoint.tensors:
        return torch.float32
    return {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}[
        checkpoint.tensors[name].dtype
    ]


def load_layers(
    checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype
) -> Iterator[tuple[Norms, dict[str, Tensor]]]:
    """One layer after the other: its norms and its matrices, fused, by their names in `LayerWeights`."""
    for index in range(checkpoint.config.num_hidden_layers):
        prefix = f"layers.{index}."
        names = [name for name in checkpoint.tensors if name.startswith(prefix)]
        with _Reader(checkpoint, names) as reader:

            def read(*parts: str, prefix: str = prefix, reader: _Reader = reader) -> Tensor:
                return reader.read([f"{prefix}{part}.weight" for part in parts], device, dtype)

            norms = Norms(
                input=read("input_layernorm"),
                q=read("self_attn.q_norm"),
                k=read("self_attn.k_norm"),
                mlp=read("post_attention_layernorm"),
            )
            matrices = {
                "qkv": read("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
                "output": read("self_attn.o_proj"),
                "gate_up": read("mlp.gate_proj", "mlp.up_proj"),
                "down": read("mlp.down_proj"),
            }
        yield norms, matrices


class _Reader:
    """The files of some tensors, mapped while the `with` block runs."""

    def __init__(self, checkpoint: Checkpoint, names: Sequence[str]) -> None:
        self._tensors = checkpoint.tensors
        self._paths = {checkpoint.tensors[name].file for name in names}
        self._files: dict[Path, Any] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for path in self._paths:
            self._files[path] = self._stack.enter_context(safe_open(path, framework="pt"))
        return self

    def __exit__(self, *_: object) -> None:
        self._files.clear()
        self._stack.close()

    def view(self, name: str) -> Tensor:
        """A tensor as it is stored, good while the `with` block runs."""
        entry = self._tensors[name]
        tensor: Tensor = self._files[entry.file].get_tensor(entry.stored_name)
        return tensor

    def read(self, names: Sequence[str], device: torch.device, dtype: torch.dtype) -> Tensor:
        """The named tensors one below the other, as one new tensor that owns its memory."""
        rows = [self._tensors[name].shape[0] for name in names]
        shape = (sum(rows), *self._tensors[names[0]].shape[1:])
        target = torch.empty(shape, dtype=dtype, device=device)
        for name, part in zip(names, target.split(rows), strict=True):
            part.copy_(self.view(name))
        return target


def _cpu_computes_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 in hardware (AVX512-BF16, AMX, or ARM's BF16 extension)."""
    if platform.machine() in ("aarch64", "arm64"):
        # On x86 the same question is answered yes for emulation, too.
        return torch.backends.mkldnn.is_available() and bool(
            torch.ops.mkldnn._is_mkldnn_bf16_supported()  # noqa: SLF001
        )
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()  # noqa: SLF001
