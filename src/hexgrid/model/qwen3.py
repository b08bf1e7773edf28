"""The packed forward pass of Qwen3: token ids -> hidden state of each sequence's last token.

Shapes: T tokens to be computed, B sequences, C rows of keys and values (more than T where sequences begin
with prefixes at hand), H hidden_size, I intermediate_size, N query heads, K key/value heads, D head_dim.
Everything that works row by row runs on at most `rows_per_chunk` rows at a time, so a long input's memory is
its hidden states and one layer's q, k and v, whatever its length.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from hexgrid.model.attention import Attend, backend_for
from hexgrid.model.config import ModelConfig
from hexgrid.model.embedding_table import CompactTable, look_up
from hexgrid.model.int8 import Int8Matrix
from hexgrid.model.layers import (
    Matrix,
    RotaryEmbedding,
    add_linear,
    linear,
    rms_norm,
    rotate,
    swiglu,
)
from hexgrid.model.packing import Packed


@dataclass(frozen=True, slots=True)
class Norms:
    """The weights of a decoder layer that are no matrices."""

    input: Tensor  # [H]
    q: Tensor  # [D]
    k: Tensor  # [D]
    mlp: Tensor  # [H]


@dataclass(frozen=True, slots=True)
class _EveryLayer:
    """What all decoder layers have."""

    norms: Norms
    output: Matrix  # [H, N D]
    gate_up: Matrix  # [2 I, H], fused
    down: Matrix  # [H, I]


@dataclass(frozen=True, slots=True)
class LayerWeights(_EveryLayer):
    """A decoder layer that all tokens go through: q, k and v are fused."""

    qkv: Matrix  # [(N + 2 K) D, H]


@dataclass(frozen=True, slots=True)
class LastLayerWeights(_EveryLayer):
    """The last decoder layer: all tokens have keys and values there, but only the pooled ones a query."""

    q: Matrix  # [N D, H]
    kv: Matrix  # [2 K D, H], fused


@dataclass(frozen=True, slots=True)
class Weights:
    """All of a model's weights."""

    embedding: Tensor | CompactTable  # [V, H], as it is stored where that is narrower
    layers: tuple[LayerWeights, ...]
    last_layer: LastLayerWeights
    final_norm: Tensor  # [H]

    @property
    def nbytes(self) -> int:
        """Memory of all of them."""
        total = self.embedding.nbytes + self.final_norm.nbytes
        for layer in (*self.layers, self.last_layer):
            parts = [getattr(layer, each.name) for each in fields(layer) if each.name != "norms"]
            norms = [getattr(layer.norms, each.name) for each in fields(layer.norms)]
            total += sum(part.nbytes for part in parts + norms)
        return total


@dataclass(frozen=True, slots=True)
class _Pass:
    """What every layer of one forward pass shares."""

    packed: Packed
    attend: Attend
    cos: Tensor  # [T, 1, D / 2]
    sin: Tensor
    q: Tensor  # [T, N, D], written anew by each layer, as are k and v
    k: Tensor  # [C, K, D], with those of the sequences' prefixes
    v: Tensor


class Qwen3:
    """A Qwen3 model; `forward` is a pure function of its input."""

    def __init__(
        self, config: ModelConfig, weights: Weights, *, max_positions: int, rows_per_chunk: int
    ) -> None:
        self.config = config
        self.max_positions = max_positions
        self.device = weights.final_norm.device
        self.dtype = weights.final_norm.dtype
        self._weights = weights
        self._rows_per_chunk = rows_per_chunk
        self._rotary = RotaryEmbedding(
            config.head_dim, config.rope_theta, max_positions, self.device
        )

    @property
    def precision(self) -> str:
        """What the linear layers are computed in: int8, or a dtype."""
        if isinstance(self._weights.last_layer.kv, Int8Matrix):
            return "int8"
        return str(self.dtype).removeprefix("torch.")

    @property
    def num_bytes(self) -> int:
        """Memory of the weights."""
        return self._weights.nbytes

    def activation_bytes(self, num_tokens: int) -> int:
        """Memory that a pass over `num_tokens` needs beside the weights, about."""
        config = self.config
        whole = config.hidden_size + 2 * config.q_size + 2 * config.kv_size  # hidden, q, out, k, v
        chunked = max(config.q_size + 2 * config.kv_size, 3 * config.intermediate_size)
        chunk = min(num_tokens, self._rows_per_chunk)
        return self.dtype.itemsize * (num_tokens * whole + chunk * chunked)

    @torch.inference_mode()
    def forward(self, packed: Packed, dtype: torch.dtype | None = None) -> Tensor:
        """The final-norm hidden state of each last token, float32 [B, H], computed in `dtype`.

        Without `dtype`, in the weights' own.
        """
        hidden = look_up(self._weights.embedding, packed.token_ids, dtype or self.dtype)  # [T, H]
        state = self._start(packed, hidden.dtype)
        for index, layer in enumerate(self._weights.layers):
            self._project_qkv(layer, hidden, state)
            if packed.prefixes is not None:
                packed.prefixes.exchange(index, state.k, state.v)
            attended = state.attend(state.q, state.k, state.v, packed.lengths, packed)
            self._finish_rows(layer, hidden, attended)
        last = self._run_last_layer(self._weights.last_layer, hidden, state)  # [B, H]
        return rms_norm(last, self._weights.final_norm, self.config.rms_norm_eps).float()

    def _start(self, packed: Packed, dtype: torch.dtype) -> _Pass:
        config = self.config

        def buffer(rows: int, heads: int) -> Tensor:
            return torch.empty(rows, heads, config.head_dim, dtype=dtype, device=self.device)

        num_tokens, num_kv_rows = len(packed.token_ids), sum(packed.kv_lengths)

        cos, sin = self._rotary.at(packed.positions)
        return _Pass(
            packed=packed,
            attend=backend_for(self.device, dtype),
            cos=cos,
            sin=sin,
            q=buffer(num_tokens, config.num_attention_heads),
            k=buffer(num_kv_rows, config.num_key_value_heads),
            v=buffer(num_kv_rows, config.num_key_value_heads),
        )

    def _project_qkv(self, layer: LayerWeights, hidden: Tensor, state: _Pass) -> None:
        """Fill q, k and v for all rows."""
        config = self.config
        for rows in self._chunks(len(hidden)):
            normed = rms_norm(hidden[rows], layer.norms.input, config.rms_norm_eps)
            q, kv = linear(normed, layer.qkv).tensor_split((config.q_size,), dim=-1)
            state.q[rows] = self._heads(q, layer.norms.q, state.cos[rows], state.sin[rows])
            self._keep_kv(layer.norms, kv, rows, state)

    def _project_kv(self, layer: LastLayerWeights, hidden: Tensor, state: _Pass) -> None:
        """Fill k and v for all rows, leaving q alone."""
        for rows in self._chunks(len(hidden)):
            normed = rms_norm(hidden[rows], layer.norms.input, self.config.rms_norm_eps)
            self._keep_kv(layer.norms, linear(normed, layer.kv), rows, state)

    def _keep_kv(self, norms: Norms, kv: Tensor, rows: slice, state: _Pass) -> None:
        """Put the keys and values of some of the T rows where they belong among the C rows."""
        k, v = kv.chunk(2, dim=-1)
        prefixes = state.packed.prefixes
        own = rows if prefixes is None else prefixes.own_rows[rows]
        state.k[own] = self._heads(k, norms.k, state.cos[rows], state.sin[rows])
        state.v[own] = v.unflatten(-1, (-1, self.config.head_dim))

    def _heads(self, x: Tensor, norm: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x [T, heads * D] as [T, heads, D], each head normed and then rotated."""
        heads = x.unflatten(-1, (-1, self.config.head_dim))
        return rotate(rms_norm(heads, norm, self.config.rms_norm_eps), cos, sin)

    def _finish_rows(
        self, layer: LayerWeights | LastLayerWeights, hidden: Tensor, attended: Tensor
    ) -> None:
        """Add the attention's output and then the MLP's to `hidden`, in place."""
        for rows in self._chunks(len(hidden)):
            chunk = hidden[rows]  # a view: what is added to it is written through
            add_linear(chunk, attended[rows], layer.output)
            normed = rms_norm(chunk, layer.norms.mlp, self.config.rms_norm_eps)
            add_linear(chunk, swiglu(linear(normed, layer.gate_up)), layer.down)

    def _run_last_layer(self, layer: LastLayerWeights, hidden: Tensor, state: _Pass) -> Tensor:
        """Keys and values of all tokens, but everything else of the pooled rows alone: [B, H]."""
        self._project_kv(layer, hidden, state)
        packed, config = state.packed, self.config
        if packed.prefixes is not None:
            packed.prefixes.exchange(len(self._weights.layers), state.k, state.v)
        last = packed.last_rows
        pooled = hidden[last]
        normed = rms_norm(pooled, layer.norms.input, config.rms_norm_eps)
        q = linear(normed, layer.q)
        q = self._heads(q, layer.norms.q, state.cos[last], state.sin[last])
        ones = (1,) * len(packed.lengths)
        self._finish_rows(layer, pooled, state.attend(q, state.k, state.v, ones, packed))
        return pooled

    def _chunks(self, num_rows: int) -> list[slice]:
        step = self._rows_per_chunk
        return [slice(start, start + step) for start in range(0, num_rows, step)]
