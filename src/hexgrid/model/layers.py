"""The building blocks of Qwen3 as functions of tensors.

Shapes: T rows (tokens), H hidden, I intermediate, N heads, D head_dim. Computed in the dtype of `x`;
weights kept in another dtype are converted as they are used, which is how a bfloat16 model is run once
more in float32.
"""

import torch
from torch import Tensor
from torch.nn import functional

from hexgrid.model.int8 import Int8Matrix

Matrix = Tensor | Int8Matrix  # [out, in]


def linear(x: Tensor, weight: Matrix) -> Tensor:
    """x [T, in] times weight [out, in]: [T, out]."""
    if isinstance(weight, Int8Matrix):
        product, scales = weight.multiply(x)
        return product.mul_(scales).to(x.dtype)
    return functional.linear(x, weight.to(x.dtype))


def add_linear(target: Tensor, x: Tensor, weight: Matrix) -> None:
    """Add x [T, in] times weight [out, in] to `target` [T, out], in place."""
    if isinstance(weight, Int8Matrix):
        target.addcmul_(*weight.multiply(x))
    else:
        target += functional.linear(x, weight.to(x.dtype))


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Root-mean-square norm over the last axis."""
    return functional.rms_norm(x, x.shape[-1:], weight.to(x.dtype), eps)


def swiglu(gate_up: Tensor) -> Tensor:
    """silu(gate) * up, for gate and up side by side: [T, 2 I] -> [T, I]."""
    gate, up = gate_up.chunk(2, dim=-1)
    return functional.silu(gate) * up


class RotaryEmbedding:
    """Cosines and sines of every position up to `max_positions`, float32 [max_positions, D / 2]."""

    def __init__(
        self, head_dim: int, theta: float, max_positions: int, device: torch.device
    ) -> None:
        # On the CPU, like transformers' reference: the angles of two devices may differ in the last bit.
        exponents = torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim
        inverse_frequencies = 1.0 / theta**exponents
        angles = torch.outer(torch.arange(max_positions).float(), inverse_frequencies)
        self._cos = angles.cos().to(device)
        self._sin = angles.sin().to(device)

    def at(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines of `positions` [T], each [T, 1, D / 2]: looked up once a batch."""
        return self._cos[positions].unsqueeze(1), self._sin[positions].unsqueeze(1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (x[i], x[i + D / 2]) of x [T, N, D] by its angle, in float32."""
    first, second = x.float().chunk(2, dim=-1)
    turned = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    return turned.to(x.dtype)
