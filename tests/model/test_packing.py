"""Sequences laid end to end."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hexgrid.model.kv_cache import KVCache
from hexgrid.model.packing import Reuse, pack
from tests.model.running import CPU


def test_a_batch_is_laid_end_to_end() -> None:
    packed = pack([[7, 8, 9], [5], [1, 2]], CPU)

    assert packed.token_ids.tolist() == [7, 8, 9, 5, 1, 2]
    assert packed.positions.tolist() == [0, 1, 2, 0, 0, 1]
    assert packed.last_rows.tolist() == [2, 3, 5]
    assert packed.lengths == (3, 1, 2)
    (part,) = packed.parts(6)
    assert (part.rows, part.kv_rows) == (slice(0, 6), slice(0, 6))
    assert part.cu_seqlens_q.tolist() == part.cu_seqlens_kv.tolist() == [0, 3, 4, 6]


def test_kernels_get_the_integers_they_ask_for() -> None:
    packed = pack([[1]], CPU)

    (part,) = packed.parts(1)
    assert part.cu_seqlens_q.dtype == part.cu_seqlens_kv.dtype == torch.int32
    assert {packed.token_ids.dtype, packed.positions.dtype, packed.last_rows.dtype} == {torch.int64}


def test_tokens_whose_keys_are_at_hand_are_left_out(kv_cache: KVCache) -> None:
    reuse = Reuse(kv_cache, read_slots=[[4, 5], [], [0, 1, 2]], kept=[(1, 0, 6), (2, 3, 7)])

    packed = pack([[7, 8, 9], [5, 6], [1, 2, 3, 4]], CPU, reuse)

    assert packed.token_ids.tolist() == [9, 5, 6, 4]
    assert packed.positions.tolist() == [2, 0, 1, 3]
    assert packed.last_rows.tolist() == [0, 2, 3]
    assert (packed.lengths, packed.kv_lengths) == ((1, 2, 1), (3, 2, 4))
    (part,) = packed.parts(4)
    assert (part.rows, part.kv_rows) == (slice(0, 4), slice(0, 9))
    assert part.cu_seqlens_q.tolist() == [0, 1, 3, 4]
    assert part.cu_seqlens_kv.tolist() == [0, 3, 5, 9]
    prefixes = packed.prefixes
    assert prefixes is not None
    assert prefixes.own_rows.tolist() == [2, 3, 4, 8]
    assert (prefixes.read_rows.tolist(), prefixes.read_slots.tolist()) == (
        [0, 1, 5, 6, 7],
        [4, 5, 0, 1, 2],
    )
    assert (prefixes.kept_rows.tolist(), prefixes.kept_slots.tolist()) == ([3, 8], [6, 7])


def test_without_a_cache_keys_are_those_of_the_tokens() -> None:
    packed = pack([[7, 8, 9], [5]], CPU)

    assert packed.prefixes is None
    assert packed.kv_lengths == packed.lengths


def test_sequences_go_through_a_layer_whole_where_they_fit(kv_cache: KVCache) -> None:
    reuse = Reuse(kv_cache, read_slots=[[], [0, 1], [], []], kept=[])
    packed = pack([[1] * 3, [2] * 11, [3] * 2, [4] * 2], CPU, reuse)

    parts = packed.parts(4)

    assert [part.rows for part in parts] == [
        *(slice(0, 3), slice(3, 7), slice(7, 11), slice(11, 12), slice(12, 16)),
    ]
    assert [part.kv_rows for part in parts] == [
        *(slice(0, 3), slice(3, 9), slice(3, 13), slice(3, 14), slice(14, 18)),
    ]
    assert [part.q_lengths for part in parts] == [(3,), (4,), (4,), (1,), (2, 2)]
    assert [part.kv_lengths for part in parts] == [(3,), (6,), (10,), (11,), (2, 2)]
    assert packed.pooled().q_lengths == (1, 1, 1, 1)
    assert packed.pooled().kv_rows == slice(0, 18)


@pytest.mark.parametrize("most_scores", [1, 7, 30, 1_000])
def test_pieces_of_a_part_see_as_much_as_it_does(kv_cache: KVCache, most_scores: int) -> None:
    packed = pack([[1] * 23], CPU, Reuse(kv_cache, read_slots=[[0, 1]], kept=[]))

    for part in packed.parts(8):
        pieces = part.pieces(most_scores)

        rows = [row for each in pieces for row in range(each.rows.start, each.rows.stop)]
        assert rows == list(range(part.rows.start, part.rows.stop))
        assert pieces[-1].kv_lengths == part.kv_lengths
        for each in pieces:
            assert each.num_rows == 1 or each.num_rows * part.kv_lengths[0] <= most_scores
            assert each.kv_rows == slice(0, 2 + each.rows.stop)
            assert each.kv_lengths == (2 + each.rows.stop,)
            assert each.cu_seqlens_q.tolist() == [0, each.num_rows]
            assert each.cu_seqlens_kv.tolist() == [0, *each.kv_lengths]


def test_sequences_that_go_together_are_one_piece() -> None:
    (part,) = pack([[1] * 3, [2] * 3], CPU).parts(10)

    assert part.pieces(1) == [part]


@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=9), most_rows=st.integers(1, 40))
def test_parts_hold_every_row_once_and_no_more_than_they_may(
    lengths: list[int], most_rows: int
) -> None:
    parts = pack([[7] * length for length in lengths], CPU).parts(most_rows)

    rows = [row for part in parts for row in range(part.rows.start, part.rows.stop)]
    assert rows == list(range(sum(lengths)))
    for part in parts:
        assert part.rows.stop - part.rows.start == sum(part.q_lengths) <= most_rows
        assert part.kv_rows.stop == part.rows.stop  # without a prefix, up to themselves


@given(
    batch=st.lists(st.lists(st.integers(0, 2**31), min_size=1, max_size=9), min_size=1, max_size=9)
)
def test_every_sequence_is_found_again_between_its_bounds(batch: list[list[int]]) -> None:
    packed = pack(batch, CPU)

    (part,) = packed.parts(100)
    bounds = itertools.pairwise(part.cu_seqlens_q.tolist())
    for (start, end), ids, last in zip(bounds, batch, packed.last_rows.tolist(), strict=True):
        assert packed.token_ids[start:end].tolist() == ids
        assert packed.positions[start:end].tolist() == list(range(len(ids)))
        assert last == end - 1
