"""The scores, in numpy alone: Spearman's correlation, and recall and nDCG of exact retrieval.

Shapes: N pairs, Q questions, D paragraphs, H dimensions. Ties are never broken by the order of the data: tied
values share their average rank, and a question whose paragraph ties with others scores what a random order of
them would give on average. So a model that gives all texts one vector finds nothing.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hexgrid.encoding import Vectors

# Similarities held at a time: 64 MiB of float32.
_MAX_SIMILARITIES = 2**24


class Ranks(NamedTuple):
    """How each question's paragraph does among all D."""

    num_ahead: NDArray[np.int64]  # [Q], paragraphs more similar than the right one
    num_tied: NDArray[np.int64]  # [Q], as similar as the right one, which is among them


def spearman(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Spearman's rank correlation of two lists [N]; NaN where all values of one are equal."""
    first, second = (ranks - ranks.mean() for ranks in (average_ranks(a), average_ranks(b)))
    spread = np.sqrt((first @ first) * (second @ second))
    return float(first @ second / spread) if spread else float("nan")


def average_ranks(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Ranks from 1 up [N]; equal values share the mean of the ranks that they take up."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = np.cumsum(counts) - (counts - 1) / 2
    return ranks[places]


def rank_answers(
    questions: Vectors,
    paragraphs: Vectors,
    answers: NDArray[np.intp],
    *,
    max_similarities: int = _MAX_SIMILARITIES,
) -> Ranks:
    """Compare every question [Q, H] with every paragraph [D, H] by dot product, in blocks of questions.

    `answers` [Q] is the place of each question's paragraph. A block holds at most `max_similarities` numbers,
    or one question's.
    """
    num_ahead = np.empty(len(questions), dtype=np.int64)
    num_tied = np.empty_like(num_ahead)
    step = max(1, max_similarities // len(paragraphs))
    for start in range(0, len(questions), step):
        block = slice(start, start + step)
        similarities = questions[block] @ paragraphs.T
        right = np.take_along_axis(similarities, answers[block, None], axis=1)
        num_ahead[block] = (similarities > right).sum(axis=1)
        num_tied[block] = (similarities == right).sum(axis=1)
    return Ranks(num_ahead, num_tied)


def recall(ranks: Ranks, at: int) -> float:
    """The share of questions whose paragraph is among the first `at`."""
    return _mean_gain(ranks, np.ones(at))


def ndcg(ranks: Ranks, at: int) -> float:
    """Normalised discounted cumulative gain of the first `at`; 1 / log2(1 + rank), as one alone is right."""
    return _mean_gain(ranks, 1 / np.log2(np.arange(2, at + 2)))


def _mean_gain(ranks: Ranks, gains: NDArray[np.float64]) -> float:
    """The mean of `gains[rank - 1]` (0 past their end), over the questions and over the ranks of each tie."""
    sums = np.concatenate(([0.0], np.cumsum(gains)))
    last = len(gains)
    first = np.minimum(ranks.num_ahead, last)
    end = np.minimum(ranks.num_ahead + ranks.num_tied, last)
    return float(((sums[end] - sums[first]) / ranks.num_tied).mean())
