"""Seeded random checkpoints of the real architecture, with the real tokenizer, in Hugging Face layout.

For tests, benchmarks and trying a deployment without a download. Their vectors mean nothing.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from hexgrid import nano
from hexgrid.model import config as model_config
from hexgrid.model import layout
from hexgrid.model.checkpoint import expected_shapes

Size = Literal["tiny", "0.6B", "4B", "8B"]

_END_OF_TEXT, _IM_END = 151_643, 151_645
# The tokenizers of 4B and 8B are that of 0.6B without its last four added tokens.
_SMALLER_VOCABULARY = 151_665
WARNING = (
    "Random weights: vectors from this checkpoint mean nothing. It exists to try hexgrid, to test and to "
    "measure speed without a download."
)


@dataclass(frozen=True)
class Shape:
    """The numbers in which the sizes differ; those of the real ones are from their config.json."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int
    eos_token_id: int
    tie_word_embeddings: bool


SHAPES: dict[Size, Shape] = {
    "tiny": Shape(64, 2, 4, 2, 32, 192, 151_669, 32_768, _END_OF_TEXT, tie_word_embeddings=True),
    "0.6B": Shape(
        1024, 28, 16, 8, 128, 3072, 151_669, 32_768, _END_OF_TEXT, tie_word_embeddings=True
    ),
    "4B": Shape(2560, 36, 32, 8, 128, 9728, 151_665, 40_960, _IM_END, tie_word_embeddings=True),
    "8B": Shape(4096, 36, 32, 8, 128, 12_288, 151_665, 40_960, _IM_END, tie_word_embeddings=False),
}


def make_checkpoint(
    directory: Path,
    size: Size,
    *,
    num_layers: int | None = None,
    seed: int = 0,
    dtype: torch.dtype = torch.bfloat16,
    on_tensor: layout.Progress = lambda _done, _total: None,
) -> None:
    """Write a checkpoint of `size` (of `num_layers` layers, if given) into the new `directory`.

    `on_tensor(done, total)` is called with bytes written. The same arguments give the same files.

    Raises:
        CheckpointError: the directory holds something already.
    """
    layout.new_directory(directory)
    shape = SHAPES[size]
    config = config_json(shape, num_layers or shape.num_hidden_layers, dtype)
    layout.write_json(directory / "config.json", config)
    layout.write_modules(directory, shape.hidden_size)
    layout.write_json(directory / "config_sentence_transformers.json", _prompts())
    layout.write_json(directory / "tokenizer_config.json", _tokenizer_config())
    (directory / "tokenizer.json").write_bytes(tokenizer_json(shape.vocab_size))
    (directory / "README.md").write_text(f"# {size}-shaped random checkpoint\n\n{WARNING}\n")
    layout.write_weights(
        directory,
        expected_shapes(model_config.parse(config)),
        dtype,
        lambda name, its_shape: random_tensor(name, its_shape, seed, dtype),
        on_tensor,
    )


def config_json(shape: Shape, num_layers: int, dtype: torch.dtype) -> dict[str, Any]:
    """config.json in the style of the published checkpoints."""
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": _END_OF_TEXT,
        "eos_token_id": shape.eos_token_id,
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "hidden_size": shape.hidden_size,
        "initializer_range": 0.02,
        "intermediate_size": shape.intermediate_size,
        "max_position_embeddings": shape.max_position_embeddings,
        "max_window_layers": num_layers,
        "model_type": "qwen3",
        "num_attention_heads": shape.num_attention_heads,
        "num_hidden_layers": num_layers,
        "num_key_value_heads": shape.num_key_value_heads,
        "rms_norm_eps": 1e-6,
        "rope_scaling": None,
        "rope_theta": 1_000_000,
        "sliding_window": None,
        "tie_word_embeddings": shape.tie_word_embeddings,
        "torch_dtype": str(dtype).removeprefix("torch."),
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": shape.vocab_size,
    }


def tokenizer_json(vocab_size: int) -> bytes:
    """The official tokenizer of the 0.6B model, or that of 4B and 8B where `vocab_size` is theirs."""
    content = nano.TOKENIZER.read_bytes()
    if vocab_size != _SMALLER_VOCABULARY:
        return content
    document = json.loads(content)
    document["added_tokens"] = [t for t in document["added_tokens"] if t["id"] < vocab_size]
    return json.dumps(document, indent=2, ensure_ascii=False).encode()


def random_tensor(name: str, shape: tuple[int, ...], seed: int, dtype: torch.dtype) -> Tensor:
    """The tensor `name`: the same whatever else is made.

    Norms are near one but differ by channel, so that a norm left out or applied twice shows; matrices are
    scaled by their fan-in, so that activations keep their size through many layers.
    """
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    tensor = torch.empty(shape, dtype=dtype)
    if len(shape) == 1:
        return tensor.normal_(1.0, 0.1, generator=generator)
    deviation = 1.0 if name.startswith("embed_tokens") else shape[1] ** -0.5
    return tensor.normal_(0.0, deviation, generator=generator)


def _prompts() -> dict[str, Any]:
    return {
        "prompts": {"query": f"Instruct: {layout.QUERY_TASK}\nQuery:", "document": ""},
        "default_prompt_name": None,
        "similarity_fn_name": "cosine",
    }


def _tokenizer_config() -> dict[str, Any]:
    return {
        "tokenizer_class": "Qwen2Tokenizer",
        "add_bos_token": False,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": 131_072,
        "unk_token": None,
    }
