"""Sequences laid end to end."""

import itertools

import torch
from hypothesis import given
from hypothesis import strategies as st

from hexgrid.model.packing import pack
from tests.model.running import CPU


def test_a_batch_is_laid_end_to_end() -> None:
    packed = pack([[7, 8, 9], [5], [1, 2]], CPU)

    assert packed.token_ids.tolist() == [7, 8, 9, 5, 1, 2]
    assert packed.positions.tolist() == [0, 1, 2, 0, 0, 1]
    assert packed.last_rows.tolist() == [2, 3, 5]
    assert packed.cu_seqlens.tolist() == [0, 3, 4, 6]
    assert packed.lengths == (3, 1, 2)


def test_kernels_get_the_integers_they_ask_for() -> None:
    packed = pack([[1]], CPU)

    assert packed.cu_seqlens.dtype == torch.int32
    assert {packed.token_ids.dtype, packed.positions.dtype, packed.last_rows.dtype} == {torch.int64}


@given(
    batch=st.lists(st.lists(st.integers(0, 2**31), min_size=1, max_size=9), min_size=1, max_size=9)
)
def test_every_sequence_is_found_again_between_its_bounds(batch: list[list[int]]) -> None:
    packed = pack(batch, CPU)

    bounds = itertools.pairwise(packed.cu_seqlens.tolist())
    for (start, end), ids, last in zip(bounds, batch, packed.last_rows.tolist(), strict=True):
        assert packed.token_ids[start:end].tolist() == ids
        assert packed.positions[start:end].tolist() == list(range(len(ids)))
        assert last == end - 1
