"""What stands in for CUDA: a recorder of passes, and attention that sees a batch as CUDA's kernel does."""

from collections.abc import Callable
from typing import Any, Self
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hexgrid.model import cpu_kernels
from hexgrid.model.packing import Part


class Tape(TorchDispatchMode):
    """Notes every operation with its arguments, to run them again on the same memory.

    As with a CUDA graph, what an operation got from the host stays as it was, and its result lands where it
    landed first. As on CUDA, all are torch's operators: it hears of no others.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self._without_kernels = patch.object(cpu_kernels, "_library", None)

    def __enter__(self) -> Self:
        self._without_kernels.start()
        return super().__enter__()  # type: ignore[no-untyped-call,no-any-return]

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._without_kernels.stop()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, result))
        return result

    @torch.inference_mode()
    def replay(self) -> None:
        for func, args, kwargs, result in self.calls:
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if isinstance(old, Tensor):
                    old.copy_(new)


def record_on_tape(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """See `cuda_graphs.Record`."""
    with Tape() as tape:
        result = run()

    def replay() -> Tensor:
        tape.replay()
        return result

    return replay


def attend_by_sums(q: Tensor, k: Tensor, v: Tensor, part: Part) -> Tensor:
    """See `attention.Attend`; like flash attention, it knows sequences by their `cu_seqlens` alone."""
    q_owner, kv_owner = (
        torch.searchsorted(sums, torch.arange(len(x)), right=True, out_int32=True)
        for sums, x in ((part.cu_seqlens_q, q), (part.cu_seqlens_kv, k))
    )
    # Counted from the end of its sequence, a row sees the keys before it.
    from_end = part.cu_seqlens_q[q_owner] - torch.arange(len(q))
    kv_from_end = part.cu_seqlens_kv[kv_owner] - torch.arange(len(k))
    seen = (q_owner[:, None] == kv_owner) & (from_end[:, None] <= kv_from_end)
    group = q.shape[1] // k.shape[1]
    keys, values = (x.repeat_interleave(group, dim=1).transpose(0, 1) for x in (k, v))
    out = scaled_dot_product_attention(q.transpose(0, 1), keys, values, attn_mask=seen)
    return out.transpose(0, 1).flatten(1)
