"""The result cache: the right vector, the bound kept, the least recently used gone first."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hexgrid.encoding import Vectors
from hexgrid.engine.result_cache import ENTRY_BYTES, ResultCache

HIDDEN = 8
ENTRY = 4 * HIDDEN + ENTRY_BYTES


def row(number: int) -> Vectors:
    return np.full(HIDDEN, number, np.float32)


def key(number: int) -> bytes:
    return number.to_bytes(4, "big")


def test_what_was_put_is_found_and_nothing_else() -> None:
    cache = ResultCache(10 * ENTRY)

    cache.put(key(1), row(1))

    found = cache.get(key(1))
    assert found is not None
    assert found.tolist() == row(1).tolist()
    assert cache.get(key(2)) is None
    assert key(1) in cache
    assert key(2) not in cache


def test_a_kept_vector_is_a_copy_that_cannot_be_written_to() -> None:
    cache = ResultCache(10 * ENTRY)
    hidden = row(1)
    cache.put(key(1), hidden)
    hidden.fill(0)

    found = cache.get(key(1))

    assert found is not None
    assert found.tolist() == row(1).tolist()
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 2


def test_the_least_recently_used_goes_first() -> None:
    cache = ResultCache(3 * ENTRY)
    for number in (1, 2, 3):
        cache.put(key(number), row(number))
    cache.get(key(1))

    cache.put(key(4), row(4))

    assert [number for number in range(1, 5) if key(number) in cache] == [1, 3, 4]


@pytest.mark.parametrize("max_bytes", [0, ENTRY - 1])
def test_with_room_for_no_entry_nothing_is_kept(max_bytes: int) -> None:
    cache = ResultCache(max_bytes)

    cache.put(key(1), row(1))

    assert (len(cache), cache.num_bytes, cache.get(key(1))) == (0, 0, None)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=60), st.integers(0, 6))
def test_it_stays_within_its_bound_and_holds_what_was_used_last(
    steps: list[tuple[bool, int]], room: int
) -> None:
    cache = ResultCache(room * ENTRY)
    used: list[int] = []  # the last one last
    for put, number in steps:
        if put:
            cache.put(key(number), row(number))
        if put or number in used[-room:][:room]:
            cache.get(key(number))
            used = [other for other in used if other != number] + [number]
        cache.check_integrity()

    kept = used[-room:] if room else []
    assert [number for number in range(10) if key(number) in cache] == sorted(kept)
