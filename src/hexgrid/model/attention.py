"""Causal attention over packed sequences: one signature, one function a backend.

    attend(q [Tq, N, D], k [C, K, D], v [C, K, D], q_lengths, packed) -> [Tq, N * D]

N query heads share K key/value heads. `q_lengths` holds each sequence's number of query rows: those of its
last tokens, all that are computed or one. A query row sees the keys of its own sequence up to its position.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from hexgrid.model.packing import Packed

Attend = Callable[[Tensor, Tensor, Tensor, tuple[int, ...], Packed], Tensor]


def backend_for(device: torch.device, dtype: torch.dtype) -> Attend:
    """Flash attention where its kernel runs (CUDA, 16 bit), else one SDPA call a sequence."""
    if device.type == "cuda" and dtype in (torch.bfloat16, torch.float16):
        return flash
    return sdpa


def sdpa(q: Tensor, k: Tensor, v: Tensor, q_lengths: tuple[int, ...], packed: Packed) -> Tensor:
    """PyTorch's scaled_dot_product_attention for each sequence; runs everywhere."""
    num_kv_heads, head_dim = k.shape[1:]
    q = q.unflatten(1, (num_kv_heads, -1))  # [Tq, K, G, D], G query heads a kv head
    group = q.shape[2]
    out = torch.empty_like(q)
    row = start = 0
    for q_length, length in zip(q_lengths, packed.kv_lengths, strict=True):
        # K is the batch axis and the G heads of a group see one key/value head: no copy of k and v.
        keys, values = (
            x[start : start + length]
            .transpose(0, 1)
            .unsqueeze(1)
            .expand(num_kv_heads, group, length, head_dim)
            for x in (k, v)
        )
        queries = q[row : row + q_length].permute(1, 2, 0, 3)  # [K, G, Lq, D]
        # `is_causal` aligns the first query with the first key: right only without a prefix.
        mask = _causal(q_length, length, q.device) if 1 < q_length < length else None
        attended = scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, is_causal=q_length == length
        )
        out[row : row + q_length] = attended.permute(2, 0, 1, 3)
        row += q_length
        start += length
    return out.flatten(1)


def flash(q: Tensor, k: Tensor, v: Tensor, q_lengths: tuple[int, ...], packed: Packed) -> Tensor:
    """PyTorch's variable-length flash attention: one kernel for the whole batch."""
    # Here and not above: torch before 2.10 and CPU-only users never need the module.
    from torch.nn.attention.varlen import varlen_attn  # noqa: PLC0415

    # k and v are widened to the query heads because torch 2.11's varlen_attn has no grouped form.
    group = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(group, dim=1) for x in (k, v))
    if q_lengths is packed.lengths:
        cu_seqlens_q = packed.cu_seqlens
    else:
        cu_seqlens_q = torch.arange(len(q_lengths) + 1, dtype=torch.int32, device=q.device)
    out: Tensor = varlen_attn(  # type: ignore[assignment]
        q,
        k,
        v,
        cu_seqlens_q,
        packed.cu_seqlens_kv,
        max(q_lengths),
        max(packed.kv_lengths),
        # Causal, aligned to the last key, so that a lone last row sees its whole sequence.
        window_size=(-1, 0),
    )
    return out.flatten(1)


def _causal(q_length: int, length: int, device: torch.device) -> Tensor:
    """Which keys each of the last `q_length` rows sees: bool [q_length, length]."""
    seen = torch.ones(q_length, length, dtype=torch.bool, device=device)
    return seen.tril_(length - q_length)
