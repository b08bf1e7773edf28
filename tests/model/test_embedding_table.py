"""The compact embedding table: how far off it may be, what shares a row, and what is refused."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hexgrid.errors import CheckpointError
from hexgrid.model.embedding_table import CompactTable, expand, look_up, quantise

TOKENS, WIDTH = 60, 16


def table(seed: int = 0, magnitude: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return magnitude * torch.randn(TOKENS, WIDTH, generator=generator)


def expanded(compact: CompactTable, dtype: torch.dtype = torch.float32) -> Tensor:
    target = torch.empty(len(compact.row_of_token), compact.rows.shape[1], dtype=dtype)
    expand(compact, target)
    return target


# Down to where float16 has but a few bits left.
@given(st.integers(0, 2**32), st.sampled_from([1e-9, 1e-6, 1e-4, 0.02, 1.0, 300.0, 1e5]))
def test_no_value_is_more_than_half_a_scale_off(seed: int, magnitude: float) -> None:
    original = table(seed, magnitude)

    compact = quantise(original)

    scales = compact.scales.float()[compact.row_of_token.long()].unsqueeze(1)
    assert ((expanded(compact) - original).abs() <= scales * (0.5 + 1e-6)).all()
    assert (compact.scales > 0).all()


def test_a_scale_is_hardly_more_than_its_row_needs() -> None:
    original = table()

    compact = quantise(original)

    exact = original.abs().amax(dim=1) / 127
    assert (compact.scales.float() >= exact).all()
    assert (compact.scales.float() <= exact * (1 + 2**-10)).all()
    assert compact.rows.abs().amax(dim=1).eq(127).all()


def test_the_parts_have_their_types_and_shapes() -> None:
    compact = quantise(table())

    assert [(part.dtype, tuple(part.shape)) for part in compact] == [
        (torch.int8, (TOKENS, WIDTH)),
        (torch.float16, (TOKENS,)),
        (torch.int32, (TOKENS,)),
    ]


def test_tokens_that_are_not_kept_share_one_zero_row() -> None:
    original = table()
    keep = {3, 58, 7}

    compact = quantise(original, keep)

    assert compact.rows.shape == (4, WIDTH)
    assert [t for t in range(TOKENS) if compact.row_of_token[t] != 0] == sorted(keep)
    assert expanded(compact)[sorted(set(range(TOKENS)) - keep)].count_nonzero() == 0
    assert torch.equal(expanded(compact)[[3, 7, 58]], expanded(quantise(original))[[3, 7, 58]])


def test_zero_rows_stay_zero_and_share_theirs() -> None:
    original = table()
    original[[0, 59]] = 0

    compact = quantise(original)

    assert compact.rows.shape == (TOKENS - 1, WIDTH)
    assert expanded(compact)[[0, 59]].count_nonzero() == 0
    assert expanded(compact)[1:59].count_nonzero(dim=1).all()


def test_nothing_kept_is_a_table_of_one_row() -> None:
    compact = quantise(table(), ())

    assert compact.rows.shape == (1, WIDTH)
    assert expanded(compact).count_nonzero() == 0


# Where the scale is a normal float16: below, its few bits make 127 too coarse to be reached again.
@given(st.integers(0, 2**32), st.sampled_from([0.02, 1.0, 300.0]))
def test_what_was_compact_once_is_the_same_again(seed: int, magnitude: float) -> None:
    first = quantise(table(seed, magnitude), range(0, TOKENS, 3))

    second = quantise(expanded(first), range(TOKENS))

    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_values_are_exactly_row_times_scale() -> None:
    compact = quantise(table(magnitude=0.02))

    rows, scales = compact.rows.double(), compact.scales.double().unsqueeze(1)
    assert torch.equal(expanded(compact).double(), (rows * scales)[compact.row_of_token.long()])


def test_a_narrower_target_holds_the_same_values_rounded() -> None:
    compact = quantise(table())

    assert torch.equal(expanded(compact, torch.bfloat16), expanded(compact).bfloat16())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rows_that_are_looked_up_are_those_of_the_expanded_table(dtype: torch.dtype) -> None:
    compact = quantise(table(), range(0, TOKENS, 3))
    token_ids = torch.tensor([0, 59, 3, 3, 1, 0])

    rows = look_up(compact, token_ids, dtype)

    assert rows.dtype == dtype
    assert torch.equal(rows, expanded(compact, dtype)[token_ids])
    assert torch.equal(rows, look_up(expanded(compact), token_ids, dtype))


def test_more_tokens_than_are_expanded_at_a_time() -> None:
    compact = quantise(table())
    many = compact._replace(row_of_token=torch.arange(10_000, dtype=torch.int32) % TOKENS)

    assert torch.equal(expanded(many)[9_960:], expanded(compact)[[*range(40)]])


@pytest.mark.parametrize("token_id", [-1, TOKENS])
def test_a_token_that_the_table_lacks_cannot_be_kept(token_id: int) -> None:
    with pytest.raises(CheckpointError, match=f"Token id {token_id} .* ids 0 to {TOKENS - 1}"):
        quantise(table(), [0, token_id])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 9e6])
def test_a_value_that_cannot_be_held_is_refused(value: float) -> None:
    original = table()
    original[5, 5] = value

    with pytest.raises(CheckpointError, match="not finite, or one past 8319008"):
        quantise(original)


@pytest.mark.parametrize("row", [-1, TOKENS])
def test_a_row_that_is_not_there_is_named_with_its_token(row: int) -> None:
    compact = quantise(table())
    compact.row_of_token[17] = row

    with pytest.raises(
        CheckpointError,
        match=rf"embed_tokens\.row_of_token: token 17 reads row {row}, but .*rows 0 to {TOKENS - 1}",
    ):
        expanded(compact)


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_a_scale_that_is_not_finite_is_named_with_its_row(scale: float) -> None:
    compact = quantise(table())
    compact.scales[3] = scale

    with pytest.raises(
        CheckpointError, match=rf"embed_tokens\.scales: the scale of row 3 is {scale}"
    ):
        expanded(compact)
