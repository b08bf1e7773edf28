"""The packed forward pass of Qwen3: token ids -> hidden state of each sequence's last token.

Shapes: T tokens to be computed, B sequences, C rows of keys and values (more than T where sequences begin
with prefixes at hand), H hidden_size, I intermediate_size, N query heads, K key/value heads, D head_dim.
At most `rows_per_chunk` rows go through a layer at a time, so a long input's memory is its hidden states and
one layer's k and v, whatever its length.
"""

from collections.abc import Generator
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
    add_mlp,
    linear,
    norm_and_rotate,
    rms_norm,
)
from hexgrid.model.packing import Packed, Part

# Scores (rows times keys, of each head) that attention computes between two pauses on a CPU: some tens of
# milliseconds. A GPU takes a part at once.
_MOST_SCORES = 2**19


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
    parts: list[Part]
    attend: Attend
    cos: Tensor  # [T, 1, D / 2]
    sin: Tensor
    k: Tensor  # [C, K, D], written anew by each layer, as is v
    v: Tensor

    def attended(self, q: Tensor, part: Part) -> Tensor:
        """What the query rows q [rows, N, D] of `part` read: [rows, N * D]."""
        return self.attend(q, self.k[part.kv_rows], self.v[part.kv_rows], part)

    def read_prefixes(self, layer: int) -> None:
        """Before the first part: what was computed before."""
        if self.packed.prefixes is not None:
            self.packed.prefixes.read(layer, self.k, self.v)

    def keep_prefixes(self, layer: int) -> None:
        """After the last part: what others will begin with."""
        if self.packed.prefixes is not None:
            self.packed.prefixes.keep(layer, self.k, self.v)


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
        self.rows_per_chunk = rows_per_chunk
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
        whole = config.hidden_size + 2 * config.kv_size  # hidden, k, v
        chunked = max(2 * config.q_size + 2 * config.kv_size, 3 * config.intermediate_size)
        chunk = min(num_tokens, self.rows_per_chunk)
        return self.dtype.itemsize * (num_tokens * whole + chunk * chunked)

    def forward(self, packed: Packed, dtype: torch.dtype | None = None) -> Tensor:
        """The final-norm hidden state of each last token, float32 [B, H], computed in `dtype`.

        Without `dtype`, in the weights' own.
        """
        return finished(self.steps(packed, dtype))

    @torch.inference_mode()
    def steps(
        self, packed: Packed, dtype: torch.dtype | None = None
    ) -> Generator[None, None, Tensor]:
        """`forward`, which pauses after each part of each layer, and within a long one's attention.

        Between two steps, others may run.
        """
        weights = self._weights
        hidden = look_up(weights.embedding, packed.token_ids, dtype or self.dtype)  # [T, H]
        state = self._start(packed, hidden.dtype)
        for index, layer in enumerate(weights.layers):
            state.read_prefixes(index)
            for part in state.parts:
                yield from self._run_layer(layer, hidden[part.rows], part, state)
                yield
            state.keep_prefixes(index)
        state.read_prefixes(len(weights.layers))
        for part in state.parts:
            self._fill_kv(weights.last_layer, hidden[part.rows], part, state)
            yield
        state.keep_prefixes(len(weights.layers))
        last = self._pool(weights.last_layer, hidden, state)  # [B, H]
        return rms_norm(last, weights.final_norm, self.config.rms_norm_eps).float()

    def _start(self, packed: Packed, dtype: torch.dtype) -> _Pass:
        config = self.config
        kv_shape = (sum(packed.kv_lengths), config.num_key_value_heads, config.head_dim)
        cos, sin = self._rotary.at(packed.positions)
        return _Pass(
            packed=packed,
            parts=packed.parts(self.rows_per_chunk),
            attend=backend_for(self.device, dtype),
            cos=cos,
            sin=sin,
            k=torch.empty(kv_shape, dtype=dtype, device=self.device),
            v=torch.empty(kv_shape, dtype=dtype, device=self.device),
        )

    def _run_layer(
        self, layer: LayerWeights, hidden: Tensor, part: Part, state: _Pass
    ) -> Generator[None]:
        """Take the rows of `part` through a layer: `hidden` [rows, H] is changed in place.

        Pauses between pieces of a long input's attention, which would take longer than all else.
        """
        normed = rms_norm(hidden, layer.norms.input, self.config.rms_norm_eps)
        q, kv = linear(normed, layer.qkv).tensor_split((self.config.q_size,), dim=-1)
        self._put_kv(layer.norms, kv, part, state)
        q = self._heads(q, layer.norms.q, state.cos[part.rows], state.sin[part.rows])
        pieces = [part] if hidden.is_cuda else part.pieces(_MOST_SCORES)
        attended: list[Tensor] = []
        for rows, piece in zip(q.split([each.num_rows for each in pieces]), pieces, strict=True):
            if attended:
                yield
            attended.append(state.attended(rows, piece))
        self._finish_rows(layer, hidden, torch.cat(attended) if len(pieces) > 1 else attended[0])

    def _fill_kv(self, layer: LastLayerWeights, hidden: Tensor, part: Part, state: _Pass) -> None:
        """Only the keys and values of the rows of `part`."""
        normed = rms_norm(hidden, layer.norms.input, self.config.rms_norm_eps)
        self._put_kv(layer.norms, linear(normed, layer.kv), part, state)

    def _pool(self, layer: LastLayerWeights, hidden: Tensor, state: _Pass) -> Tensor:
        """The last layer of the pooled rows alone: [B, H]."""
        last = state.packed.last_rows
        pooled = hidden[last]
        normed = rms_norm(pooled, layer.norms.input, self.config.rms_norm_eps)
        q = linear(normed, layer.q)
        q = self._heads(q, layer.norms.q, state.cos[last], state.sin[last])
        self._finish_rows(layer, pooled, state.attended(q, state.packed.pooled()))
        return pooled

    def _put_kv(self, norms: Norms, kv: Tensor, part: Part, state: _Pass) -> None:
        """Put the keys and values of the rows of `part` where they belong among the C rows."""
        k, v = kv.chunk(2, dim=-1)
        prefixes = state.packed.prefixes
        own = part.rows if prefixes is None else prefixes.own_rows[part.rows]
        state.k[own] = self._heads(k, norms.k, state.cos[part.rows], state.sin[part.rows])
        state.v[own] = v.unflatten(-1, (-1, self.config.head_dim))

    def _heads(self, x: Tensor, norm: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """x [T, heads * D] as [T, heads, D], each head normed and then rotated."""
        heads = x.unflatten(-1, (-1, self.config.head_dim))
        return norm_and_rotate(heads, norm, self.config.rms_norm_eps, cos, sin)

    def _finish_rows(
        self, layer: LayerWeights | LastLayerWeights, hidden: Tensor, attended: Tensor
    ) -> None:
        """Add the attention's output and then the MLP's to `hidden` [rows, H], in place."""
        add_linear(hidden, attended, layer.output)
        normed = rms_norm(hidden, layer.norms.mlp, self.config.rms_norm_eps)
        add_mlp(hidden, normed, layer.gate_up, layer.down)


def finished(steps: Generator[None, None, Tensor]) -> Tensor:
    """What `steps` give in the end."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Tensor = end.value
            return result
