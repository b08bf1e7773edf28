"""A checkpoint's config.json -> the few numbers that the forward pass needs, each of them checked.

Two styles are read: `rope_theta` with `torch_dtype` (transformers 4) and `rope_parameters` with `dtype`
(transformers 5). What the forward pass would not honour is refused by name.
"""

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hexgrid.errors import CheckpointError

ARCHITECTURES = ("Qwen3ForCausalLM", "Qwen3Model")
DEFAULT_MAX_MODEL_LEN = (
    32_768  # what Qwen states for all three sizes; 4B and 8B have 40,960 positions
)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Shapes of one Qwen3 model. `head_dim` is its own number: heads x head_dim need not be hidden_size."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    rms_norm_eps: float
    rope_theta: float
    max_position_embeddings: int
    dtype: str | None = None  # what the weights were saved in, where the file says so
    matryoshka_dimensions: tuple[int, ...] = ()  # empty: any dimension

    @property
    def q_size(self) -> int:
        return self.num_attention_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        return self.num_key_value_heads * self.head_dim

    @property
    def num_parameters(self) -> int:
        """Weights that the forward pass uses; a separate lm_head is not among them."""
        layer = (
            self.hidden_size * (2 * self.q_size + 2 * self.kv_size)
            + 3 * self.hidden_size * self.intermediate_size
            + 2 * (self.hidden_size + self.head_dim)
        )
        return (self.vocab_size + 1) * self.hidden_size + self.num_hidden_layers * layer


def parse(data: Mapping[str, Any]) -> ModelConfig:
    """Read config.json's content.

    Raises:
        CheckpointError: another architecture, a missing or absurd number, or a feature of Qwen3 that no
            Qwen3-Embedding model uses and hexgrid does not compute.
    """
    _refuse_unsupported(data)
    heads = _integer(data, "num_attention_heads", most=1024)
    kv_heads = _integer(data, "num_key_value_heads", most=1024)
    head_dim = _integer(data, "head_dim", most=1024)
    if heads % kv_heads:
        raise CheckpointError(
            f"config.json: num_attention_heads {heads} is not a multiple of "
            f"num_key_value_heads {kv_heads}"
        )
    if head_dim % 2:
        raise CheckpointError(f"config.json: head_dim must be even for RoPE, got {head_dim}")
    hidden_size = _integer(data, "hidden_size", most=2**16)
    return ModelConfig(
        vocab_size=_integer(data, "vocab_size", most=2**24),
        hidden_size=hidden_size,
        intermediate_size=_integer(data, "intermediate_size", most=2**18),
        num_hidden_layers=_integer(data, "num_hidden_layers", most=1024),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        rms_norm_eps=_number(data, "rms_norm_eps", least=1e-12, most=1.0),
        rope_theta=_rope_theta(data),
        max_position_embeddings=_integer(data, "max_position_embeddings", most=2**24),
        dtype=_dtype(data),
        matryoshka_dimensions=_matryoshka_dimensions(data, hidden_size),
    )


def _refuse_unsupported(data: Mapping[str, Any]) -> None:
    if "auto_map" in data:
        raise CheckpointError(
            "config.json asks for code from the checkpoint (auto_map, trust_remote_code); "
            "hexgrid never runs such code"
        )
    architectures = data.get("architectures") or []
    if not isinstance(architectures, list) or not any(a in ARCHITECTURES for a in architectures):
        raise CheckpointError(
            f"config.json: architecture {_shown(architectures or None, 'missing')} is not supported; "
            f"hexgrid runs {' and '.join(ARCHITECTURES)} (Qwen3-Embedding)"
        )
    if data.get("quantization_config"):
        raise CheckpointError(
            "config.json: quantization_config is not supported; use the unquantised checkpoint"
        )
    for key, only in (
        ("hidden_act", "silu"),
        ("attention_bias", False),
        ("use_sliding_window", False),
    ):
        if data.get(key, only) not in (only, None):
            raise CheckpointError(
                f"config.json: {key} {_shown(data[key])} is not supported, only {only!r}"
            )


def _rope_theta(data: Mapping[str, Any]) -> float:
    """From `rope_parameters` (transformers 5), else `rope_theta`; scaled RoPE is refused."""
    rope = data.get("rope_parameters") or data.get("rope_scaling") or {}
    if not isinstance(rope, dict):
        raise CheckpointError(
            f"config.json: rope_parameters must be an object, found {_shown(rope)}"
        )
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind != "default":
        raise CheckpointError(
            f"config.json: RoPE scaling {_shown(kind)} is not supported, only 'default'"
        )
    return _number(rope if "rope_theta" in rope else data, "rope_theta", least=1.0, most=1e12)


def _dtype(data: Mapping[str, Any]) -> str | None:
    dtype = data.get("dtype") or data.get("torch_dtype")
    if dtype is not None and not isinstance(dtype, str):
        raise CheckpointError(f"config.json: dtype must be a name, found {_shown(dtype)}")
    return dtype


def _matryoshka_dimensions(data: Mapping[str, Any], hidden_size: int) -> tuple[int, ...]:
    listed = data.get("matryoshka_dimensions") or []
    if not isinstance(listed, list) or not all(
        type(d) is int and 0 < d <= hidden_size for d in listed
    ):
        raise CheckpointError(
            "config.json: matryoshka_dimensions must be a list of integers from 1 to hidden_size "
            f"{hidden_size}, found {_shown(listed)}"
        )
    return tuple(sorted(set(listed)))


def _integer(data: Mapping[str, Any], key: str, *, most: int) -> int:
    value = data.get(key)
    if type(value) is not int or not 1 <= value <= most:
        raise CheckpointError(
            f"config.json: {key} must be an integer from 1 to {most}, found {_shown(value)}"
        )
    return value


def _number(data: Mapping[str, Any], key: str, *, least: float, most: float) -> float:
    value = data.get(key)
    if type(value) not in (int, float) or not least <= value <= most:  # type: ignore[operator]
        raise CheckpointError(
            f"config.json: {key} must be a number from {least:g} to {most:g}, found {_shown(value)}"
        )
    return float(value)  # type: ignore[arg-type]


def _shown(value: Any, nothing: str = "nothing") -> str:
    """A stranger's value, cut short."""
    if value is None:
        return nothing
    return (
        reprlib.repr(value)
        if not isinstance(value, int) or abs(value) < 10**18
        else "a huge number"
    )
