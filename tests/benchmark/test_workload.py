"""Texts of a load: of exactly the length that was asked for, never twice, the same for the same seed."""

import itertools

import pytest

from hexgrid.benchmark.workload import FEWEST_TOKENS, Workload
from hexgrid.engine.served_model import ServedModel


@pytest.fixture(scope="module")
def workload() -> Workload:
    return Workload()


@pytest.mark.parametrize("num_tokens", [FEWEST_TOKENS, 5, 16, 129, 1000])
def test_texts_have_exactly_so_many_tokens(
    workload: Workload, tiny_model: ServedModel, num_tokens: int
) -> None:
    for texts in itertools.islice(workload.requests(num_tokens, 5), 20):
        counts = [len(ids) for ids in tiny_model.tokenizer.encode(texts).token_ids]
        assert counts == [num_tokens] * 5


def test_no_two_texts_are_alike_however_short(workload: Workload) -> None:
    requests = itertools.islice(workload.requests(FEWEST_TOKENS, 4), 10_000)

    assert len({text for request in requests for text in request}) == 40_000


def test_the_same_seed_gives_the_same_texts() -> None:
    one, same, other = (next(Workload(seed).requests(8, 2)) for seed in (1, 1, 2))

    assert one == same != other
