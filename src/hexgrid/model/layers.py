"""The building blocks of Qwen3 as functions of tensors.

Shapes: T rows (tokens), H hidden, I intermediate, N heads, D head_dim. Computed in the dtype of `x`;
weights kept in another dtype are converted as they are used, which is how a bfloat16 model is run once
more in float32.
"""

import torch
from torch import Tensor
from torch.nn import functional

from hexgrid.model.int8 import Int8Matrix
from hexgrid.model.packed_matrix import PackedMatrix

Matrix = Tensor | PackedMatrix | Int8Matrix  # [out, in]
_FEW_POSITIONS = 1_024  # of the CPU's first table of angles


def linear(x: Tensor, weight: Matrix) -> Tensor:
    """x [T, in] times weight [out, in]: [T, out]."""
    if isinstance(weight, Int8Matrix):
        product, scales = weight.multiply(x)
        return product.mul_(scales).to(x.dtype)
    if isinstance(weight, PackedMatrix):
        return weight.multiply(x)
    return functional.linear(x, weight.to(x.dtype))


def add_linear(target: Tensor, x: Tensor, weight: Matrix) -> None:
    """Add x [T, in] times weight [out, in] to `target` [T, out], in place."""
    if isinstance(weight, Int8Matrix):
        target.addcmul_(*weight.multiply(x))
    else:
        target += linear(x, weight)


def add_mlp(target: Tensor, x: Tensor, gate_up: Matrix, down: Matrix) -> None:
    """Add the MLP of x [T, H] to `target` [T, H], in place: down(silu(gate) * up)."""
    if isinstance(gate_up, Int8Matrix) and isinstance(down, Int8Matrix):
        product, scales = gate_up.multiply(x)
        gate, up = product.chunk(2, dim=-1)
        functional.silu(gate.mul_(scales), inplace=True).mul_(up)
        # What is still to be multiplied to `up` can wait: it does not change how a row is quantised.
        product, own = down.multiply(gate)
        target.addcmul_(product, own.mul_(scales))
        return
    add_linear(target, swiglu(linear(x, gate_up)), down)


def swiglu(gate_up: Tensor) -> Tensor:
    """silu(gate) * up, for gate and up side by side: [T, 2 I] -> [T, I], in the memory of the gate."""
    gate, up = gate_up.chunk(2, dim=-1)
    return functional.silu(gate, inplace=True).mul_(up)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Root-mean-square norm over the last axis."""
    if x.is_cuda:  # one kernel there
        return functional.rms_norm(x, x.shape[-1:], weight.to(x.dtype), eps)
    return (x * _rms_scale(x, eps)).mul_(weight).to(x.dtype)


def _rms_scale(x: Tensor, eps: float) -> Tensor:
    """One over the root mean square of the last axis of x [..., n]: float32 [..., 1]."""
    length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    return length.square_().mul_(1 / x.shape[-1]).add_(eps).rsqrt_()


class RotaryEmbedding:
    """Cosines and sines of positions, float32 [P, D / 2], looked up.

    On a GPU of all `max_positions`, at places that CUDA graphs may keep. On the CPU of as many as texts have
    reached: 32,768 take 17 MB, and few texts go beyond the first ones.
    """

    def __init__(
        self, head_dim: int, theta: float, max_positions: int, device: torch.device
    ) -> None:
        exponents = torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim
        self._inverse_frequencies = 1.0 / theta**exponents
        self._max_positions = max_positions
        self._device = device
        few = _FEW_POSITIONS if device.type == "cpu" else max_positions
        self._compute(min(few, max_positions))

    def at(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines of `positions` [T], each [T, 1, D / 2]: looked up once a batch."""
        if self._device.type == "cpu":
            needed = int(positions.max()) + 1
            if needed > len(self._cos):
                self._compute(min(max(needed, 2 * len(self._cos)), self._max_positions))
        return self._cos[positions].unsqueeze(1), self._sin[positions].unsqueeze(1)

    def _compute(self, num_positions: int) -> None:
        # On the CPU, like transformers' reference: the angles of two devices may differ in the last bit.
        angles = torch.outer(torch.arange(num_positions).float(), self._inverse_frequencies)
        self._cos, self._sin = angles.cos().to(self._device), angles.sin().to(self._device)


def norm_and_rotate(x: Tensor, weight: Tensor, eps: float, cos: Tensor, sin: Tensor) -> Tensor:
    """Norm each head of x [T, N, D], then turn each pair (x[i], x[i + D / 2]) by its angle, in float32.

    The norm's weight [D] is multiplied to the few cosines and sines [T, 1, D / 2] instead of to all heads.
    """
    first, second = (x * _rms_scale(x, eps)).chunk(2, dim=-1)
    of_first, of_second = weight.float().chunk(2)
    turned = torch.empty(x.shape, dtype=first.dtype, device=x.device)
    low, high = turned.chunk(2, dim=-1)
    torch.mul(first, cos * of_first, out=low).addcmul_(second, sin * of_second, value=-1)
    torch.mul(second, cos * of_second, out=high).addcmul_(first, sin * of_first)
    return turned.to(x.dtype)
