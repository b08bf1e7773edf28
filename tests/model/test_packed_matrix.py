"""A packed weight multiplies as the plain one does, and is it again when asked."""

import platform

import pytest
import torch
from torch.nn import functional

from hexgrid.model.layers import Matrix, add, linear
from hexgrid.model.onednn import has_onednn
from hexgrid.model.packed_matrix import PackedMatrix, pack

CPU = torch.device("cpu")
needs_onednn = pytest.mark.skipif(not has_onednn(CPU), reason="this processor has no packed form")


def product(x: torch.Tensor, matrix: Matrix) -> torch.Tensor:
    return linear(x, matrix).whole()


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape) + sum(shape)))


@needs_onednn
@pytest.mark.parametrize("num_rows", [0, 1, 7, 600])
def test_it_multiplies_as_the_plain_weight(num_rows: int) -> None:
    weight, x = normal(96, 64), normal(num_rows, 64)

    torch.testing.assert_close(product(x, PackedMatrix(weight)), functional.linear(x, weight))


@needs_onednn
def test_it_adds_its_product_in_place() -> None:
    weight, x, target = normal(96, 64), normal(5, 64), normal(5, 96)
    expected = target + functional.linear(x, weight)

    add(target, linear(x, PackedMatrix(weight)))

    torch.testing.assert_close(target, expected)


@needs_onednn
def test_rows_that_are_not_end_to_end_are_read_where_they_are() -> None:
    weight, wide = normal(96, 64), normal(5, 128)

    found = product(wide[:, 32:96], PackedMatrix(weight))

    torch.testing.assert_close(found, functional.linear(wide[:, 32:96], weight))


@needs_onednn
def test_a_row_is_the_same_in_any_company() -> None:
    matrix, x = PackedMatrix(normal(96, 64)), normal(300, 64)

    alone = torch.cat([product(row, matrix) for row in x.split(1)])

    assert torch.equal(product(x, matrix), alone)


@needs_onednn
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_gives_back_what_it_was_made_of(dtype: torch.dtype) -> None:
    weight = normal(96, 64).to(dtype)
    matrix = PackedMatrix(weight)

    assert torch.equal(matrix.plain(), weight)
    assert matrix.nbytes == weight.nbytes


@needs_onednn
def test_in_another_dtype_it_multiplies_in_that_of_the_rows() -> None:
    """As a bfloat16 model is run once more in float32."""
    weight, x = normal(96, 64).bfloat16(), normal(5, 64)

    found = product(x, PackedMatrix(weight))

    assert found.dtype == torch.float32
    torch.testing.assert_close(found, functional.linear(x, weight.float()))


def test_what_has_no_kernel_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = normal(4, 4)

    assert pack(weight.half()).dtype == torch.float16  # type: ignore[union-attr]
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert pack(weight) is weight
    assert not has_onednn(torch.device("cuda"))
