"""Keys and values of tokens that later texts begin with, for all layers: memory in slots, one a token.

Which slots hold what is the business of `engine/prefix_cache.py`. Shapes: L layers, S slots, K key/value
heads, D head_dim; C rows of a batch's keys and values.
"""

import torch
from torch import Tensor

from hexgrid.model.config import ModelConfig


class KVCache:
    """k and v [L, S, K, D]. Memory that was never written is not touched."""

    def __init__(
        self, config: ModelConfig, num_slots: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        heads = (config.num_key_value_heads, config.head_dim)
        shape = (config.num_hidden_layers, num_slots, *heads)
        self.num_slots = num_slots
        self._k, self._v = (torch.empty(shape, dtype=dtype, device=device) for _ in "kv")

    def read(self, layer: int, slots: Tensor, k: Tensor, v: Tensor, rows: Tensor) -> None:
        """Put what `slots` [n] hold of `layer` into the `rows` [n] of k and v [C, K, D]."""
        k.index_copy_(0, rows, self._k[layer].index_select(0, slots))
        v.index_copy_(0, rows, self._v[layer].index_select(0, slots))

    def keep(self, layer: int, slots: Tensor, k: Tensor, v: Tensor, rows: Tensor) -> None:
        """Put the `rows` [n] of k and v [C, K, D] into `slots` [n] of `layer`."""
        self._k[layer].index_copy_(0, slots, k.index_select(0, rows))
        self._v[layer].index_copy_(0, slots, v.index_select(0, rows))


def bytes_per_token(config: ModelConfig, dtype: torch.dtype) -> int:
    """Memory of one slot."""
    return 2 * config.num_hidden_layers * config.kv_size * dtype.itemsize
