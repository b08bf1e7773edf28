"""How fast this machine multiplies matrices: what a forward pass can at best come near."""

from collections.abc import Callable
from time import perf_counter

import torch

from hexgrid.model.config import ModelConfig
from hexgrid.model.int8 import Int8Matrix, in_steps, quantise_matrix

# Products of so many rows and columns. A GPU is done with a smaller one before the next is launched.
_SIZE, _SIZE_ON_CUDA = 1024, 8192
_SECONDS = 0.5
_FEWEST = 5


def gemm_rate(device: torch.device, precision: str) -> float:
    """Operations a second of square products in a dtype or in int8: the median of half a second."""
    size = _SIZE_ON_CUDA if device.type == "cuda" else _SIZE
    multiply = _product(device, precision, size)
    times: list[float] = []
    with torch.inference_mode():
        while len(times) < _FEWEST or sum(times) < _SECONDS:
            start = perf_counter()
            multiply()[0, 0].item()  # waits for the device
            times.append(perf_counter() - start)
    return 2.0 * size**3 / sorted(times)[len(times) // 2]


def _product(device: torch.device, precision: str, size: int) -> Callable[[], torch.Tensor]:
    a, b = (torch.randn(size, size, device=device) for _ in range(2))
    if precision == "int8":
        matrix = Int8Matrix.of(*quantise_matrix(b))
        return lambda: matrix.multiply(in_steps(a, matrix.steps))
    dtype: torch.dtype = getattr(torch, precision)
    left, right = a.to(dtype), b.to(dtype)
    return lambda: left @ right


def linear_operations(config: ModelConfig, num_tokens: int) -> int:
    """Operations of the linear layers for one input; in the last one, all tokens get keys and values only."""
    kv = 2 * config.hidden_size * config.kv_size
    rest = (
        2 * config.hidden_size * config.q_size + 3 * config.hidden_size * config.intermediate_size
    )
    of_all = (config.num_hidden_layers - 1) * (kv + rest) + kv
    return 2 * (num_tokens * of_all + rest)
