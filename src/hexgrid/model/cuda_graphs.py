"""Passes over small batches, recorded and replayed: launching their kernels takes longer than running them.

The rules:
1. A recorded pass has fixed shapes. A batch goes into the smallest bucket that it fits: T rows, S inputs.
2. All rows belong to a sequence, and no sequence is empty. The pass has one more than S; those without an
   input are rows of zeros at the end. Attention does not cross sequences, so they change no vector.
3. What differs between batches is read from the device's memory. What a kernel gets from the host stays as
   it was recorded: so does the length of the longest sequence, which is that of the longest possible one.
4. The passes share memory: they run one after the other, on one stream, and what one gives is copied.
"""

from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from hexgrid.model.attention import backend_for, flash
from hexgrid.model.packing import Packed, Part, pack, staged
from hexgrid.model.qwen3 import Qwen3
from hexgrid.wire import TokenIds

_CPU = torch.device("cpu")
_NUM_TOKENS = (16, 32, 64, 128, 256, 512)
_NUM_SEQS = (1, 8, 32)
_SHORTEST = 4  # tokens an input has on average, at least, in a bucket that is worth its memory

# Runs a pass, and gives what runs it again: with the same kernels on the same memory, the result's included.
Record = Callable[[Callable[[], Tensor]], Callable[[], Tensor]]


class Bucket(NamedTuple):
    """The sizes of a recorded pass."""

    num_tokens: int  # rows, those of zeros included
    num_seqs: int  # inputs; the pass has one sequence more

    def fits(self, lengths: Items[int]) -> bool:
        """Whether inputs of these lengths leave a row for each sequence without an input."""
        num_fillers = self.num_seqs + 1 - len(lengths)
        return num_fillers > 0 and sum(lengths) + num_fillers <= self.num_tokens

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence that there can be."""
        return self.num_tokens - self.num_seqs


BUCKETS = tuple(
    Bucket(num_tokens, num_seqs)
    for num_tokens in _NUM_TOKENS
    for num_seqs in _NUM_SEQS
    if _SHORTEST * num_seqs <= num_tokens
)


def can_record(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a pass reads the lengths of its sequences from the device, as flash attention does."""
    return backend_for(device, dtype) is flash


def padded(token_ids: Items[TokenIds], bucket: Bucket) -> list[TokenIds]:
    """The sequences of a pass over `token_ids`, which fit: behind them, zeros that fill all rows."""
    num_fillers = bucket.num_seqs + 1 - len(token_ids)
    num_rows = bucket.num_tokens - sum(map(len, token_ids))
    return [*token_ids, [0] * (num_rows - num_fillers + 1), *[[0]] * (num_fillers - 1)]


@dataclass(frozen=True, kw_only=True)
class _Recorded(Packed):
    """A batch whose numbers are on the device, and others at each run."""

    cu_seqlens: Tensor  # int32 [B + 1]

    def parts(self, most_rows: int) -> list[Part]:
        """See `Packed.parts`."""
        assert len(self.token_ids) <= most_rows, "a bucket is one part"
        rows = slice(len(self.token_ids))
        lengths, sums = self.lengths, self.cu_seqlens
        return [Part(rows, rows, lengths, lengths, sums, sums)]

    def pooled(self) -> Part:
        """See `Packed.pooled`."""
        num_seqs = len(self.lengths)
        one_each = torch.arange(num_seqs + 1, dtype=torch.int32, device=self.token_ids.device)
        rows, kv_rows = slice(num_seqs), slice(len(self.token_ids))
        return Part(rows, kv_rows, (1,) * num_seqs, self.lengths, one_each, self.cu_seqlens)


class _Inputs:
    """What the pass of a bucket reads: ids and positions [T], last rows [B], sums of lengths [B + 1]."""

    def __init__(self, bucket: Bucket, device: torch.device) -> None:
        self._bucket = bucket
        num_seqs = bucket.num_seqs + 1
        self._sizes = [bucket.num_tokens, bucket.num_tokens, num_seqs, num_seqs + 1]
        self._numbers = torch.zeros(sum(self._sizes), dtype=torch.int64, device=device)

    def fill(self, token_ids: Items[TokenIds]) -> None:
        """Queue the copy of a batch that fits, in one piece, behind the passes that are queued."""
        packed = pack(padded(token_ids, self._bucket), _CPU)
        (whole,) = packed.parts(self._bucket.num_tokens)
        numbers = (packed.token_ids, packed.positions, packed.last_rows, whole.cu_seqlens_q.long())
        source = staged(torch.cat(numbers), self._numbers.device)
        self._numbers.copy_(source, non_blocking=True)

    def packed(self) -> Packed:
        """What a pass reads, of whatever batch is there when it runs."""
        token_ids, positions, last_rows, sums = self._numbers.split(self._sizes)
        lengths = (self._bucket.longest, *(1,) * self._bucket.num_seqs)
        return _Recorded(
            token_ids=token_ids,
            positions=positions,
            last_rows=last_rows,
            lengths=lengths,
            kv_lengths=lengths,
            cu_seqlens=sums.to(torch.int32),
        )


class Graph:
    """The recorded pass of a bucket."""

    def __init__(self, model: Qwen3, bucket: Bucket, record: Record) -> None:
        """Raises:
        RuntimeError: it cannot be recorded, or memory has run out.
        """
        self.bucket = bucket
        self._inputs = _Inputs(bucket, model.device)
        self._inputs.fill([[0]])
        self._replay = record(lambda: model.forward(self._inputs.packed()))

    def run(self, token_ids: Items[TokenIds]) -> Tensor:
        """As `Qwen3.forward` of a batch that fits: float32 [B, H], of its own memory."""
        self._inputs.fill(token_ids)
        return self._replay()[: len(token_ids)].clone()


class Graphs:
    """The recorded passes of a model, the smallest first."""

    def __init__(self, model: Qwen3, record: Record, buckets: Items[Bucket] = BUCKETS) -> None:
        """Raises:
        RuntimeError: one cannot be recorded, or memory has run out.
        """
        possible = [
            each
            for each in buckets
            # Rows of zeros have positions, too.
            if each.num_tokens <= model.rows_per_chunk and each.longest <= model.max_positions
        ]
        # The others use the largest one's memory again.
        largest_first = [Graph(model, each, record) for each in sorted(possible, reverse=True)]
        self.all = largest_first[::-1]

    def forward(self, token_ids: Items[TokenIds]) -> Tensor | None:
        """As `Qwen3.forward`, float32 [B, H]; None if the batch fits no bucket."""
        lengths = [len(ids) for ids in token_ids]
        fitting = (graph for graph in self.all if graph.bucket.fits(lengths))
        graph = next(fitting, None)
        return None if graph is None else graph.run(token_ids)


class CudaRecorder:
    """Records passes as CUDA graphs whose memory is one pool."""

    def __init__(self, device: torch.device) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream(device)

    def __call__(self, run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """See `Record`."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            run()  # kernels are chosen and workspaces made, which cannot be recorded
        graph = torch.cuda.CUDAGraph()
        # Threads of other models may go on meanwhile.
        with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
            result = run()

        def replay() -> Tensor:
            graph.replay()
            return result

        return replay
