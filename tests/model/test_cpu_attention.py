"""Attention by our kernel, for each kind of processor, and who else computes what it does not."""

import math

import pytest
import torch
from torch import Tensor

from hexgrid.model import cpu_kernels
from hexgrid.model.attention import on_cpu, sdpa
from hexgrid.model.packing import pack
from tests.checkpoints import random_ids
from tests.model.kernels import DTYPES, assert_near, needs_kernels, normal, threads, written_out
from tests.model.running import CPU

pytestmark = pytest.mark.usefixtures("processor")


def qkv(rows: int, heads: int, kv_heads: int, dim: int) -> list[Tensor]:
    return [normal(rows, n, dim, seed=seed) for seed, n in enumerate((heads, kv_heads, kv_heads))]


@needs_kernels
@DTYPES
@pytest.mark.parametrize(
    ("lengths", "heads", "kv_heads", "dim"),
    [
        ((1, 9, 4, 2, 33), 4, 2, 32),
        ((15, 16, 17, 31, 32, 64, 65), 16, 8, 128),
        ((100, 7), 3, 3, 64),
        ((128, 1), 6, 1, 96),
    ],
)
def test_attention(
    dtype: torch.dtype, lengths: tuple[int, ...], heads: int, kv_heads: int, dim: int
) -> None:
    (part,) = pack(random_ids(lengths), CPU).parts(1_000)
    q, k, v = (x.to(dtype) for x in qkv(sum(lengths), heads, kv_heads, dim))

    assert cpu_kernels.most_keys(q) >= max(lengths), "it is ours that is tried"
    assert_near(on_cpu(q, k, v, part), written_out(q, k, v, part))


@needs_kernels
@DTYPES
def test_sequences_that_are_too_long_go_elsewhere_each_by_itself(dtype: torch.dtype) -> None:
    most = 512 if dtype == torch.float32 else 128
    lengths = (most + 1, 5, most, most + 60, 1)
    (part,) = pack(random_ids(lengths), CPU).parts(4_000)
    q, k, v = (x.to(dtype) for x in qkv(sum(lengths), 4, 2, 32))

    found = on_cpu(q, k, v, part)

    expected = written_out(q, k, v, part)
    tolerance = 1e-4 if dtype == torch.float32 else 2e-2  # torch's has its weights in bfloat16, too
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)
    for own, length in zip(found.split(lengths), lengths, strict=True):
        start = own.storage_offset() // own.shape[1]
        (lone,) = pack(random_ids([length]), CPU).parts(4_000)
        rows = slice(start, start + length)
        assert torch.equal(on_cpu(q[rows], k[rows], v[rows], lone), own)


@needs_kernels
def test_queries_belong_to_the_last_keys() -> None:
    packed = pack(random_ids((40, 3, 457)), CPU)
    q, k, v = qkv(500, 4, 2, 32)
    last = packed.pooled()

    found = on_cpu(q[packed.last_rows], k, v, last)

    assert_near(found, written_out(q[packed.last_rows], k, v, last))
    (first, second) = pack(random_ids((500,)), CPU).parts(270)
    found = on_cpu(q[270:], k, v, second)
    assert first.num_rows == 270
    assert_near(found, written_out(q[270:], k, v, second))


@needs_kernels
@pytest.mark.parametrize("number", [1, 2, 9])
def test_threads_that_heads_leave_idle_share_the_queries(number: int) -> None:
    (part,) = pack(random_ids((300, 131)), CPU).parts(1_000)
    q, k, v = qkv(431, 4, 2, 32)
    with threads(number):
        found = on_cpu(q, k, v, part)

    assert_near(found, written_out(q, k, v, part))


@needs_kernels
@pytest.mark.parametrize("dim", [8, 40, 160])
def test_heads_that_do_not_fit_go_elsewhere(dim: int) -> None:
    (part,) = pack(random_ids((9, 4)), CPU).parts(100)
    q, k, v = qkv(13, 4, 2, dim)

    assert cpu_kernels.most_keys(q) == 0
    assert torch.equal(on_cpu(q, k, v, part), sdpa(q, k, v, part))


@needs_kernels
def test_the_exponential_is_right_to_the_last_bits() -> None:
    """By the softmax of two keys: one that is the larger, and one below it by each number."""
    below = torch.linspace(0, 80, 4_001)
    k = torch.zeros(2, 1, 32)
    k[0, 0, 0] = 1.0
    v = torch.zeros(2, 1, 32)
    v[1] = 1.0
    q = torch.zeros(len(below), 1, 32)
    q[:, 0, 0] = below * 32**0.5
    packed = pack(random_ids((2,) * len(below)), CPU)

    found = on_cpu(q, k.repeat(len(below), 1, 1), v.repeat(len(below), 1, 1), packed.pooled())

    ratio = (-below.double()).exp()
    torch.testing.assert_close(found[:, 0].double(), ratio / (1 + ratio), rtol=2e-5, atol=0)


@needs_kernels
@pytest.mark.parametrize("score", [-500.0, 500.0])
def test_scores_far_from_zero_are_weighed_by_their_differences(score: float) -> None:
    packed = pack(random_ids((3,)), CPU)
    q, k = torch.zeros(1, 1, 32), torch.zeros(3, 1, 32)
    q[..., 0], k[..., 0] = 32**0.5, torch.tensor([[score], [score - 1], [score - 2]])
    v = torch.eye(3, 32).unsqueeze(1)

    weights = on_cpu(q, k, v, packed.pooled())[0, :3]

    expected = torch.tensor([0.0, -1.0, -2.0]).softmax(0)
    torch.testing.assert_close(weights, expected, rtol=1e-3, atol=0)


@needs_kernels
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@DTYPES
def test_what_is_not_finite_stays_in_its_sequence(dtype: torch.dtype, bad: float) -> None:
    (part,) = pack(random_ids((6, 5, 40)), CPU).parts(100)
    q, k, v = (x.to(dtype) for x in qkv(51, 4, 2, 32))
    clean = on_cpu(q, k, v, part)
    v[8, :, 3] = bad
    if math.isnan(bad):  # infinite scores have a softmax
        k[8, 1, 3] = bad

    attended = on_cpu(q, k, v, part)

    last = attended[10].unflatten(0, (4, 32)).isfinite()
    assert not last[:, 3].any()
    assert last[:2, 4:].all()
    assert bool(last[2:, 4:].any()) != math.isnan(bad), "a key is of two heads"
    others = [*range(6), *range(11, 51)]
    assert torch.equal(attended[others], clean[others])


@needs_kernels
@pytest.mark.parametrize("number", [1, 2, 5])
def test_a_sequence_is_the_same_in_any_company(number: int) -> None:
    lengths = (3, 20, 1, 90, 40)
    (part,) = pack(random_ids(lengths), CPU).parts(1_000)
    q, k, v = qkv(sum(lengths), 4, 2, 32)
    with threads(number):
        together = on_cpu(q, k, v, part)

    (lone,) = pack(random_ids((90,)), CPU).parts(1_000)
    rows = slice(24, 114)
    assert torch.equal(on_cpu(q[rows], k[rows], v[rows], lone), together[rows])
