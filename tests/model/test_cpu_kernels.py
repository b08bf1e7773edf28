"""Our kernels for each kind of processor against the same written out in float64; attention is beside it."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from hexgrid.model import cpu_kernels
from hexgrid.model.cpu_kernels import Places, Turn
from tests.model.kernels import CAPABILITY, DTYPES, assert_near, needs_kernels, normal, threads

pytestmark = pytest.mark.usefixtures("processor")


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


@needs_kernels
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@DTYPES
def test_a_row_that_is_not_finite_stays_so_and_spoils_no_other(
    dtype: torch.dtype, bad: float
) -> None:
    x, weight = normal(3, 200).to(dtype), torch.ones(200)
    norms, gated = cpu_kernels.rms_norm(x, weight, 1e-6), cpu_kernels.swiglu(x)
    x[1, 100] = bad

    others = [0, 2]
    found = cpu_kernels.rms_norm(x, weight, 1e-6)
    assert not found[1].isfinite().all()
    assert torch.equal(found[others], norms[others])
    found = cpu_kernels.swiglu(x)
    assert torch.equal(found[others], gated[others])
    scales = cpu_kernels.in_steps(x, 127).scales
    assert scales.isfinite().flatten().tolist() == [True, False, True]


@needs_kernels
@pytest.mark.parametrize("number", [1, 2, 5])
def test_a_row_is_the_same_in_any_company_and_with_any_number_of_threads(number: int) -> None:
    x, weight = normal(300, 300), normal(300, seed=1)
    with threads(number):
        norms, gated = cpu_kernels.rms_norm(x, weight, 1e-6), cpu_kernels.swiglu(x)

    for row in (0, 17, 299):
        alone = x[row : row + 1]
        assert torch.equal(cpu_kernels.rms_norm(alone, weight, 1e-6)[0], norms[row])
        assert torch.equal(cpu_kernels.swiglu(alone)[0], gated[row])
