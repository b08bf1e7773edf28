"""Scores against scipy, against values worked out by hand, and at their extremes."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from hexgrid.encoding import Vectors
from hexgrid.evaluation.scores import (
    Ranks,
    average_ranks,
    ndcg,
    rank_answers,
    recall,
    spearman,
)

# Few different values: ties are the rule.
COARSE = st.integers(min_value=-3, max_value=3).map(float)
PAIRS = st.integers(min_value=2, max_value=40).flatmap(
    lambda count: st.tuples(*[arrays(np.float64, count, elements=COARSE)] * 2)
)


def ranks(ahead: list[int], tied: list[int] | None = None) -> Ranks:
    return Ranks(np.array(ahead), np.array(tied or [1] * len(ahead)))


@given(arrays(np.float64, st.integers(1, 40), elements=COARSE))
def test_average_ranks_are_scipys(values: np.ndarray) -> None:
    assert average_ranks(values).tolist() == stats.rankdata(values).tolist()


@given(PAIRS)
def test_spearman_is_scipys_ties_and_all(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert math.isnan(spearman(a, b))  # scipy warns there, and says the same
    else:
        assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)


def test_spearman_looks_at_the_order_alone() -> None:
    scores = np.array([0.0, 1.0, 2.0, 5.0])

    assert spearman(np.exp(scores), scores) == pytest.approx(1.0)
    assert spearman(-np.exp(scores), scores) == pytest.approx(-1.0)


def test_recall_counts_the_answers_among_the_first() -> None:
    found = ranks([0, 1, 9, 10, 0])

    assert recall(found, 1) == 2 / 5
    assert recall(found, 10) == 4 / 5


def test_ndcg_falls_with_the_logarithm_of_the_rank() -> None:
    found = ranks([0, 1, 2, 9, 10])

    by_hand = (1 + 1 / math.log2(3) + 1 / 2 + 1 / math.log2(11) + 0) / 5
    assert ndcg(found, 10) == pytest.approx(by_hand)


def test_a_tie_scores_the_average_over_its_orders() -> None:
    # The second of three that tie behind one other: ranks 2, 3 and 4 are equally likely.
    found = ranks([1], [3])

    assert recall(found, 1) == 0
    assert recall(found, 3) == pytest.approx(2 / 3)
    assert ndcg(found, 3) == pytest.approx((1 / math.log2(3) + 1 / 2 + 0) / 3)


def test_one_vector_for_everything_finds_as_much_as_chance() -> None:
    same = np.ones((20, 4), dtype=np.float32)

    found = rank_answers(same, same, np.arange(20))

    assert recall(found, 1) == pytest.approx(1 / 20)
    assert recall(found, 10) == pytest.approx(10 / 20)


def test_a_perfect_ranking_scores_one_and_the_worst_zero() -> None:
    paragraphs = np.eye(11, dtype=np.float32)
    answers = np.arange(11)

    perfect = rank_answers(paragraphs, paragraphs, answers)
    worst = rank_answers(-paragraphs, paragraphs, answers)

    assert [recall(perfect, 1), recall(perfect, 10), ndcg(perfect, 10)] == [1, 1, 1]
    assert [recall(worst, 1), recall(worst, 10), ndcg(worst, 10)] == [0, 0, 0]


def test_fewer_paragraphs_than_are_looked_at_are_all_found() -> None:
    paragraphs = np.eye(3, dtype=np.float32)

    found = rank_answers(-paragraphs, paragraphs, np.arange(3))

    assert recall(found, 10) == 1
    assert ndcg(found, 10) == pytest.approx(0.5)


def test_ranks_by_hand() -> None:
    paragraphs = np.array([[1, 0], [0.8, 0.6], [0, 1], [0.8, 0.6]], dtype=np.float32)
    questions = np.array([[1, 0], [0, 1], [1, 0]], dtype=np.float32)

    found = rank_answers(questions, paragraphs, np.array([0, 3, 2]))

    assert found.num_ahead.tolist() == [0, 1, 3]
    assert found.num_tied.tolist() == [1, 2, 1]


def random_unit(rows: int, seed: int) -> Vectors:
    vectors = np.random.default_rng(seed).standard_normal((rows, 8)).astype(np.float32)
    unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


@pytest.mark.parametrize("max_similarities", [1, 45, 100, 10**6])
def test_blocks_of_any_size_give_the_ranks_of_a_full_sort(max_similarities: int) -> None:
    questions, paragraphs = random_unit(23, 0), random_unit(40, 1)
    answers = np.arange(23)[::-1].copy()

    found = rank_answers(questions, paragraphs, answers, max_similarities=max_similarities)

    order = np.argsort(-(questions @ paragraphs.T), axis=1)
    expected = [row.tolist().index(answer) for row, answer in zip(order, answers, strict=True)]
    assert found.num_ahead.tolist() == expected
    assert found.num_tied.tolist() == [1] * 23
