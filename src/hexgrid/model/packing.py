"""A batch as tensors: all sequences laid end to end, no padding anywhere.

Shapes: T tokens to be computed, B sequences. Sequence i owns rows cu_seqlens[i] to cu_seqlens[i + 1]. Its
keys and values may begin with a prefix that was computed before: they are C >= T rows in all, of which
sequence i owns cu_seqlens_kv[i] to cu_seqlens_kv[i + 1], its prefix first.
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

    def exchange(self, layer: int, k: Tensor, v: Tensor) -> None:
        """Fill the prefixes' rows of k and v [C, K, D], and keep those of beginnings to come."""
        self.cache.read(layer, self.read_slots, k, v, self.read_rows)
        self.cache.keep(layer, self.kept_slots, k, v, self.kept_rows)


@dataclass(frozen=True)
class Packed:
    """What one forward pass reads."""

    token_ids: Tensor  # [T] int64
    positions: Tensor  # [T] int64, from 0 in each sequence, its prefix included
    last_rows: Tensor  # [B] int64, the row of each sequence's last token
    cu_seqlens: Tensor  # [B + 1] int32
    cu_seqlens_kv: Tensor  # [B + 1] int32
    # B numbers each, on the host: loops and launches need no device round trip.
    lengths: tuple[int, ...]
    kv_lengths: tuple[int, ...]
    prefixes: Prefixes | None = None


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
    cu_seqlens, cu_seqlens_kv = (
        np.concatenate([[0], np.cumsum(each)]).astype(np.int32) for each in (lengths, kv_lengths)
    )
    return Packed(
        token_ids=_to_device(flat, device),
        positions=_to_device(positions, device),
        last_rows=_to_device(ends - 1, device),
        cu_seqlens=_to_device(cu_seqlens, device),
        cu_seqlens_kv=_to_device(cu_seqlens_kv, device),
        lengths=lengths,
        kv_lengths=kv_lengths,
        prefixes=None
        if reuse is None
        else _prefixes(
            reuse, positions, np.repeat(cu_seqlens_kv[:-1], lengths), cu_seqlens_kv, device
        ),
    )


def _prefixes(
    reuse: Reuse,
    positions: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int32],
    cu_seqlens_kv: npt.NDArray[np.int32],
    device: torch.device,
) -> Prefixes:
    """`positions` [T] of the tokens, and the `starts` [T] of their sequences' keys and values."""
    read = [
        (cu_seqlens_kv[sequence] + token, slot)
        for sequence, slots in enumerate(reuse.read_slots)
        for token, slot in enumerate(slots)
    ]
    kept = [(cu_seqlens_kv[sequence] + token, slot) for sequence, token, slot in reuse.kept]
    read_rows, read_slots = np.array(read, np.int64).reshape(-1, 2).T
    kept_rows, kept_slots = np.array(kept, np.int64).reshape(-1, 2).T
    own_rows = positions + starts
    arrays = (own_rows, read_rows, read_slots, kept_rows, kept_slots)
    return Prefixes(reuse.cache, *(_to_device(each, device) for each in arrays))


def _to_device(
    array: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]", device: torch.device
) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
