"""Causal attention over packed sequences: one signature, one function a backend.

    attend(q [Tq, N, D], k [C, K, D], v [C, K, D], part) -> [Tq, N * D]

N query heads share K key/value heads. The query rows of each sequence of `part` belong to the last of the
keys that it sees: a row sees those up to its own position.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from hexgrid.model import cpu_kernels
from hexgrid.model.packing import Part

Attend = Callable[[Tensor, Tensor, Tensor, Part], Tensor]

_MASKED_ROWS = 256  # at a time: bounds the mask, which torch widens to floats


def backend_for(device: torch.device, dtype: torch.dtype) -> Attend:
    """Flash attention where its kernel runs (CUDA, 16 bit), our own on the CPU, else SDPA."""
    if device.type == "cuda" and dtype in (torch.bfloat16, torch.float16):
        return flash
    return on_cpu if device.type == "cpu" else sdpa


def on_cpu(q: Tensor, k: Tensor, v: Tensor, part: Part) -> Tensor:
    """Our kernel for all sequences for which it is the faster one, the short ones; SDPA for the others.

    Which it is does not depend on a sequence's company, and so its result does not.
    """
    most_keys = cpu_kernels.most_keys(q)
    if min(part.kv_lengths) > most_keys:
        return sdpa(q, k, v, part)
    out = cpu_kernels.attend(q, k, v, part, most_keys)
    if max(part.kv_lengths) > most_keys:
        for rows, kv_rows in _sequences(part):
            if kv_rows.stop - kv_rows.start > most_keys:
                out[rows] = _one_by_sdpa(q[rows], k[kv_rows], v[kv_rows]).flatten(1)
    return out


def sdpa(q: Tensor, k: Tensor, v: Tensor, part: Part) -> Tensor:
    """PyTorch's scaled_dot_product_attention for each sequence; runs everywhere."""
    out = torch.empty_like(q)
    for rows, kv_rows in _sequences(part):
        out[rows] = _one_by_sdpa(q[rows], k[kv_rows], v[kv_rows])
    return out.flatten(1)


def _sequences(part: Part) -> Iterator[tuple[slice, slice]]:
    """The rows of each sequence's queries, and of its keys and values."""
    row = start = 0
    for q_length, length in zip(part.q_lengths, part.kv_lengths, strict=True):
        yield slice(row, row + q_length), slice(start, start + length)
        row += q_length
        start += length


def _one_by_sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One sequence: q [Lq, N, D], k and v [L, K, D] -> [Lq, N, D]."""
    length, num_kv_heads, head_dim = k.shape
    queries = q.unflatten(1, (num_kv_heads, -1)).permute(1, 2, 0, 3)  # [K, G, Lq, D]
    group = queries.shape[1]
    # K is the batch axis and the G heads of a group see one key/value head: no copy of k and v.
    keys, values = (
        x.transpose(0, 1).unsqueeze(1).expand(num_kv_heads, group, length, head_dim) for x in (k, v)
    )
    return _attend_to_last(queries, keys, values).permute(2, 0, 1, 3).flatten(1, 2)


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
