"""Runs batches through the packed forward pass with torch, on one device, from one thread.

A batch goes in as lists of ids and comes out as numpy; no tensor leaves this file and model/. From one batch
to the next only keys and values are kept, of beginnings that many texts share.

Where small batches have recorded passes, those come first and compute a beginning again: such a batch waits
for launches, not for the arithmetic that the cache would save.
"""

import logging
from collections.abc import Callable, Generator
from collections.abc import Sequence as Items

import numpy as np
import torch

from hexgrid.encoding import Vectors
from hexgrid.engine.device_errors import device_errors
from hexgrid.engine.sequence import Salt
from hexgrid.engine.shared_prefixes import SharedPrefixes
from hexgrid.model.cuda_graphs import Bucket, Graphs, Record
from hexgrid.model.heap import heap_trimmer
from hexgrid.model.packing import Reuse, pack
from hexgrid.model.pooling import finish
from hexgrid.model.qwen3 import Qwen3
from hexgrid.wire import TokenIds

# How far a unit vector may be off when its text's beginning was read from the cache, or its pass recorded: by
# a value in float32, by the cosine in less, where neighbouring numbers are further apart.
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
        self._graphs: Graphs | None = None
        self.hidden_size = model.config.hidden_size
        self.runs_async = model.device.type == "cuda"

    def run(self, token_ids: Items[TokenIds], salts: Items[Salt] = ()) -> Callable[[], Vectors]:
        """See `protocols.Runner.run`; on CUDA the kernels are queued and the copy back is pinned."""
        heap_trimmer().used()
        with device_errors():
            hidden = self._forward(token_ids, salts)
            return _copy_back(hidden) if self.runs_async else hidden.cpu().numpy

    def steps(self, token_ids: TokenIds) -> Generator[None, None, Vectors]:
        """See `protocols.Runner.steps`: a step is a part of the input's rows through one layer."""
        heap_trimmer().used()
        with device_errors():
            hidden = yield from self._model.steps(pack([token_ids], self._model.device))
            vectors: Vectors = hidden.cpu().numpy()
            return vectors

    def run_float32(self, token_ids: Items[TokenIds]) -> Vectors:
        """See `protocols.Runner.run_float32`."""
        with device_errors():
            packed = pack(token_ids, self._model.device)
            vectors: Vectors = self._model.forward(packed, torch.float32).cpu().numpy()
            return vectors

    def check_prefixes(self) -> None:
        """Run the same texts twice; if their beginning, read from the cache, changes a vector, never again.

        To be called before the first batch: with nothing to read, the first pass computes all.
        """
        if self._prefixes is None:
            return
        texts = [
            self._text(min(length, self._model.max_positions), _TEST_SHARED)
            for length in _TEST_LENGTHS
        ]
        off = self._difference(*(self._with_prefixes(texts) for _ in range(2)))
        if off is not None:
            _logger.error("Beginnings of texts are not reused: with the cache, %s", off)
            self._prefixes = None

    def record_graphs(self, record: Record) -> None:
        """From now on run small batches as recorded passes; none if one cannot be, or changes a vector."""
        try:
            graphs = Graphs(self._model, record)
            off = self._first_difference(graphs)
        except RuntimeError as error:
            _logger.warning("CUDA graphs are not used: %s", error)
            return
        if off is not None:
            _logger.error("CUDA graphs are not used: %s", off)
            return
        self._graphs = graphs

    def _first_difference(self, graphs: Graphs) -> str | None:
        """Run each recorded pass on a batch of full size and then on smaller ones."""
        for graph in graphs.all:
            for texts in self._test_batches(graph.bucket):
                off = self._difference(graph.run(texts), self._forward_anew(texts))
                if off is not None:
                    return f"in the pass of {graph.bucket.num_tokens} tokens, {off}"
        return None

    def _test_batches(self, bucket: Bucket) -> list[list[TokenIds]]:
        """The longest text, as many as fit, and the shortest: what one leaves behind, the next finds."""
        each = (bucket.num_tokens - 1) // bucket.num_seqs
        several = [each - number % each // 2 for number in range(bucket.num_seqs)]
        return [[self._text(n) for n in lengths] for lengths in ([bucket.longest], several, [1])]

    def _text(self, length: int, num_shared: int = 0) -> TokenIds:
        """Some ids; texts of different lengths have the first `num_shared` in common."""
        vocab_size = self._model.config.vocab_size
        return [(7 * at + (at >= num_shared) * 11 * length) % vocab_size for at in range(length)]

    def _difference(self, one: torch.Tensor, other: torch.Tensor) -> str | None:
        """What is wrong if two hidden states [B, H] of the same texts should be the same vectors."""
        a, b = (
            finish(each.cpu().numpy(), dimensions=None, normalize=True) for each in (one, other)
        )
        off = float(np.abs(a - b).max())
        cosine = float(np.einsum("bh,bh->b", a, b).min())
        least = _LEAST_COSINE.get(self._model.precision)
        if off <= _MOST_OFF if least is None else cosine >= least:
            return None
        return f"vectors are off by up to {off:.1e} (cosine {cosine:.6f})"

    def _forward(self, token_ids: Items[TokenIds], salts: Items[Salt]) -> torch.Tensor:
        hidden = None if self._graphs is None else self._graphs.forward(token_ids)
        return self._with_prefixes(token_ids, salts) if hidden is None else hidden

    def _with_prefixes(self, token_ids: Items[TokenIds], salts: Items[Salt] = ()) -> torch.Tensor:
        if self._prefixes is None:
            return self._forward_anew(token_ids)
        with self._prefixes.reused(token_ids, salts) as reuse:
            return self._forward_anew(token_ids, reuse)

    def _forward_anew(self, token_ids: Items[TokenIds], reuse: Reuse | None = None) -> torch.Tensor:
        return self._model.forward(pack(token_ids, self._model.device, reuse))


def _copy_back(hidden: torch.Tensor) -> Callable[[], Vectors]:
    """Queue the copy to pinned memory behind the kernels; the result waits for it."""
    target = torch.empty(hidden.shape, dtype=hidden.dtype, pin_memory=True)
    target.copy_(hidden, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()

    def wait() -> Vectors:
        with device_errors():
            arrived.synchronize()
        vectors: Vectors = target.numpy()
        return vectors

    return wait
