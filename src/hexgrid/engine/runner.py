"""Runs batches through the packed forward pass with torch, on one device, from one thread.

A batch goes in as lists of ids and comes out as numpy; no tensor leaves this file and model/. From one batch
to the next only keys and values are kept, of beginnings that many texts share.
"""

import logging
from collections.abc import Callable, Generator
from collections.abc import Sequence as Items

import numpy as np
import torch

from hexgrid.encoding import Vectors
from hexgrid.engine.shared_prefixes import SharedPrefixes
from hexgrid.model.packing import pack
from hexgrid.model.pooling import finish
from hexgrid.model.qwen3 import Qwen3
from hexgrid.wire import TokenIds

# How far a unit vector may be off when its text's beginning was read from the cache: by a value in float32,
# by the cosine in less, where neighbouring numbers are further apart.
_MOST_OFF = 2e-5
# An int8 step that falls to the other side on the way is a hundredth of an activation.
_LEAST_COSINE = {"bfloat16": 0.9999, "float16": 0.9999, "int8": 0.999}
_TEST_LENGTHS = (16, 21, 15)  # tokens, of which the first are the same
_TEST_SHARED = 14

_logger = logging.getLogger(__name__)


class TorchRunner:
    """A model on its device; see `protocols.Runner`."""

    def __init__(self, model: Qwen3, prefixes: SharedPrefixes | None = None) -> None:
        self._model = model
        self._prefixes = prefixes
        self.hidden_size = model.config.hidden_size
        self.runs_async = model.device.type == "cuda"

    def run(self, token_ids: Items[TokenIds]) -> Callable[[], Vectors]:
        """See `protocols.Runner.run`; on CUDA the kernels are queued and the copy back is pinned."""
        try:
            hidden = self._forward(token_ids)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()  # the halves of this batch are tried next
            raise
        if not self.runs_async:
            return hidden.cpu().numpy
        return _copy_back(hidden)

    def steps(self, token_ids: TokenIds) -> Generator[None, None, Vectors]:
        """See `protocols.Runner.steps`: a step is a part of the input's rows through one layer."""
        hidden = yield from self._model.steps(pack([token_ids], self._model.device))
        vectors: Vectors = hidden.cpu().numpy()
        return vectors

    def run_float32(self, token_ids: Items[TokenIds]) -> Vectors:
        """See `protocols.Runner.run_float32`."""
        packed = pack(token_ids, self._model.device)
        vectors: Vectors = self._model.forward(packed, torch.float32).cpu().numpy()
        return vectors

    def check_prefixes(self) -> None:
        """Run the same texts twice; if their beginning, read from the cache, changes a vector, never again.

        To be called before the first batch: with nothing to read, the first pass computes all.
        """
        if self._prefixes is None:
            return
        vocab_size = self._model.config.vocab_size
        texts = [
            [(7 * at + (at >= _TEST_SHARED) * 11 * length) % vocab_size for at in range(length)]
            for length in (min(length, self._model.max_positions) for length in _TEST_LENGTHS)
        ]
        one, other = (finish(self.run(texts)(), dimensions=None, normalize=True) for _ in range(2))
        off = float(np.abs(one - other).max())
        cosine = float(np.einsum("bh,bh->b", one, other).min())
        least = _LEAST_COSINE.get(self._model.precision)
        if not (off <= _MOST_OFF if least is None else cosine >= least):
            _logger.error(
                "Beginnings of texts are not reused: with the cache, vectors are off by up to %.1e "
                "(cosine %.6f)",
                off,
                cosine,
            )
            self._prefixes = None

    def _forward(self, token_ids: Items[TokenIds]) -> torch.Tensor:
        if self._prefixes is None:
            return self._model.forward(pack(token_ids, self._model.device))
        with self._prefixes.reused(token_ids) as reuse:
            return self._model.forward(pack(token_ids, self._model.device, reuse))


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
