"""Linear layers in int8 on the CPU: weights scaled per output channel, activations per token.

A row of activations is divided by its largest magnitude and rounded to steps of one size, the same whatever
else is in the batch: the vector of a text does not depend on what runs beside it. The products are oneDNN's,
through the operators that torch's own compiler uses.
"""

import platform

import torch
from torch import Tensor

from hexgrid.errors import ConfigError
from hexgrid.model import cpu_kernels
from hexgrid.model.cpu_kernels import Steps
from hexgrid.model.onednn import has_onednn, with_few_sizes
from hexgrid.model.onednn_layout import lay_out, num_bytes

_LARGEST = 127  # of an int8 weight, on both sides: -128 is not used
_SMALLEST_SCALE = 1e-30  # of a row of zeros


def activation_steps() -> int:
    """Into how many steps an activation's magnitude is rounded.

    Without VNNI instructions two products are added in 16 bits, where those of seven bits with eight always
    fit, and those of eight with eight do not: one bit less there.
    """
    return 127 if torch.cpu._is_vnni_supported() else 63  # noqa: SLF001


def check_supported(device: torch.device) -> None:
    """Raises:
    ConfigError: int8 cannot be computed here.
    """
    if device.type != "cpu":
        raise ConfigError(
            f"--quantization int8 is for CPUs, and the model would run on {device.type}: "
            "leave it out, or choose --device cpu"
        )
    if not has_onednn(device):
        raise ConfigError(
            "--quantization int8 needs an x86-64 processor and a torch with oneDNN; this machine is "
            f"{platform.machine()}: leave it out, or choose --dtype bfloat16"
        )


def quantise_matrix(weight: Tensor) -> tuple[Tensor, Tensor]:
    """`weight` [out, in] as int8 values [out, in] and float32 scales [out], each channel to its largest."""
    weight = weight.float()
    scales = weight.abs().amax(dim=1).div_(_LARGEST).clamp_(min=_SMALLEST_SCALE)
    return (weight / scales.unsqueeze(1)).round_().to(torch.int8), scales


class Int8Matrix:
    """A weight [out, in] in int8, laid out for the CPU at hand."""

    def __init__(self, packed: Tensor, scales: Tensor) -> None:
        """From values that are laid out, as an opaque tensor [in, out], and scales [out]."""
        self.packed, self.scales = packed, scales
        self._zeros = torch.zeros(len(scales), dtype=torch.int64)
        self.steps = activation_steps()
        self._num_weights = packed.numel()
        self.nbytes = num_bytes(packed) + scales.nbytes

    @classmethod
    def of(cls, values: Tensor, scales: Tensor) -> "Int8Matrix":
        """From what `quantise_matrix` gives."""
        return cls(lay_out(values), scales)

    def multiply(self, rows: Steps) -> Tensor:
        """Rows [T, in] times the weight: float32 [T, out], yet to be multiplied by the rows' scales."""
        product: Tensor = torch.ops.onednn.qlinear_pointwise(
            with_few_sizes(rows.values, self._num_weights),
            1 / self.steps,
            self.steps + 1,
            self.packed,
            self.scales,
            self._zeros,
            None,  # bias
            1.0,  # scale and zero point of the output: it is not quantised
            0,
            torch.float32,
            "none",  # what follows the product
            [],
            "",
        )
        return product[: len(rows.values)]


def in_steps(x: Tensor, steps: int) -> Steps:
    """Each row of x [T, n] in so many steps of its largest magnitude to either side."""
    if cpu_kernels.usable(x):
        return cpu_kernels.in_steps(x, steps)
    # Two passes, and yet twenty times as fast as vector_norm(ord=inf).
    largest = torch.maximum(x.amax(dim=1, keepdim=True), x.amin(dim=1, keepdim=True).neg_())
    largest.clamp_(min=_SMALLEST_SCALE)
    # Half a step more, as the conversion rounds down.
    values = (x * (steps / largest)).add_(steps + 1.5).to(torch.uint8)
    return Steps(values, largest)
