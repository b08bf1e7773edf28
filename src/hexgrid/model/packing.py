"""A batch as tensors: all sequences laid end to end, no padding anywhere.

Shapes: T tokens in all, B sequences. Sequence i owns rows cu_seqlens[i] to cu_seqlens[i + 1].
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Packed:
    """What one forward pass reads."""

    token_ids: Tensor  # [T] int64
    positions: Tensor  # [T] int64, from 0 in each sequence
    last_rows: Tensor  # [B] int64, the row of each sequence's last token
    cu_seqlens: Tensor  # [B + 1] int32
    lengths: tuple[int, ...]  # B numbers, on the host: loops and launches need no device round trip


def pack(token_ids: Sequence[Sequence[int]], device: torch.device) -> Packed:
    """Lay `token_ids` (each non-empty) end to end on `device`; copies to CUDA are pinned and async."""
    lengths = tuple(map(len, token_ids))
    ends = np.cumsum(lengths)
    total = int(ends[-1])
    flat = np.fromiter(itertools.chain.from_iterable(token_ids), dtype=np.int64, count=total)
    starts = ends - lengths
    positions = np.arange(total, dtype=np.int64) - np.repeat(starts, lengths)
    cu_seqlens = np.concatenate([[0], ends]).astype(np.int32)
    return Packed(
        token_ids=_to_device(flat, device),
        positions=_to_device(positions, device),
        last_rows=_to_device(ends.astype(np.int64) - 1, device),
        cu_seqlens=_to_device(cu_seqlens, device),
        lengths=lengths,
    )


def _to_device(
    array: "np.ndarray[tuple[int], np.dtype[np.generic]]", device: torch.device
) -> Tensor:
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
