"""A batch as tensors: all sequences laid end to end, no padding anywhere.

Shapes: T tokens to be computed, B sequences. Keys and values may begin with a prefix that was computed
before: they are C >= T rows in all, each sequence's prefix before its own.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hexgrid.model.kv_cache import KVCache


@dataclass(frozen=True)
class Prefixes:
    """Keys and values that a pass takes from the cache, and those that it keeps there."""

    cache: KVCache
    own_rows: Tensor  # [T] int64, the rows of the tokens' own keys and values among C
    read_rows: Tensor  # [C - T] int64, the rows that are read
    read_slots: Tensor  # [C - T] int64, from where
    kept_rows: Tensor  # [S] int64, the rows that are kept
    kept_slots: Tensor  # [S] int64, and where

    def read(self, layer: int, k: Tensor, v: Tensor) -> None:
        """Fill the prefixes' rows of k and v [C, K, D]."""
        self.cache.read(layer, self.read_slots, k, v, self.read_rows)

    def keep(self, layer: int, k: Tensor, v: Tensor) -> None:
        """Keep those rows of k and v [C, K, D] that texts to come may begin with."""
        self.cache.keep(layer, self.kept_slots, k, v, self.kept_rows)


@dataclass(frozen=True)
class Part:
    """Rows that go through a layer together: those of whole sequences, or some of one that is long."""

    rows: slice  # of T
    kv_rows: slice  # of C: what they see, and nothing beyond
    q_lengths: tuple[int, ...]  # rows of each sequence: the last ones of what it sees
    kv_lengths: tuple[int, ...]  # what each sequence sees
    cu_seqlens_q: Tensor  # int32, the sums of `q_lengths` up to each, from 0 on
    cu_seqlens_kv: Tensor  # the same of `kv_lengths`

    @property
    def num_rows(self) -> int:
        return sum(self.q_lengths)

    def pieces(self, most_scores: int) -> "list[Part]":
        """The same rows in order, as many at a time as have no more scores (rows times keys) than that.

        At least one at a time; several sequences stay together: only a long one is worth it.
        """
        num_rows, seen = self.num_rows, self.kv_lengths[0]
        if len(self.q_lengths) > 1 or num_rows * seen <= most_scores:
            return [self]
        pieces: list[Part] = []
        start = 0
        while start < num_rows:
            end = min(num_rows, start + max(1, most_scores // seen))
            keys = seen - num_rows + end
            pieces.append(
                Part(
                    slice(self.rows.start + start, self.rows.start + end),
                    slice(self.kv_rows.start, self.kv_rows.start + keys),
                    (end - start,),
                    (keys,),
                    *(self.cu_seqlens_q.new_tensor([0, each]) for each in (end - start, keys)),
                )
            )
            start = end
        return pieces


@dataclass(frozen=True)
class Packed:
    """What one forward pass reads."""

    token_ids: Tensor  # [T] int64
    positions: Tensor  # [T] int64, from 0 in each sequence, its prefix included
    last_rows: Tensor  # [B] int64, the row of each sequence's last token
    # B numbers each, on the host: loops and launches need no device round trip.
    lengths: tuple[int, ...]
    kv_lengths: tuple[int, ...]
    prefixes: Prefixes | None = None

    def parts(self, most_rows: int) -> list[Part]:
        """All rows in order, at most `most_rows` at a time."""
        parts: list[Part] = []
        row = kv_row = first = 0
        while first < len(self.lengths):
            num_rows, end = self.lengths[first], first + 1
            while end < len(self.lengths) and num_rows + self.lengths[end] <= most_rows:
                num_rows += self.lengths[end]
                end += 1
            kv_lengths = self.kv_lengths[first:end]
            if num_rows <= most_rows:
                parts.append(self._part(row, kv_row, self.lengths[first:end], kv_lengths))
            else:  # one sequence; each of its parts sees all before it
                for start in range(0, num_rows, most_rows):
                    stop = min(start + most_rows, num_rows)
                    seen = kv_lengths[0] - num_rows + stop
                    parts.append(self._part(row + start, kv_row, (stop - start,), (seen,)))
            row += num_rows
            kv_row += sum(kv_lengths)
            first = end
        return parts

    def pooled(self) -> Part:
        """The last row of each sequence, as `last_rows` selects them."""
        return self._part(0, 0, (1,) * len(self.lengths), self.kv_lengths)

    def _part(
        self, row: int, kv_row: int, q_lengths: tuple[int, ...], kv_lengths: tuple[int, ...]
    ) -> Part:
        return Part(
            slice(row, row + sum(q_lengths)),
            slice(kv_row, kv_row + sum(kv_lengths)),
            q_lengths,
            kv_lengths,
            *(
                _to_device(np.cumsum((0, *lengths), dtype=np.int32), self.token_ids.device)
                for lengths in (q_lengths, kv_lengths)
            ),
        )


@dataclass(frozen=True)
class Reuse:
    """How the sequences of a batch use the cache: a slot holds one token's keys and values of all layers."""

    cache: KVCache
    read_slots: Sequence[Sequence[int]]  # of each sequence: those of its first tokens
    kept: Sequence[tuple[int, int, int]]  # sequence, token, slot: to be kept


def pack(
    token_ids: Sequence[Sequence[int]], device: torch.device, reuse: Reuse | None = None
) -> Packed:
    """Lay `token_ids` (each non-empty) end to end on `device`; copies to CUDA are pinned and async.

    With `reuse`, tokens whose keys and values are read are left out; at least one of each sequence stays.
    """
    kv_lengths = tuple(map(len, token_ids))
    skipped = [0] * len(token_ids) if reuse is None else [len(slots) for slots in reuse.read_slots]
    token_ids = [ids[skip:] for ids, skip in zip(token_ids, skipped, strict=True)]
    lengths = tuple(map(len, token_ids))
    assert min(lengths) > 0, "a sequence needs a token of its own"
    ends = np.cumsum(lengths)
    total = int(ends[-1])
    flat = np.fromiter(itertools.chain.from_iterable(token_ids), dtype=np.int64, count=total)
    positions = np.arange(total) + np.repeat(skipped + np.array(lengths) - ends, lengths)
    kv_starts = np.cumsum((0, *kv_lengths[:-1]), dtype=np.int64)
    return Packed(
        token_ids=_to_device(flat, device),
        positions=_to_device(positions, device),
        last_rows=_to_device(ends - 1, device),
        lengths=lengths,
        kv_lengths=kv_lengths,
        prefixes=None
        if reuse is None
        else _prefixes(reuse, positions + np.repeat(kv_starts, lengths), kv_starts, device),
    )


def _prefixes(
    reuse: Reuse,
    own_rows: npt.NDArray[np.int64],
    kv_starts: npt.NDArray[np.int64],
    device: torch.device,
) -> Prefixes:
    """`own_rows` [T] of the tokens' keys and values, and the `kv_starts` [B] of the sequences'."""
    read = [
        (kv_starts[sequence] + token, slot)
        for sequence, slots in enumerate(reuse.read_slots)
        for token, slot in enumerate(slots)
    ]
    kept = [(kv_starts[sequence] + token, slot) for sequence, token, slot in reuse.kept]
    read_rows, read_slots = np.array(read, np.int64).reshape(-1, 2).T
    kept_rows, kept_slots = np.array(kept, np.int64).reshape(-1, 2).T
    arrays = (own_rows, read_rows, read_slots, kept_rows, kept_slots)
    return Prefixes(reuse.cache, *(_to_device(each, device) for each in arrays))


def staged(tensor: Tensor, device: torch.device) -> Tensor:
    """A host's `tensor` in memory from which a copy to `device` waits for nothing: pinned for CUDA.

    It may be dropped once the copy is queued.
    """
    return tensor.pin_memory() if device.type == "cuda" else tensor


def _to_device(
    array: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]", device: torch.device
) -> Tensor:
    tensor = staged(torch.from_numpy(np.ascontiguousarray(array)), device)
    return tensor.to(device, non_blocking=device.type == "cuda")
