"""Causal attention over packed sequences: one signature, one function a backend.

    attend(q [Tq, N, D], k [C, K, D], v [C, K, D], part) -> [Tq, N * D]

N query heads share K key/value heads. The query rows of each sequence of `part` belong to the last of the
keys that it sees: a row sees those up to its own position.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from hexgrid.model.packing import Part

Attend = Callable[[Tensor, Tensor, Tensor, Part], Tensor]

_MASKED_ROWS = 256  # at a time: bounds the mask, which torch widens to floats


def backend_for(device: torch.device, dtype: torch.dtype) -> Attend:
    """Flash attention where its kernel runs (CUDA, 16 bit), else SDPA, a sequence at a time."""
    if device.type == "cuda" and dtype in (torch.bfloat16, torch.float16):
        return flash
    return sdpa


def sdpa(q: Tensor, k: Tensor, v: Tensor, part: Part) -> Tensor:
    """PyTorch's scaled_dot_product_attention for each sequence; runs everywhere."""
    num_kv_heads, head_dim = k.shape[1:]
    q = q.unflatten(1, (num_kv_heads, -1))  # [Tq, K, G, D], G query heads a kv head
    group = q.shape[2]
    out = torch.empty_like(q)
    row = start = 0
    for q_length, length in zip(part.q_lengths, part.kv_lengths, strict=True):
        # K is the batch axis and the G heads of a group see one key/value head: no copy of k and v.
        keys, values = (
            x[start : start + length]
            .transpose(0, 1)
            .unsqueeze(1)
            .expand(num_kv_heads, group, length, head_dim)
            for x in (k, v)
        )
        queries = q[row : row + q_length].permute(1, 2, 0, 3)  # [K, G, Lq, D]
        attended = _attend_to_last(queries, keys, values)
        out[row : row + q_length] = attended.permute(2, 0, 1, 3)
        row += q_length
        start += length
    return out.flatten(1)


def _attend_to_last(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Queries [K, G, Lq, D] of the last Lq of the L keys and values [K, G, L, D]."""
    num_queries, length = queries.shape[2], keys.shape[2]
    if num_queries == 1:
        return scaled_dot_product_attention(queries, keys, values)
    if num_queries == length:
        return scaled_dot_product_attention(queries, keys, values, is_causal=True)
    # `is_causal` would align the first query with the first key.
    attended = torch.empty_like(queries)
    for start in range(0, num_queries, _MASKED_ROWS):
        rows = slice(start, min(start + _MASKED_ROWS, num_queries))
        seen = length - num_queries + rows.stop
        mask = torch.ones(rows.stop - start, seen, dtype=torch.bool, device=queries.device)
        attended[:, :, rows] = scaled_dot_product_attention(
            queries[:, :, rows],
            keys[:, :, :seen],
            values[:, :, :seen],
            attn_mask=mask.tril_(seen - len(mask)),
        )
    return attended


def flash(q: Tensor, k: Tensor, v: Tensor, part: Part) -> Tensor:
    """PyTorch's variable-length flash attention: one kernel for the whole part."""
    # Here and not above: torch before 2.10 and CPU-only users never need the module.
    from torch.nn.attention.varlen import varlen_attn  # noqa: PLC0415

    # k and v are widened to the query heads because torch 2.11's varlen_attn has no grouped form.
    group = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(group, dim=1) for x in (k, v))
    out: Tensor = varlen_attn(  # type: ignore[assignment]
        q,
        k,
        v,
        part.cu_seqlens_q,
        part.cu_seqlens_kv,
        max(part.q_lengths),
        max(part.kv_lengths),
        # Causal, aligned to the last key, so that rows after a prefix, and a lone last row, see all before.
        window_size=(-1, 0),
    )
    return out.flatten(1)
