"""The building blocks of Qwen3 as functions of tensors.

Shapes: T rows (tokens), H hidden, I intermediate, N query heads, K key/value heads, D head_dim, C rows of
keys and values. Computed in the dtype of `x`; weights kept in another dtype are converted as they are used,
which is how a bfloat16 model is run once more in float32. On CPUs for which the package brings kernels of its
own (cpu_kernels.py) those are used; what stands beside them here is for all else.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from hexgrid.model import cpu_kernels
from hexgrid.model.cpu_kernels import Places, Turn
from hexgrid.model.int8 import Int8Matrix, in_steps
from hexgrid.model.packed_matrix import PackedMatrix

Matrix = Tensor | PackedMatrix | Int8Matrix  # [out, in]
_FEW_POSITIONS = 1_024  # of the CPU's first table of angles


class Product(NamedTuple):
    """What a linear layer gives: what follows takes the scales along, in its own pass over memory."""

    values: Tensor  # [T, out]
    scales: Tensor | None = None  # [T, 1], yet to be multiplied

    def whole(self) -> Tensor:
        """[T, out], in the memory of the values."""
        return self.values if self.scales is None else self.values.mul_(self.scales)


def linear(x: Tensor, weight: Matrix) -> Product:
    """x [T, in] times weight [out, in]."""
    if isinstance(weight, Int8Matrix):
        rows = in_steps(x, weight.steps)
        return Product(weight.multiply(rows), rows.scales)
    if isinstance(weight, PackedMatrix):
        return Product(weight.multiply(x))
    return Product(functional.linear(x, weight.to(x.dtype)))


def norm_linear(x: Tensor, norm: Tensor, eps: float, weight: Matrix) -> Product:
    """`linear` of x [T, in] after its root-mean-square norm."""
    if isinstance(weight, Int8Matrix) and cpu_kernels.usable(x):
        rows = cpu_kernels.in_steps(x, weight.steps, norm, eps)
        return Product(weight.multiply(rows), rows.scales)
    return linear(rms_norm(x, norm, eps), weight)


def swiglu_linear(product: Product, weight: Matrix) -> Product:
    """`linear` of silu(gate) * up, of a `product` [T, 2 I] that has gate and up side by side."""
    values, scales = product
    if isinstance(weight, Int8Matrix) and scales is not None and cpu_kernels.usable(values):
        rows = cpu_kernels.swiglu_in_steps(values, scales, weight.steps)
        return Product(weight.multiply(rows), rows.scales)
    return linear(swiglu(product.whole()), weight)


def add(target: Tensor, product: Product) -> None:
    """Add it to `target` [T, out], in place."""
    if product.scales is None:
        target += product.values
    else:
        target.addcmul_(product.values, product.scales)


def swiglu(gate_up: Tensor) -> Tensor:
    """silu(gate) * up, for gate and up side by side: [T, 2 I] -> [T, I]. The gate is lost."""
    if cpu_kernels.usable(gate_up):
        return cpu_kernels.swiglu(gate_up)
    gate, up = gate_up.chunk(2, dim=-1)
    return functional.silu(gate, inplace=True).mul_(up)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Root-mean-square norm over the last axis."""
    if x.is_cuda:  # one kernel there
        return functional.rms_norm(x, x.shape[-1:], weight.to(x.dtype), eps)
    if cpu_kernels.usable(x):
        return cpu_kernels.rms_norm(x, weight, eps)
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


def split_heads(product: Product, turn: Turn, num_q: int, places: Places | None = None) -> Tensor:
    """Queries [T, N, D] of a `product` [T, (N + 2 K) D]; its keys and values go to `places`.

    Without `places` it has none. N, `num_q`, may be 0.
    """
    if cpu_kernels.usable(product.values):
        return cpu_kernels.split_heads(*product, turn, num_q, places)
    heads = product.whole().unflatten(-1, (-1, len(turn.q_norm)))
    angles = (turn.eps, turn.cos, turn.sin)
    if places is not None:
        k, v = heads[:, num_q:].chunk(2, dim=1)
        places.k[places.rows] = norm_and_rotate(k, turn.k_norm, *angles)
        places.v[places.rows] = v
    return norm_and_rotate(heads[:, :num_q], turn.q_norm, *angles)


def norm_and_rotate(x: Tensor, weight: Tensor, eps: float, cos: Tensor, sin: Tensor) -> Tensor:
    """Norm each head of x [T, N, D], then turn each pair (x[i], x[i + D / 2]) by its angle, in float32.

    With torch's operators. The norm's weight [D] is multiplied to the few cosines and sines [T, 1, D / 2]
    instead of to all heads.
    """
    first, second = (x * _rms_scale(x, eps)).chunk(2, dim=-1)
    of_first, of_second = weight.float().chunk(2)
    turned = torch.empty(x.shape, dtype=first.dtype, device=x.device)
    low, high = turned.chunk(2, dim=-1)
    torch.mul(first, cos * of_first, out=low).addcmul_(second, sin * of_second, value=-1)
    torch.mul(second, cos * of_second, out=high).addcmul_(first, sin * of_first)
    return turned.to(x.dtype)
