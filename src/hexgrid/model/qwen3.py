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
from hexgrid.model.cpu_kernels import Places, Turn
from hexgrid.model.embedding_table import CompactTable, look_up
from hexgrid.model.int8 import Int8Matrix
from hexgrid.model.layers import (
    Matrix,
    Product,
    RotaryEmbedding,
    add,
    linear,
    norm_linear,
    rms_norm,
    split_heads,
    swiglu_linear,
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
        product = self._normed(hidden, layer.norms.input, layer.qkv)
        q = self._heads(product, layer.norms, part, state, num_q=self.config.num_attention_heads)
        pieces = [part] if hidden.is_cuda else part.pieces(_MOST_SCORES)
        attended: list[Tensor] = []
        for rows, piece in zip(q.split([each.num_rows for each in pieces]), pieces, strict=True):
            if attended:
                yield
            attended.append(state.attended(rows, piece))
        self._finish_rows(layer, hidden, torch.cat(attended) if len(pieces) > 1 else attended[0])

    def _fill_kv(self, layer: LastLayerWeights, hidden: Tensor, part: Part, state: _Pass) -> None:
        """Only the keys and values of the rows of `part`."""
        product = self._normed(hidden, layer.norms.input, layer.kv)
        self._heads(product, layer.norms, part, state, num_q=0)

    def _pool(self, layer: LastLayerWeights, hidden: Tensor, state: _Pass) -> Tensor:
        """The last layer of the pooled rows alone: [B, H]."""
        last = state.packed.last_rows
        pooled = hidden[last]
        product = self._normed(pooled, layer.norms.input, layer.q)
        turn = self._turn(layer.norms, state, last)
        q = split_heads(product, turn, self.config.num_attention_heads)
        self._finish_rows(layer, pooled, state.attended(q, state.packed.pooled()))
        return pooled

    def _normed(self, hidden: Tensor, norm: Tensor, weight: Matrix) -> Product:
        return norm_linear(hidden, norm, self.config.rms_norm_eps, weight)

    def _heads(
        self, product: Product, norms: Norms, part: Part, state: _Pass, *, num_q: int
    ) -> Tensor:
        """Queries [rows, num_q, D]; keys and values go where they belong among the C rows."""
        prefixes = state.packed.prefixes
        own = part.rows if prefixes is None else prefixes.own_rows[part.rows]
        places = Places(state.k, state.v, own)
        return split_heads(product, self._turn(norms, state, part.rows), num_q, places)

    def _turn(self, norms: Norms, state: _Pass, rows: slice | Tensor) -> Turn:
        eps = self.config.rms_norm_eps
        return Turn(norms.q, norms.k, eps, state.cos[rows], state.sin[rows])

    def _finish_rows(
        self, layer: LayerWeights | LastLayerWeights, hidden: Tensor, attended: Tensor
    ) -> None:
        """Add the attention's output and then the MLP's to `hidden` [rows, H], in place."""
        add(hidden, linear(attended, layer.output))
        gate_up = self._normed(hidden, layer.norms.mlp, layer.gate_up)
        add(hidden, swiglu_linear(gate_up, layer.down))


def finished(steps: Generator[None, None, Tensor]) -> Tensor:
    """What `steps` give in the end."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: Tensor = end.value
            return result
