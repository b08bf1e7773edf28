"""Causal attention over packed sequences, against softmax written out."""

import pytest
import torch

from hexgrid.model import attention
from hexgrid.model.attention import backend_for, flash, on_cpu, sdpa
from hexgrid.model.kv_cache import KVCache
from hexgrid.model.packing import Reuse, pack
from tests.checkpoints import random_ids
from tests.model.kernels import assert_near, written_out
from tests.model.running import CPU

LENGTHS = (1, 9, 4, 2)


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 2), (3, 3), (6, 1)])
def test_a_row_sees_its_own_sequence_up_to_itself(heads: int, kv_heads: int) -> None:
    torch.manual_seed(0)
    packed = pack(random_ids(LENGTHS), CPU)
    q, k, v = (torch.randn(sum(LENGTHS), n, 8) for n in (heads, kv_heads, kv_heads))

    (whole,) = packed.parts(100)

    assert_near(sdpa(q, k, v, whole), written_out(q, k, v, whole))


def test_a_lone_last_row_is_the_last_row_of_all() -> None:
    torch.manual_seed(0)
    packed = pack(random_ids(LENGTHS), CPU)
    q, k, v = (torch.randn(sum(LENGTHS), heads, 8) for heads in (4, 2, 2))

    lone = sdpa(q[packed.last_rows], k, v, packed.pooled())

    (whole,) = packed.parts(100)
    torch.testing.assert_close(lone, sdpa(q, k, v, whole)[packed.last_rows])


def test_rows_after_a_prefix_see_it_and_themselves(kv_cache: KVCache) -> None:
    torch.manual_seed(0)
    prefixes, ids = (0, 5, 3, 1), random_ids(LENGTHS)
    q, k, v = (torch.randn(sum(LENGTHS), heads, 8) for heads in (4, 2, 2))
    (whole,), last_rows = pack(ids, CPU).parts(100), pack(ids, CPU).last_rows
    packed = pack(ids, CPU, Reuse(kv_cache, [range(n) for n in prefixes], []))
    assert packed.prefixes is not None
    own = packed.prefixes.own_rows

    (part,) = packed.parts(100)
    found = sdpa(q[own], k, v, part)
    lone = sdpa(q[last_rows], k, v, packed.pooled())

    torch.testing.assert_close(found, sdpa(q, k, v, whole)[own])
    torch.testing.assert_close(lone, sdpa(q, k, v, whole)[last_rows])


@pytest.mark.parametrize("masked_rows", [3, 256])
def test_parts_of_a_long_sequence_give_what_the_whole_does(
    monkeypatch: pytest.MonkeyPatch, masked_rows: int
) -> None:
    monkeypatch.setattr(attention, "_MASKED_ROWS", masked_rows)
    torch.manual_seed(0)
    packed = pack(random_ids([2, 50, 3]), CPU)
    q, k, v = (torch.randn(55, heads, 8) for heads in (4, 2, 2))
    (whole,) = packed.parts(100)
    parts = packed.parts(16)

    found = torch.cat(
        [sdpa(q[each.rows], k[each.kv_rows], v[each.kv_rows], each) for each in parts]
    )

    assert len(parts) == 6
    torch.testing.assert_close(found, sdpa(q, k, v, whole))


@pytest.mark.parametrize(
    ("device", "dtype", "expected"),
    [
        ("cpu", torch.float32, on_cpu),
        ("cpu", torch.bfloat16, on_cpu),
        ("mps", torch.float16, sdpa),
        ("cuda", torch.float32, sdpa),
        ("cuda", torch.bfloat16, flash),
        ("cuda", torch.float16, flash),
    ],
)
def test_flash_is_for_sixteen_bits_on_cuda(
    device: str, dtype: torch.dtype, expected: object
) -> None:
    assert backend_for(torch.device(device), dtype) is expected
