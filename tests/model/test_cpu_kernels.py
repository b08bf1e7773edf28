"""Our kernels for each kind of processor against the same written out in float64."""

import ctypes
import math
import platform
import sys
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from hexgrid.model import cpu_kernels
from hexgrid.model.attention import on_cpu, sdpa
from hexgrid.model.cpu_kernels import Places, Turn
from hexgrid.model.packing import Part, pack
from tests.checkpoints import random_ids
from tests.model.running import CPU

CAPABILITY = torch.backends.cpu.get_cpu_capability()
# Those that this machine can run.
PROCESSORS = {"AVX2": ["avx2"], "AVX512": ["avx2", "avx512"]}.get(CAPABILITY, [])
HAS_KERNELS = (sys.platform, platform.machine()) == ("linux", "x86_64") and bool(PROCESSORS)
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])

needs_kernels = pytest.mark.skipif(not HAS_KERNELS, reason="there are none for this platform")


@pytest.fixture(params=PROCESSORS or ["avx2"], autouse=True)
def _library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if HAS_KERNELS:
        library = cpu_kernels.open_library(request.param)
        assert isinstance(library, ctypes.CDLL), "compiled while the package was installed"
        monkeypatch.setattr(cpu_kernels, "_library", library)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def assert_near(found: Tensor, expected: Tensor) -> None:
    """To the last bits of what was found, `expected` being in float64."""
    tolerance = 1e-5 if found.dtype == torch.float32 else 2**-8
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance / 10)


def normed(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    x = x.double()
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * weight.double()


def angles(rows: int, dim: int) -> tuple[Tensor, Tensor]:
    found = normal(rows, 1, dim // 2, seed=9)
    return found.cos(), found.sin()


def turned(x: Tensor, norm: Tensor, turn: Turn) -> Tensor:
    """Heads x [T, N, D]."""
    first, second = normed(x, norm, turn.eps).chunk(2, dim=-1)
    cos, sin = turn.cos.double(), turn.sin.double()
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


@needs_kernels
def test_this_machine_uses_those_of_its_processor() -> None:
    assert cpu_kernels.open_library(CAPABILITY.lower()) is not None
    assert cpu_kernels.usable(torch.zeros(1, 8))
    assert not cpu_kernels.usable(torch.zeros(1, 8, dtype=torch.float16))
    assert not cpu_kernels.usable(torch.zeros(1, 8, device="meta"))
    assert not cpu_kernels.usable(torch.zeros(1, 2**17 + 1))


def test_a_processor_that_has_none_is_told_so() -> None:
    assert cpu_kernels.open_library("default") is None


@needs_kernels
@DTYPES
@pytest.mark.parametrize(("rows", "n"), [(1, 1), (3, 7), (0, 8), (5, 64), (70, 1000)])
def test_a_norm(dtype: torch.dtype, rows: int, n: int) -> None:
    x, weight = (normal(rows, n) * 30).to(dtype), normal(n, seed=1).to(dtype)

    assert_near(cpu_kernels.rms_norm(x, weight, 0.1), normed(x, weight, 0.1))


@needs_kernels
@pytest.mark.parametrize("steps", [127, 63])
@pytest.mark.parametrize("weighted", [True, False])
@DTYPES
def test_rows_in_steps_of_their_largest_magnitude(
    dtype: torch.dtype, *, weighted: bool, steps: int
) -> None:
    x = (normal(70, 100) * torch.logspace(-8, 4, 70).unsqueeze(1)).to(dtype)
    x[3] = 0
    weight = normal(100, seed=1) if weighted else None

    values, scales = cpu_kernels.in_steps(x, steps, weight, 1e-6)

    expected = x.double() if weight is None else normed(x, weight, 1e-6)
    found = (values.double() - (steps + 1)) / steps * scales
    largest = expected.abs().amax(dim=1, keepdim=True)
    assert ((found - expected).abs() <= largest / (2 * steps) * 1.001 + 1e-26).all()
    assert int(values.min()) >= 1
    torch.testing.assert_close(scales.double(), largest, rtol=1e-5, atol=1e-26)


@needs_kernels
@DTYPES
def test_swiglu(dtype: torch.dtype) -> None:
    product = normal(9, 2 * 77).to(dtype) * 10
    product[0] *= 100  # beyond what the exponential can hold
    gate, up = product.double().chunk(2, dim=1)

    assert_near(cpu_kernels.swiglu(product), gate * torch.sigmoid(gate) * up)


@needs_kernels
def test_swiglu_in_steps_of_a_product_to_be_scaled() -> None:
    product, scales = normal(9, 2 * 77), torch.logspace(-2, 1, 9).unsqueeze(1)
    gate, up = (product * scales).double().chunk(2, dim=1)
    expected = functional.silu(gate) * up

    values, own = cpu_kernels.swiglu_in_steps(product, scales, 127)

    largest = expected.abs().amax(dim=1, keepdim=True)
    torch.testing.assert_close(own.double(), largest, rtol=1e-5, atol=0)
    off = (values.double() - 128) / 127 * own - expected
    assert (off.abs() <= largest / 254 * 1.001).all()


@needs_kernels
@DTYPES
@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("num_q", [4, 0])
@pytest.mark.parametrize("to_slice", [True, False])
def test_heads_go_to_their_places(
    dtype: torch.dtype, *, scaled: bool, num_q: int, to_slice: bool
) -> None:
    rows, num_kv, dim = 40, 2, 24
    product = normal(rows, (num_q + 2 * num_kv) * dim).to(dtype)
    scales = torch.logspace(-2, 2, rows).unsqueeze(1) if scaled else None
    turn = Turn(normal(dim, seed=1), normal(dim, seed=2), 1e-3, *angles(rows, dim))
    own = slice(5, 5 + rows) if to_slice else torch.randperm(60)[:rows]
    k, v = (torch.full((60, num_kv, dim), 7.0, dtype=dtype) for _ in "kv")
    places = Places(k, v, own)

    q = cpu_kernels.split_heads(product, scales, turn, num_q, places)

    heads = (product.double() * (1 if scales is None else scales)).unflatten(1, (-1, dim))
    assert_near(q, turned(heads[:, :num_q], turn.q_norm, turn))
    assert_near(places.k[own], turned(heads[:, num_q : num_q + num_kv], turn.k_norm, turn))
    assert_near(places.v[own], heads[:, num_q + num_kv :])
    others = torch.ones(60, dtype=torch.bool)
    others[own] = False
    assert (places.k[others] == 7).all()
    assert (places.v[others] == 7).all()


@needs_kernels
def test_numbers_are_rounded_to_bfloat16_as_torch_does() -> None:
    """Half of these are in the middle between two."""
    product = torch.arange(1, 2**15, 7, dtype=torch.int16).view(torch.bfloat16)
    product = product[product.isfinite()][:4_096].reshape(1, -1)
    turn = Turn(torch.ones(8), torch.ones(8), 1e-6, *angles(1, 8))
    k, v = (torch.empty(1, 256, 8, dtype=torch.bfloat16) for _ in "kv")
    scale = torch.tensor([[1.5]])

    cpu_kernels.split_heads(product, scale, turn, 0, Places(k, v, slice(0, 1)))

    values = product[0, 2_048:].float() * scale
    assert torch.equal(v.flatten(), values.flatten().bfloat16())


@needs_kernels
def test_without_places_there_are_queries_only() -> None:
    turn = Turn(normal(8, seed=1), normal(8, seed=2), 1e-6, *angles(3, 8))
    product = normal(3, 2 * 8)

    q = cpu_kernels.split_heads(product, None, turn, 2, None)

    assert_near(q, turned(product.unflatten(1, (2, 8)), turn.q_norm, turn))


def qkv(rows: int, heads: int, kv_heads: int, dim: int) -> list[Tensor]:
    return [normal(rows, n, dim, seed=seed) for seed, n in enumerate((heads, kv_heads, kv_heads))]


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
@pytest.mark.parametrize("threads", [1, 2, 9])
def test_threads_that_heads_leave_idle_share_the_queries(threads: int) -> None:
    (part,) = pack(random_ids((300, 131)), CPU).parts(1_000)
    q, k, v = qkv(431, 4, 2, 32)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = on_cpu(q, k, v, part)
    finally:
        torch.set_num_threads(before)

    assert_near(found, written_out(q, k, v, part))


@needs_kernels
@pytest.mark.parametrize("dim", [8, 40, 160])
def test_heads_that_do_not_fit_go_elsewhere(dim: int) -> None:
    (part,) = pack(random_ids((9, 4)), CPU).parts(100)
    q, k, v = qkv(13, 4, 2, dim)

    assert cpu_kernels.most_keys(q) == 0
    assert torch.equal(on_cpu(q, k, v, part), sdpa(q, k, v, part))


@needs_kernels
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@DTYPES
def test_what_is_not_finite_stays_so_and_spoils_nothing_else(
    dtype: torch.dtype, bad: float
) -> None:
    (part,) = pack(random_ids((6, 5, 40)), CPU).parts(100)
    q, k, v = (x.to(dtype) for x in qkv(51, 4, 2, 32))
    clean, x = on_cpu(q, k, v, part), normal(3, 200).to(dtype)
    weight = torch.ones(200)
    norms = cpu_kernels.rms_norm(x, weight, 1e-6)
    gated = cpu_kernels.swiglu(x)
    v[8, :, 3], x[1, 100] = bad, bad
    if math.isnan(bad):  # infinite scores have a softmax
        k[8, 1, 3] = bad

    attended = on_cpu(q, k, v, part)
    last = attended[10].unflatten(0, (4, 32)).isfinite()
    assert not last[:, 3].any()
    assert last[:2, 4:].all()
    assert bool(last[2:, 4:].any()) != math.isnan(bad), "a key is of two heads"
    others = [*range(6), *range(11, 51)]
    assert torch.equal(attended[others], clean[others])

    others = [0, 2]
    found = cpu_kernels.rms_norm(x, weight, 1e-6)
    assert not found[1].isfinite().all()
    assert torch.equal(found[others], norms[others])
    found = cpu_kernels.swiglu(x)
    assert torch.equal(found[others], gated[others])
    scales = cpu_kernels.in_steps(x, 127).scales
    assert scales.isfinite().flatten().tolist() == [True, False, True]


@needs_kernels
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_row_is_the_same_in_any_company_and_with_any_number_of_threads(threads: int) -> None:
    x, weight = normal(300, 300), normal(300, seed=1)
    lengths = (3, 20, 1, 90, 40)
    (part,) = pack(random_ids(lengths), CPU).parts(1_000)
    q, k, v = qkv(sum(lengths), 4, 2, 32)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        norms, gated = cpu_kernels.rms_norm(x, weight, 1e-6), cpu_kernels.swiglu(x)
        attended = on_cpu(q, k, v, part)
    finally:
        torch.set_num_threads(before)

    for row in (0, 17, 299):
        alone = x[row : row + 1]
        assert torch.equal(cpu_kernels.rms_norm(alone, weight, 1e-6)[0], norms[row])
        assert torch.equal(cpu_kernels.swiglu(alone)[0], gated[row])
    (lone,) = pack(random_ids((90,)), CPU).parts(1_000)
    rows = slice(24, 114)
    assert torch.equal(on_cpu(q[rows], k[rows], v[rows], lone), attended[rows])


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
