"""Runs batches through the packed forward pass with torch, on one device, from one thread.

A batch goes in as lists of ids and comes out as numpy; no tensor leaves this file and model/. Nothing is
kept from one batch to the next.
"""

from collections.abc import Callable
from collections.abc import Sequence as Items

import torch

from hexgrid.encoding import Vectors
from hexgrid.model.packing import pack
from hexgrid.model.qwen3 import Qwen3
from hexgrid.wire import TokenIds


class TorchRunner:
    """A model on its device; see `protocols.Runner`."""

    def __init__(self, model: Qwen3) -> None:
        self._model = model
        self.hidden_size = model.config.hidden_size
        self.runs_async = model.device.type == "cuda"

    def run(self, token_ids: Items[TokenIds]) -> Callable[[], Vectors]:
        """See `protocols.Runner.run`; on CUDA the kernels are queued and the copy back is pinned."""
        try:
            hidden = self._model.forward(pack(token_ids, self._model.device))
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()  # the halves of this batch are tried next
            raise
        if not self.runs_async:
            return hidden.cpu().numpy
        return _copy_back(hidden)

    def run_float32(self, token_ids: Items[TokenIds]) -> Vectors:
        """See `protocols.Runner.run_float32`."""
        packed = pack(token_ids, self._model.device)
        vectors: Vectors = self._model.forward(packed, torch.float32).cpu().numpy()
        return vectors


def _copy_back(hidden: torch.Tensor) -> Callable[[], Vectors]:
    """Queue the copy to pinned memory behind the kernels; the result waits for it."""
    target = torch.empty(hidden.shape, dtype=hidden.dtype, pin_memory=True)
    target.copy_(hidden, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()

    def wait() -> Vectors:
        arrived.synchronize()
        vectors: Vectors = target.numpy()
        return vectors

    return wait
