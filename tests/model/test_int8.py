"""int8 products against the same written out, and what they must not depend on."""

import platform

import pytest
import torch
from torch import Tensor

from hexgrid.errors import ConfigError
from hexgrid.model.int8 import Int8Matrix, activation_steps, check_supported, quantise_matrix
from hexgrid.model.layers import Matrix, add, linear

CPU = torch.device("cpu")


def product(x: Tensor, matrix: Matrix) -> Tensor:
    return linear(x, matrix).whole()


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def written_out(x: Tensor, values: Tensor, scales: Tensor, steps: int) -> Tensor:
    """The product with activations rounded by the row, in float64."""
    largest = x.abs().amax(dim=1, keepdim=True).double()
    rounded = (x * (steps / largest.float())).round().double() / steps
    return rounded * largest @ (values.double() * scales.double().unsqueeze(1)).T


def test_every_channel_is_scaled_to_its_largest_weight() -> None:
    weight = normal(6, 16) * torch.tensor([1e-3, 1.0, 1e3, 1.0, 1.0, 1.0]).unsqueeze(1)

    values, scales = quantise_matrix(weight)

    assert values.dtype == torch.int8
    assert values.abs().amax(dim=1).tolist() == [127] * 6
    off = (values.float() * scales.unsqueeze(1) - weight).abs()
    assert (off <= scales.unsqueeze(1) / 2 * 1.0001).all()


def test_a_channel_of_zeros_stays_zero() -> None:
    values, scales = quantise_matrix(torch.zeros(2, 8))

    assert values.count_nonzero() == 0
    assert product(normal(3, 8), Int8Matrix.of(values, scales)).count_nonzero() == 0


@pytest.mark.parametrize("shape", [(1, 8, 8), (5, 64, 33), (130, 257, 96)])
def test_a_product_is_that_of_the_rounded_numbers(shape: tuple[int, int, int]) -> None:
    rows, width, channels = shape
    x = normal(rows, width) * torch.logspace(-3, 3, rows).unsqueeze(1)
    values, scales = quantise_matrix(normal(channels, width, seed=1))

    found = product(x, Int8Matrix.of(values, scales))

    expected = written_out(x, values, scales, activation_steps())
    largest = expected.abs().amax(dim=1, keepdim=True)
    torch.testing.assert_close(found / largest.float(), (expected / largest).float())


@pytest.mark.parametrize("has_vnni", [True, False])
def test_no_sum_overflows_with_or_without_vnni(
    monkeypatch: pytest.MonkeyPatch, *, has_vnni: bool
) -> None:
    """Without VNNI, two products are summed in 16 bits: the largest ones must fit."""
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: has_vnni)
    assert activation_steps() == (127 if has_vnni else 63)
    assert has_vnni or 2 * 127 * (2 * activation_steps() + 1) < 2**15  # the zero is at steps + 1

    values, scales = quantise_matrix(torch.full((4, 64), 0.5))
    found = product(torch.full((2, 64), -3.0), Int8Matrix.of(values, scales))

    torch.testing.assert_close(found, torch.full((2, 4), -96.0))


def test_a_row_gives_the_same_alone_and_beside_others() -> None:
    matrix = Int8Matrix.of(*quantise_matrix(normal(64, 128)))
    x = normal(9, 128, seed=1)
    x[3] *= 1000
    x[4] = x[4].abs()

    together = product(x, matrix)
    alone = torch.cat([product(row, matrix) for row in x.split(1)])

    # The sums are whole numbers; their scaling may round otherwise where one row has another kernel (AMX).
    torch.testing.assert_close(alone, together, rtol=1e-6, atol=0)


def test_a_product_is_added_in_place_to_a_part() -> None:
    matrix = Int8Matrix.of(*quantise_matrix(normal(16, 32)))
    x, target = normal(2, 32), normal(6, 16, seed=2)
    before = target.clone()

    add(target[2:4], linear(x, matrix))

    torch.testing.assert_close(target[2:4], before[2:4] + product(x, matrix))
    assert torch.equal(target[:2], before[:2])
    assert torch.equal(target[4:], before[4:])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_row_that_is_not_finite_stays_so_and_spoils_no_other(bad: float) -> None:
    matrix = Int8Matrix.of(*quantise_matrix(normal(16, 32)))
    x = normal(3, 32)
    clean = product(x, matrix)
    x[1, 7] = bad

    found = product(x, matrix)

    assert not found[1].isfinite().any()
    assert torch.equal(found[[0, 2]], clean[[0, 2]])


def test_it_is_for_x86_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    check_supported(CPU)
    with pytest.raises(
        ConfigError, match="would run on cuda: leave it out, or choose --device cpu"
    ):
        check_supported(torch.device("cuda"))
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(ConfigError, match="this machine is aarch64: leave it out, or choose"):
        check_supported(CPU)
