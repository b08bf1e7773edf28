"""How fast this machine multiplies matrices: what a forward pass can at best come near."""

from time import perf_counter

import torch

from hexgrid.model.config import ModelConfig

_SIZE = 1024
_SECONDS = 0.5
_FEWEST = 5


def gemm_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of square products in `dtype`: the median of half a second."""
    a, b = (torch.randn(_SIZE, _SIZE, device=device).to(dtype) for _ in range(2))
    times: list[float] = []
    with torch.inference_mode():
        while len(times) < _FEWEST or sum(times) < _SECONDS:
            start = perf_counter()
            product = a @ b
            product[0, 0].item()  # waits for the device
            times.append(perf_counter() - start)
    return 2.0 * _SIZE**3 / sorted(times)[len(times) // 2]


def linear_operations(config: ModelConfig, num_tokens: int) -> int:
    """Operations of the linear layers for one input; in the last one, all tokens get keys and values only."""
    kv = 2 * config.hidden_size * config.kv_size
    rest = (
        2 * config.hidden_size * config.q_size + 3 * config.hidden_size * config.intermediate_size
    )
    of_all = (config.num_hidden_layers - 1) * (kv + rest) + kv
    return 2 * (num_tokens * of_all + rest)
