"""Weights of float linear layers, laid out for this CPU by oneDNN.

A plain matrix is brought into the order that the kernel reads at every product, which for few rows takes as
long as the product itself. The operators are those that torch's own compiler uses.
"""

import torch
from torch import Tensor
from torch.nn import functional

from hexgrid.model.onednn import has_onednn, with_few_sizes

_ROWS = 512  # that the layout is chosen for; it serves any number


def pack(weight: Tensor) -> "Tensor | PackedMatrix":
    """`weight` [out, in] in the order of the kernel where there is one for its dtype, else as it is."""
    if not has_onednn(weight.device):
        return weight
    if weight.dtype == torch.float32:
        return PackedMatrix(weight)
    has_bfloat16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()  # noqa: SLF001
    return PackedMatrix(weight) if weight.dtype == torch.bfloat16 and has_bfloat16 else weight


class PackedMatrix:
    """A weight [out, in] in float32 or bfloat16; a row's product does not depend on the rows beside it."""

    def __init__(self, weight: Tensor) -> None:
        self._packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS)  # noqa: SLF001
        self._dtype = weight.dtype
        self._num_weights = weight.numel()
        self.nbytes = weight.nbytes

    def multiply(self, x: Tensor) -> Tensor:
        """x [T, in] times the weight: [T, out], computed in the dtype of `x`."""
        if x.dtype != self._dtype:
            return functional.linear(x, self.plain().to(x.dtype))
        product: Tensor = torch.ops.mkldnn._linear_pointwise(  # noqa: SLF001
            with_few_sizes(x, self._num_weights), self._packed, None, "none", [], ""
        )
        return product[: len(x)]

    def plain(self) -> Tensor:
        """The weight [out, in] as it was."""
        return self._packed.to_dense()
