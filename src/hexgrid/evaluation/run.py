"""Embeds evaluation sets and scores them. Every text is embedded once, at full width, for all dimensions."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from hexgrid.encoding import Vectors
from hexgrid.errors import ConfigError
from hexgrid.evaluation.datasets import EvaluationSet, PairSet, RetrievalSet
from hexgrid.evaluation.scores import ndcg, rank_answers, recall, spearman
from hexgrid.model import pooling

# Texts embedded at a time: what servers take in a request, and steps of the progress bar that are about even.
MAX_TEXTS = 256
_MAX_CHARS = 65_536


class Answer(NamedTuple):
    """Vectors of some texts, [B, H] of any length, and how many texts were cut (None: nobody says)."""

    vectors: Vectors
    num_truncated: int | None


# At most MAX_TEXTS texts -> their full-width vectors.
Embed = Callable[[list[str]], Answer]


@dataclass(frozen=True, kw_only=True)
class Result:
    """One set's scores at one width."""

    set: str
    kind: Literal["pairs", "retrieval"]
    rows: int  # pairs, or questions
    paragraphs: int | None  # of a retrieval set
    dimensions: int
    scores: dict[str, float]  # by name; NaN where a score is not defined


@dataclass(frozen=True)
class Report:
    """All results, and how many texts the model cut for being too long (None: the server does not say)."""

    results: list[Result]
    num_truncated: int | None


def evaluate(
    sets: Sequence[EvaluationSet],
    embed: Embed,
    *,
    dimensions: Sequence[int] = (),
    query_prompt: str = "",
    on_texts: Callable[[int], None] = lambda _: None,
) -> Report:
    """Score `sets` with the vectors of `embed`, at each of `dimensions` (none: full width).

    `query_prompt` stands before the questions of retrieval sets, and before nothing else. `on_texts` is told
    how many texts were embedded since it was last called.

    Raises:
        ConfigError: one of `dimensions` is more than the vectors have.
        HexgridError: what `embed` raises.
    """
    source = _Source(embed, dimensions, on_texts)
    results: list[Result] = []
    for each in sets:
        if isinstance(each, PairSet):
            results += _score_pairs(each, source)
        else:
            results += _score_retrieval(each, source, query_prompt)
    return Report(results, source.num_truncated)


def num_texts(sets: Sequence[EvaluationSet]) -> int:
    """How many texts `evaluate` embeds: the total for a progress bar."""
    return sum(
        2 * len(each.left)
        if isinstance(each, PairSet)
        else len(each.questions) + len(each.paragraphs)
        for each in sets
    )


class _Source:
    """Where vectors come from; counts what was cut on the way."""

    def __init__(
        self, embed: Embed, dimensions: Sequence[int], on_texts: Callable[[int], None]
    ) -> None:
        self._embed = embed
        self._dimensions = dimensions
        self._on_texts = on_texts
        self.num_truncated: int | None = 0

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Full-width vectors [N, H] of any number of texts."""
        vectors = []
        for batch in batches(texts):
            answer = self._embed(batch)
            self._check_width(answer.vectors.shape[1])
            vectors.append(answer.vectors)
            self._count(answer.num_truncated)
            self._on_texts(len(batch))
        return np.concatenate(vectors)

    def widths(self, vectors: Vectors) -> Sequence[int]:
        """The dimensions at which vectors [N, H] are scored."""
        return self._dimensions or (vectors.shape[1],)

    def _check_width(self, most: int) -> None:
        for wanted in self._dimensions:
            if not 1 <= wanted <= most:
                raise ConfigError(
                    f"--dimensions {wanted}: the vectors of this model can be cut to 1 to {most}"
                )

    def _count(self, num_truncated: int | None) -> None:
        if num_truncated is None or self.num_truncated is None:
            self.num_truncated = None
        else:
            self.num_truncated += num_truncated


def _score_pairs(data: PairSet, source: _Source) -> Iterator[Result]:
    full = source.embed([*data.left, *data.right])
    for width in source.widths(full):
        left, right = np.split(pooling.finish(full, dimensions=width, normalize=True), 2)
        cosines = np.einsum("nh,nh->n", left, right, dtype=np.float64)
        yield Result(
            set=data.name,
            kind="pairs",
            rows=len(data.scores),
            paragraphs=None,
            dimensions=width,
            scores={"spearman": spearman(cosines, data.scores)},
        )


def _score_retrieval(data: RetrievalSet, source: _Source, query_prompt: str) -> Iterator[Result]:
    all_questions = source.embed([query_prompt + text for text in data.questions])
    all_paragraphs = source.embed(data.paragraphs)
    for width in source.widths(all_questions):
        questions, paragraphs = (
            pooling.finish(each, dimensions=width, normalize=True)
            for each in (all_questions, all_paragraphs)
        )
        ranks = rank_answers(questions, paragraphs, data.answers)
        yield Result(
            set=data.name,
            kind="retrieval",
            rows=len(data.questions),
            paragraphs=len(data.paragraphs),
            dimensions=width,
            scores={
                "recall@1": recall(ranks, 1),
                "recall@10": recall(ranks, 10),
                "ndcg@10": ndcg(ranks, 10),
            },
        )


def batches(texts: Sequence[str]) -> Iterator[list[str]]:
    """`texts` in order, in runs of bounded number and length; a longer text goes alone."""
    batch: list[str] = []
    num_chars = 0
    for text in texts:
        if batch and (len(batch) == MAX_TEXTS or num_chars + len(text) > _MAX_CHARS):
            yield batch
            batch, num_chars = [], 0
        batch.append(text)
        num_chars += len(text)
    yield batch
