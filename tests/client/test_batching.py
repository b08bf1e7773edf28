"""How calls are cut into requests: every input once and in order, within what one request may hold."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hexgrid.client.batching import Batch, Batches, Limits

lists = st.lists(st.text("ab", max_size=60), max_size=60)
sizes = st.integers(1, 40)


def drained(batches: Batches, refuse: Callable[[Batch], bool] = lambda _: False) -> list[Batch]:
    """What is taken and kept until nothing is left."""
    kept = []
    while (batch := batches.take()) is not None:
        if len(range(*batch)) > 1 and refuse(batch):
            batches.put_back(batch)
        else:
            kept.append(batch)
    return kept


def guessed(texts: list[str], limits: Limits) -> float:
    """Tokens of all; characters are added before they are multiplied, so that one rounding is all."""
    return len(texts) + sum(map(len, texts)) * limits.tokens_per_char


@given(lists, sizes, sizes)
def test_every_input_comes_once_in_order_and_within_the_limits(
    texts: list[str], max_tokens: int, max_inputs: int
) -> None:
    limits = Limits(max_tokens=max_tokens, max_inputs=max_inputs)

    found = drained(Batches(texts, limits))

    assert [i for batch in found for i in range(*batch)] == list(range(len(texts)))
    for start, stop in found:
        tokens = guessed(texts[start:stop], limits)
        assert stop - start == 1 or (tokens <= max_tokens and stop - start <= max_inputs)


@given(lists, sizes)
def test_no_batch_could_have_had_one_more(texts: list[str], max_tokens: int) -> None:
    limits = Limits(max_tokens=max_tokens, max_inputs=7)

    for start, stop in drained(Batches(texts, limits))[:-1]:
        tokens = guessed(texts[start : stop + 1], limits)
        assert tokens > max_tokens or stop - start == 7


@given(lists, st.randoms(use_true_random=False))
def test_what_is_put_back_comes_again_smaller(texts: list[str], chance: random.Random) -> None:
    limits = Limits(max_tokens=1000, max_inputs=100)

    found = drained(Batches(texts, limits), lambda _: chance.random() < 0.5)

    assert [i for batch in found for i in range(*batch)] == list(range(len(texts)))


def test_a_batch_that_is_always_refused_ends_as_its_inputs_one_by_one() -> None:
    found = drained(Batches(["a"] * 7, Limits(max_tokens=1000, max_inputs=100)), lambda _: True)

    assert found == [Batch(i, i + 1) for i in range(7)]


def test_ids_are_counted_and_not_guessed() -> None:
    batches = Batches([[1] * 5] * 6, Limits(max_tokens=10, max_inputs=100))

    assert drained(batches) == [Batch(0, 2), Batch(2, 4), Batch(4, 6)]


def test_the_number_of_requests_is_known_before() -> None:
    assert Batches(["a" * 27] * 10, Limits(max_tokens=20, max_inputs=100)).count() == 5
    assert Batches(["a"] * 10, Limits(max_tokens=1000, max_inputs=3)).count() == 4
    assert Batches([], Limits(max_tokens=1000, max_inputs=3)).count() == 1


def test_tokens_are_guessed_as_the_server_last_counted_them() -> None:
    limits = Limits(max_tokens=100, max_inputs=100)
    texts = ["a" * 100] * 100
    batches = Batches(texts, limits)
    first = batches.take()
    assert first == Batch(0, 2)

    batches.counted(first, num_tokens=2 + 4)  # and two EOS

    assert limits.tokens_per_char == pytest.approx(0.02, rel=0.2)
    second = batches.take()
    assert second is not None
    assert second.stop - second.start > 25


@pytest.mark.parametrize("num_tokens", [0, 2])
def test_a_count_that_says_nothing_teaches_nothing(num_tokens: int) -> None:
    limits = Limits(max_tokens=100, max_inputs=100)
    batches, before = Batches(["a", ""], limits), limits.tokens_per_char

    batches.counted(Batch(0, 2), num_tokens)

    assert limits.tokens_per_char == before


def test_limits_are_only_ever_lowered() -> None:
    limits = Limits(max_tokens=100, max_inputs=100)

    limits.lower(max_tokens=1000, max_inputs=1000)
    assert (limits.max_tokens, limits.max_inputs) == (100, 100)
    limits.lower(max_tokens=40, max_inputs=None)
    assert (limits.max_tokens, limits.max_inputs) == (30, 100)
    limits.lower(max_tokens=None, max_inputs=7)
    assert (limits.max_tokens, limits.max_inputs) == (30, 7)
    limits.lower(max_tokens=1, max_inputs=0)
    assert (limits.max_tokens, limits.max_inputs) == (1, 1)
