"""Qwen3 written out naively from its definition, to compare the packed engine with.

A padded batch in float32 with an explicit mask; nothing fused, packed or shared with the engine. The output
is each sequence's last hidden state, normalised.
"""

import json
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file
from torch import Tensor

Padding = Literal["left", "right"]
_PAD_ID = 0


class Reference:
    """The model in `directory`."""

    def __init__(self, directory: Path) -> None:
        config = json.loads((directory / "config.json").read_text())
        self.head_dim: int = config["head_dim"]
        self.num_layers: int = config["num_hidden_layers"]
        self.group = config["num_attention_heads"] // config["num_key_value_heads"]
        self.eps: float = config["rms_norm_eps"]
        self.theta: float = (config.get("rope_parameters") or config)["rope_theta"]
        self.weights = {
            name.removeprefix("model."): tensor.float()
            for file in directory.glob("*.safetensors")
            for name, tensor in load_file(file).items()
        }

    @torch.no_grad()
    def embed(self, token_ids: list[list[int]], *, padding: Padding = "left") -> Tensor:
        """Unit vectors [B, H] of id lists, padded to one length on the side named."""
        ids, real = _pad(token_ids, padding)  # [B, L]
        positions = (real.cumsum(dim=1) - 1).clamp(min=0)
        # Row i may look at column j where j is not later and j is no padding.
        mask = torch.ones(ids.shape[1], ids.shape[1]).tril().bool() & real[:, None, :]
        x = self.weights["embed_tokens.weight"][ids]
        for layer in range(self.num_layers):
            prefix = f"layers.{layer}."
            x = x + self._attention(
                prefix, self._norm(x, f"{prefix}input_layernorm"), positions, mask
            )
            x = x + self._mlp(prefix, self._norm(x, f"{prefix}post_attention_layernorm"))
        x = self._norm(x, "norm")
        last = real.long().mul(torch.arange(1, ids.shape[1] + 1)).argmax(dim=1)
        pooled = x[torch.arange(len(x)), last]
        return pooled / pooled.square().sum(dim=1, keepdim=True).sqrt()

    def _attention(self, prefix: str, x: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (self._heads(x, f"{prefix}self_attn.{name}_proj") for name in "qkv")
        q = self._rope(self._norm(q, f"{prefix}self_attn.q_norm"), positions)
        k = self._rope(self._norm(k, f"{prefix}self_attn.k_norm"), positions)
        k, v = (each.repeat_interleave(self.group, dim=1) for each in (k, v))
        scores = q @ k.transpose(2, 3) / self.head_dim**0.5
        # A row of padding sees nothing: a large negative number, unlike -inf, keeps it from being NaN.
        scores = scores.masked_fill(~mask[:, None], -1e9)
        mixed = (scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(2)
        return self._linear(mixed, f"{prefix}self_attn.o_proj")

    def _heads(self, x: Tensor, name: str) -> Tensor:
        """The projection of x [B, L, H], as [B, heads, L, D]."""
        heads: Tensor = self._linear(x, name).unflatten(2, (-1, self.head_dim))
        return heads.transpose(1, 2)

    def _mlp(self, prefix: str, x: Tensor) -> Tensor:
        gate = self._linear(x, f"{prefix}mlp.gate_proj")
        up = self._linear(x, f"{prefix}mlp.up_proj")
        return self._linear(gate * gate.sigmoid() * up, f"{prefix}mlp.down_proj")

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return torch.matmul(x, self.weights[f"{name}.weight"].T)

    def _norm(self, x: Tensor, name: str) -> Tensor:
        mean_square = x.square().mean(dim=-1, keepdim=True)
        return x / (mean_square + self.eps).sqrt() * self.weights[f"{name}.weight"]

    def _rope(self, x: Tensor, positions: Tensor) -> Tensor:
        """Turn the pair (i, i + D / 2) of x [B, heads, L, D] by position * theta^(-2i / D)."""
        half = self.head_dim // 2
        frequencies = self.theta ** (-torch.arange(half) / half)
        angles = positions[:, None, :, None] * frequencies
        a, b = x[..., :half], x[..., half:]
        return torch.cat(
            (a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()), dim=-1
        )


def _pad(token_ids: list[list[int]], padding: Padding) -> tuple[Tensor, Tensor]:
    """Ids [B, L] and whether each is real."""
    length = max(map(len, token_ids))
    rows, real = [], []
    for ids in token_ids:
        pads, ones = [_PAD_ID] * (length - len(ids)), [True] * len(ids)
        zeros = [False] * len(pads)
        rows.append(pads + ids if padding == "left" else ids + pads)
        real.append(zeros + ones if padding == "left" else ones + zeros)
    return torch.tensor(rows), torch.tensor(real)
