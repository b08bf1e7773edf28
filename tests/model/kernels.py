"""What the tests of our kernels share."""

import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from hexgrid.model.packing import Part

CAPABILITY = torch.backends.cpu.get_cpu_capability()
# Those that this machine can run.
PROCESSORS = {"AVX2": ["avx2"], "AVX512": ["avx2", "avx512"]}.get(CAPABILITY, [])
HAS_KERNELS = (sys.platform, platform.machine()) == ("linux", "x86_64") and bool(PROCESSORS)
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])

needs_kernels = pytest.mark.skipif(not HAS_KERNELS, reason="there are none for this platform")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def assert_near(found: Tensor, expected: Tensor) -> None:
    """To the last bits of what was found, `expected` being in float64."""
    tolerance = 1e-5 if found.dtype == torch.float32 else 2**-8
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance / 10)


@contextmanager
def threads(number: int) -> Iterator[None]:
    """torch's, and so ours."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def written_out(q: Tensor, k: Tensor, v: Tensor, part: Part) -> Tensor:
    """Softmax in float64, a sequence and a head at a time."""
    out = []
    ends = zip(pairwise(part.cu_seqlens_q), pairwise(part.cu_seqlens_kv), strict=True)
    for (first_q, end_q), (first, end) in ends:
        queries, keys, values = (x.double() for x in (q[first_q:end_q], k[first:end], v[first:end]))
        group = q.shape[1] // k.shape[1]
        keys, values = (x.repeat_interleave(group, dim=1) for x in (keys, values))
        scores = torch.einsum("qnd,knd->nqk", queries, keys) / q.shape[2] ** 0.5
        later = torch.ones(scores.shape[1:]).triu(1 + len(keys) - len(queries)).bool()
        weights = scores.masked_fill(later, float("-inf")).softmax(-1)
        out.append(torch.einsum("nqk,knd->qnd", weights, values).flatten(1))
    return torch.cat(out)
