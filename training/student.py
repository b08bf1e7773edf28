"""nano as a module that can be trained: Qwen3 over texts packed in rows, pooled at each text's last token.

Shapes: R rows of S tokens, of Q texts at most; T texts, H hidden, N heads of D, K table rows. The parameters
bear the names of the published checkpoints, but for the table, of which only the rows that some token reads
are there.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from designs import Shape
from packing import Packed

EPS = 1e-6
THETA = 1_000_000.0
_SHORT = 128


class Rows(NamedTuple):
    """How the tokens of packed rows see each other."""

    turn: tuple[Tensor, Tensor]  # cosines and sines of positions, each [R, S, 1, D / 2]
    mask: Tensor  # [R, 1, S, S]: of the same text, and not after


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last axis."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x.float(), x.shape[-1:], self.weight, EPS)


class Attention(nn.Module):
    """Causal attention with normed queries and keys."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        hidden, size, kv_size = (
            shape.hidden,
            shape.heads * shape.head_dim,
            shape.kv_heads * shape.head_dim,
        )
        self.heads, self.kv_heads, self.head_dim = shape.heads, shape.kv_heads, shape.head_dim
        self.q_proj = nn.Linear(hidden, size, bias=False)
        self.k_proj = nn.Linear(hidden, kv_size, bias=False)
        self.v_proj = nn.Linear(hidden, kv_size, bias=False)
        self.o_proj = nn.Linear(size, hidden, bias=False)
        self.q_norm = RMSNorm(shape.head_dim)
        self.k_norm = RMSNorm(shape.head_dim)

    def forward(self, x: Tensor, rows: Rows, last: Tensor | None) -> Tensor:
        """Attended x [R, S, H]; with `last` [R, Q], of these places only: [R, Q, H]."""
        k = _rotate(self.k_norm(self._split(self.k_proj(x))), rows.turn)
        v = self._split(self.v_proj(x))
        turn, mask = rows.turn, rows.mask
        if last is not None:
            x = _at(x, last)
            turn = (_at(turn[0], last), _at(turn[1], last))
            mask = _at(mask.squeeze(1), last).unsqueeze(1)
        q = _rotate(self.q_norm(self._split(self.q_proj(x))), turn)
        times = self.heads // self.kv_heads
        k, v = (each.repeat_interleave(times, dim=2) if times > 1 else each for each in (k, v))
        q, k, v = (each.to(v.dtype).transpose(1, 2) for each in (q, k, v))
        out: Tensor = self.o_proj(_attend(q, k, v, mask).transpose(1, 2).flatten(2))
        return out

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:-1], -1, self.head_dim)


class MLP(nn.Module):
    """SwiGLU."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden, shape.intermediate, bias=False)
        self.up_proj = nn.Linear(shape.hidden, shape.intermediate, bias=False)
        self.down_proj = nn.Linear(shape.intermediate, shape.hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Layer(nn.Module):
    """One decoder layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(shape.hidden)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = RMSNorm(shape.hidden)
        self.mlp = MLP(shape)

    def forward(self, x: Tensor, rows: Rows, last: Tensor | None) -> Tensor:
        attended: Tensor = self.self_attn(self.input_layernorm(x), rows, last)
        if last is not None:
            x = _at(x, last)
        x = x + attended
        widened: Tensor = self.mlp(self.post_attention_layernorm(x))
        return x + widened


class Student(nn.Module):
    """The model; its table's gradients are sparse."""

    def __init__(self, shape: Shape, rows: Tensor) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding.from_pretrained(rows, freeze=False, sparse=True)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = RMSNorm(shape.hidden)
        for weight in self.layers.parameters():
            if weight.dim() == 2:
                nn.init.normal_(weight, std=weight.shape[1] ** -0.5)

    def set_head_aside(self) -> None:
        """Zero the last layer's MLP, which reads pooled vectors alone: a head above what has been learnt.

        It fits the texts that it learns from, at the cost of others. So it learns along, and is left out of
        what is shipped, as the projection head of contrastive learning is (SimCLR, arXiv 2002.05709, 4.2).
        """
        for weight in self.get_submodule(f"layers.{self.shape.layers - 1}.mlp").parameters():
            nn.init.zeros_(weight)

    def forward(self, packed: Packed) -> Tensor:
        """Vectors [T, H], not normalised, of the texts in their order in `packed`."""
        x = self.embed_tokens(packed.ids)
        pooled = self.encode(x, packed.positions, packed.text, packed.last)
        return pooled.flatten(0, 1)[packed.pooled]

    def encode(self, x: Tensor, positions: Tensor, text: Tensor, last: Tensor) -> Tensor:
        """The hidden states at `last` [R, Q, H], of embedded tokens x [R, S, H]."""
        rows = _rows(positions, text, self.shape.head_dim)
        for layer in self.layers[:-1]:
            x = layer(x, rows, None)
        normed: Tensor = self.norm(self.layers[-1](x, rows, last))
        return normed


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Attention of q [R, N, Q, D] to k, v [R, N, S, D] where `mask` [R, 1, Q, S] is true."""
    if k.shape[2] > _SHORT:
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    # While S is small, the fused CPU kernel takes several times as long to go back in bfloat16.
    scores = (q @ k.transpose(2, 3)).float() * q.shape[3] ** -0.5
    weights: Tensor = scores.masked_fill(~mask, -1e4).softmax(dim=3).to(v.dtype)
    return weights @ v


def _rows(positions: Tensor, text: Tensor, head_dim: int) -> Rows:
    """What attention in all layers needs, of `positions` and `text` [R, S]."""
    exponents = torch.arange(0, head_dim, 2, device=text.device).float() / head_dim
    angles = (positions.float()[..., None] * THETA**-exponents).unsqueeze(2)
    before = torch.ones(text.shape[1], text.shape[1], dtype=torch.bool, device=text.device).tril()
    together = text[:, :, None] == text[:, None, :]
    return Rows((angles.cos(), angles.sin()), (together & before).unsqueeze(1))


def _at(x: Tensor, places: Tensor) -> Tensor:
    """x [R, S, ...] at `places` [R, Q]: [R, Q, ...]."""
    return x[torch.arange(len(x), device=x.device)[:, None], places]


def _rotate(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    """Turn each pair (x[i], x[i + D / 2]) of x [R, S, N, D] by its position's angle."""
    first, second = x.chunk(2, dim=-1)
    cos, sin = turn
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
