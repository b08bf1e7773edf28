"""A directory in Hugging Face layout, opened and checked before any weight is read.

Everything that can be wrong is found here, from the headers alone, and named: a missing, unused or misshapen
tensor, pooling that is not last-token, a file that a config names and the directory lacks.

The embedding table comes in two forms: whole, as published, or compact (see embedding_table.py).
"""

import math
import reprlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open

from hexgrid.errors import CheckpointError
from hexgrid.model import config as model_config
from hexgrid.model.checkpoint_files import (
    MAX_INDEX_BYTES,
    check_safetensors_header,
    file_in,
    read_json,
    read_json_object,
)
from hexgrid.model.config import ModelConfig

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
EMBEDDING = "embed_tokens.weight"
# What stands in its place in the compact form.
ROWS, SCALES, ROW_OF_TOKEN = COMPACT_EMBEDDING = (
    "embed_tokens.rows",
    "embed_tokens.scales",
    "embed_tokens.row_of_token",
)
_FLOAT_DTYPES = ("F32", "BF16", "F16")
_DTYPE_BYTES = {"F32": 4, "BF16": 2, "F16": 2, "I8": 1, "I32": 4}
# A causal language model's output layer: an embedding model has no use for it, tied or not.
_IGNORED = "lm_head.weight"
_PREFIX = "model."
_MODULES = ("Transformer", "Pooling", "Normalize")
_SHOWN = 3
_SHOWN_CHARS = 200
_MAX_FILES = 1000  # of weights; the 8B model has 4


class TensorEntry(NamedTuple):
    """Where one tensor lies, what it is called there, and what it is."""

    file: Path
    stored_name: str
    shape: tuple[int, ...]
    dtype: str


class _Expected(NamedTuple):
    """What a tensor must be, and who says so."""

    shape: tuple[int, ...]
    dtypes: tuple[str, ...] = _FLOAT_DTYPES
    asked_by: str = "config.json"


@dataclass(frozen=True, kw_only=True)
class Outline:
    """What a directory says beside its weights."""

    directory: Path
    config: ModelConfig
    prompts: dict[str, str]

    @property
    def tokenizer_path(self) -> Path:
        return self.directory / "tokenizer.json"


@dataclass(frozen=True, kw_only=True)
class Checkpoint(Outline):
    """What a directory holds; `tensors` are keyed by their names without `model.`."""

    tensors: dict[str, TensorEntry]

    @property
    def num_bytes(self) -> int:
        """Bytes of all weights as they are stored."""
        return sum(_DTYPE_BYTES[t.dtype] * math.prod(t.shape) for t in self.tensors.values())


def open_outline(directory: Path) -> Outline:
    """Read and check what does not need the weights, which need not be there.

    Raises:
        CheckpointError: anything of it that keeps the directory from being served, by name.
    """
    config = model_config.parse(read_json_object(directory, "config.json"))
    _check_modules(directory)
    if not file_in(directory, "tokenizer.json").is_file():
        raise CheckpointError(f"{directory} has no tokenizer.json")
    return Outline(directory=directory, config=config, prompts=_read_prompts(directory))


def open_checkpoint(directory: Path) -> Checkpoint:
    """Read and check everything but the weights' values.

    Raises:
        CheckpointError: anything that keeps the directory from being served, by name.
    """
    outline = open_outline(directory)
    tensors = _list_tensors(directory)
    tensors.pop(_IGNORED, None)
    _check_tensors(tensors, _expected_tensors(outline.config, tensors))
    return Checkpoint(
        directory=directory, config=outline.config, prompts=outline.prompts, tensors=tensors
    )


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor that a checkpoint of this config holds in the published form."""
    hidden, inner = config.hidden_size, config.intermediate_size
    shapes: dict[str, tuple[int, ...]] = {
        EMBEDDING: (config.vocab_size, hidden),
        "norm.weight": (hidden,),
    }
    for index in range(config.num_hidden_layers):
        layer = f"layers.{index}."
        shapes |= {
            f"{layer}input_layernorm.weight": (hidden,),
            f"{layer}self_attn.q_proj.weight": (config.q_size, hidden),
            f"{layer}self_attn.k_proj.weight": (config.kv_size, hidden),
            f"{layer}self_attn.v_proj.weight": (config.kv_size, hidden),
            f"{layer}self_attn.o_proj.weight": (hidden, config.q_size),
            f"{layer}self_attn.q_norm.weight": (config.head_dim,),
            f"{layer}self_attn.k_norm.weight": (config.head_dim,),
            f"{layer}post_attention_layernorm.weight": (hidden,),
            f"{layer}mlp.gate_proj.weight": (inner, hidden),
            f"{layer}mlp.up_proj.weight": (inner, hidden),
            f"{layer}mlp.down_proj.weight": (hidden, inner),
        }
    return shapes


def _list_tensors(directory: Path) -> dict[str, TensorEntry]:
    """Every tensor of one file or of the files that the index names."""
    if (directory / INDEX_FILE).is_file():
        weight_map = read_json_object(directory, INDEX_FILE, MAX_INDEX_BYTES).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise CheckpointError(f"{directory / INDEX_FILE} has no weight_map")
        names = sorted({str(name) for name in weight_map.values()})
        if len(names) > _MAX_FILES:
            raise CheckpointError(
                f"{directory / INDEX_FILE} names {len(names)} files; at most {_MAX_FILES} are read"
            )
    elif (directory / SINGLE_FILE).is_file():
        names = [SINGLE_FILE]
    else:
        raise CheckpointError(
            f"{directory} has neither {SINGLE_FILE} nor {INDEX_FILE}; other formats "
            "(pytorch_model.bin, GGUF) are not read, because pickles run code: convert to safetensors"
        )
    tensors: dict[str, TensorEntry] = {}
    for name in names:
        if Path(name).name != name:
            shown = reprlib.repr(name)
            raise CheckpointError(f"{INDEX_FILE} names {shown}, which is not a plain file name")
        tensors |= _read_header(file_in(directory, name))
    return tensors


def _read_header(file: Path) -> dict[str, TensorEntry]:
    check_safetensors_header(file)
    entries = {}
    try:
        with safe_open(file, framework="numpy") as opened:
            for stored_name in opened.keys():  # noqa: SIM118 (safe_open is no mapping)
                tensor = opened.get_slice(stored_name)
                entry = TensorEntry(
                    file, stored_name, tuple(tensor.get_shape()), str(tensor.get_dtype())
                )
                entries[stored_name.removeprefix(_PREFIX)] = entry
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} cannot be read as safetensors: {error}") from error
    return entries


def _expected_tensors(config: ModelConfig, found: dict[str, TensorEntry]) -> dict[str, _Expected]:
    """What must be there, given whether the embedding table that is there is the compact one."""
    expected = {name: _Expected(shape) for name, shape in expected_shapes(config).items()}
    if EMBEDDING in found or not any(name in found for name in COMPACT_EMBEDDING):
        return expected
    del expected[EMBEDDING]
    rows = found.get(ROWS)
    num_rows = max(rows.shape[0], 1) if rows is not None and rows.shape else 1
    return expected | {
        ROWS: _Expected((num_rows, config.hidden_size), ("I8",)),
        SCALES: _Expected((num_rows,), ("F16",), ROWS),
        ROW_OF_TOKEN: _Expected((config.vocab_size,), ("I32",)),
    }


def _check_tensors(found: dict[str, TensorEntry], expected: dict[str, _Expected]) -> None:
    problems = []
    for name, (shape, dtypes, asked_by) in expected.items():
        if name not in found:
            problems.append(f"{name} is missing")
        elif found[name].shape != shape:
            problems.append(f"{name} has shape {found[name].shape}, {asked_by} asks for {shape}")
        elif found[name].dtype not in dtypes:
            problems.append(f"{name} is {found[name].dtype}, readable are {', '.join(dtypes)}")
    problems += [
        f"{found[name].stored_name} is unused (no such tensor in a Qwen3 of this config)"
        for name in found.keys() - expected.keys()
    ]
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise CheckpointError(
            f"The weights do not fit config.json: {'; '.join(sorted(problems)[:_SHOWN])}{more}"
        )


def _check_modules(directory: Path) -> None:
    """Refuse sentence-transformers modules that hexgrid would not compute, and other poolings."""
    path = file_in(directory, "modules.json")
    if not path.exists():
        return
    modules = read_json(directory, "modules.json")
    try:
        kinds = {str(m["type"]).rpartition(".")[2]: str(m["path"]) for m in modules}
    except (TypeError, KeyError) as error:
        raise CheckpointError(f"{path} cannot be read: {error!r}") from error
    for kind in kinds:
        if kind not in _MODULES:
            raise CheckpointError(
                f"{path}: module {kind[:_SHOWN_CHARS]} is not supported, only {', '.join(_MODULES)}"
            )
    if "Pooling" in kinds:
        _check_pooling(directory, Path(kinds["Pooling"]) / "config.json")


def _check_pooling(directory: Path, name: Path) -> None:
    """Both styles: a flag a mode, or `pooling_mode` with the mode's name."""
    data = read_json_object(directory, name)
    modes = {key.removeprefix("pooling_mode_") for key, on in data.items() if on is True}
    modes.discard("include_prompt")
    if "pooling_mode" in data:
        modes = {str(data["pooling_mode"])}
    if modes != {"lasttoken"}:
        raise CheckpointError(
            f"{directory / name}: pooling {', '.join(sorted(modes))[:_SHOWN_CHARS] or 'nothing'} is not "
            "supported; Qwen3-Embedding pools the last token"
        )


def _read_prompts(directory: Path) -> dict[str, str]:
    path = file_in(directory, "config_sentence_transformers.json")
    if not path.exists():
        return {}
    prompts = read_json_object(directory, path.name).get("prompts") or {}
    if not isinstance(prompts, dict) or not all(isinstance(p, str) for p in prompts.values()):
        raise CheckpointError(f"{path}: prompts must be an object of name to text")
    return prompts
