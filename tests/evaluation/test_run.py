"""From texts to scores: each embedded once, in bounded batches; cut and normalised; prompts in their place.

Vectors come from small functions here, so that the right scores are known.
"""

import math

import numpy as np
import pytest
from scipy import stats

from hexgrid.encoding import Vectors
from hexgrid.errors import ConfigError
from hexgrid.evaluation.datasets import EvaluationSet, PairSet, RetrievalSet
from hexgrid.evaluation.report import as_data, table
from hexgrid.evaluation.run import Answer, Embed, Report, Result, evaluate, num_texts

WORDS = [f"word{i}" for i in range(12)]


def one_hot(texts: list[str]) -> Answer:
    """The number at a text's end picks the axis; a text without one is all zeros."""
    vectors = np.zeros((len(texts), len(WORDS)), dtype=np.float32)
    for row, text in zip(vectors, texts, strict=True):
        if text[-1].isdigit():
            row[int(text.lstrip("abcdefghijklmnopqrstuvwxyz:"))] = 3.0
    return Answer(vectors, 0)


def of_lengths(texts: list[str]) -> Answer:
    """Two numbers of each text, far from unit length."""
    return Answer(np.array([[len(text), text.count("x")] for text in texts], dtype=np.float32), 0)


def retrieval(questions: list[str], answers: list[int]) -> RetrievalSet:
    return RetrievalSet("words", questions, WORDS, np.array(answers, dtype=np.intp))


def pairs(left: list[str], right: list[str], scores: list[float]) -> PairSet:
    return PairSet("alike", left, right, np.array(scores))


def only(report: Report) -> Result:
    (result,) = report.results
    return result


def recorded(embed: Embed) -> tuple[Embed, list[list[str]]]:
    """`embed`, and the batches that it was asked for."""
    batches: list[list[str]] = []

    def record(texts: list[str]) -> Answer:
        batches.append(texts)
        return embed(texts)

    return record, batches


def test_answers_that_are_found_score_one() -> None:
    result = only(evaluate([retrieval(WORDS, list(range(12)))], one_hot))

    assert result.scores == {"recall@1": 1, "recall@10": 1, "ndcg@10": 1}
    assert (result.kind, result.rows, result.paragraphs, result.dimensions) == (
        "retrieval",
        12,
        12,
        12,
    )


def test_two_of_three_found_scores_two_thirds_and_the_tie_of_the_rest() -> None:
    result = only(evaluate([retrieval(["word0", "word1", "word2"], [0, 1, 3])], one_hot))

    assert result.scores["recall@1"] == pytest.approx(2 / 3)
    # The third's paragraph ties with ten others behind the first: ranks 2 to 12, of which 9 count.
    assert result.scores["recall@10"] == pytest.approx((2 + 9 / 11) / 3)


def test_pairs_are_scored_by_the_order_of_their_cosines() -> None:
    left, right = ["a", "ab", "xab", "xx"], ["xab", "xxb", "x", "x"]
    scores = [1.0, 2.0, 2.0, 5.0]

    result = only(evaluate([pairs(left, right, scores)], of_lengths))

    def cosine(a: Vectors, b: Vectors) -> float:
        return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))

    cosines = list(map(cosine, of_lengths(left).vectors, of_lengths(right).vectors))
    assert result.scores["spearman"] == pytest.approx(stats.spearmanr(cosines, scores).statistic)
    assert (result.kind, result.rows, result.paragraphs) == ("pairs", 4, None)


def test_one_cosine_for_all_pairs_has_no_score() -> None:
    report = evaluate([pairs(["a"] * 2, ["b"] * 2, [1.0, 2.0])], of_lengths)

    assert math.isnan(only(report).scores["spearman"])
    assert as_data(report)["results"][0]["spearman"] is None


def test_all_widths_come_from_one_pass_of_each_text() -> None:
    embed, batches = recorded(one_hot)

    report = evaluate([retrieval(WORDS, list(range(12)))], embed, dimensions=(12, 6))

    full, half = report.results
    assert len(batches) == 2
    assert (full.dimensions, full.scores["recall@1"]) == (12, 1)
    # Half of the words are zero there, and tie with everything.
    assert half.dimensions == 6
    assert half.scores["recall@1"] == pytest.approx((6 + 6 / 12) / 12)


def test_cut_vectors_are_normalised_again() -> None:
    # By dot product without it the longer paragraph would win.
    vectors = {"q": [1, 1, 0], "short": [2, 1, 9], "long": [9, 9, 0]}

    def embed(texts: list[str]) -> Answer:
        return Answer(np.array([vectors[text] for text in texts], dtype=np.float32), 0)

    data = RetrievalSet("r", ["q"], ["short", "long"], np.array([1], dtype=np.intp))
    full, cut = evaluate([data], embed, dimensions=(3, 1)).results

    assert full.scores["recall@1"] == 1
    assert cut.scores["recall@1"] == 0.5  # one dimension left: all are alike


def test_a_width_that_the_vectors_lack_is_refused_before_the_rest_is_embedded() -> None:
    embed, batches = recorded(one_hot)

    with pytest.raises(ConfigError, match=r"--dimensions 13: .* 1 to 12"):
        evaluate([retrieval(WORDS, list(range(12)))], embed, dimensions=(4, 13))
    assert len(batches) == 1


def test_the_prompt_stands_before_questions_and_nothing_else() -> None:
    embed, batches = recorded(one_hot)
    sets: list[EvaluationSet] = [
        pairs(["word1", "word2"], ["word1", "word3"], [1.0, 0.0]),
        retrieval(["word0"], [0]),
    ]

    evaluate(sets, embed, query_prompt="find:")

    assert batches == [["word1", "word2", "word1", "word3"], ["find:word0"], WORDS]


@pytest.mark.parametrize(
    ("texts", "sizes"),
    [
        (["x"] * 600, [256, 256, 88]),
        (["x" * 30_000] * 5, [2, 2, 1]),
        (["x" * 200_000, "x", "x" * 200_000], [1, 1, 1]),
    ],
)
def test_batches_are_bounded_in_number_and_length(texts: list[str], sizes: list[int]) -> None:
    embed, batches = recorded(of_lengths)
    counts: list[int] = []
    data = pairs(texts, texts, [float(i) for i in range(len(texts))])

    evaluate([data], embed, on_texts=counts.append)

    asked = [text for batch in batches for text in batch]
    assert asked == texts + texts
    assert counts == [len(batch) for batch in batches]
    assert counts[: len(sizes) - 1] == sizes[:-1]
    assert sum(counts) == num_texts([data])


@pytest.mark.parametrize(
    ("per_batch", "total"), [([0, 0], 0), ([2, 1], 3), ([2, None], None), ([None, 2], None)]
)
def test_cut_texts_are_added_up_unless_somebody_does_not_say(
    per_batch: list[int | None], total: int | None
) -> None:
    counts = iter(per_batch)

    report = evaluate(
        [retrieval(["word0"], [0])],
        lambda texts: one_hot(texts)._replace(num_truncated=next(counts)),
    )

    assert report.num_truncated == total


def result_of(**changes: object) -> Result:
    fields: dict[str, object] = {
        "set": "faq",
        "kind": "retrieval",
        "rows": 3,
        "paragraphs": 20,
        "dimensions": 64,
        "scores": {"recall@1": 0.5, "recall@10": 1.0, "ndcg@10": 0.71234},
    }
    return Result(**(fields | changes))  # type: ignore[arg-type]


def test_the_table_is_aligned() -> None:
    alike = result_of(
        set="a longer name", kind="pairs", rows=1000, paragraphs=None, scores={"spearman": -0.25}
    )

    header, *lines = table(Report([alike, result_of()], 0))

    assert [header, *lines] == [
        "set            kind          rows  dimensions  spearman  recall@1  recall@10  ndcg@10",
        "a longer name  pairs         1000          64   -0.2500",
        "faq            retrieval  3 on 20          64              0.5000     1.0000   0.7123",
    ]


@pytest.mark.parametrize(
    ("num_truncated", "last"),
    [(2, r"without their end: 2"), (None, "does not say whether it cut texts")],
)
def test_the_table_tells_of_cut_texts(num_truncated: int | None, last: str) -> None:
    assert last in list(table(Report([result_of()], num_truncated)))[-1]


def test_the_data_hold_each_set_and_width_with_its_scores() -> None:
    assert as_data(Report([result_of()], 2)) == {
        "num_truncated": 2,
        "results": [
            {
                "set": "faq",
                "kind": "retrieval",
                "rows": 3,
                "paragraphs": 20,
                "dimensions": 64,
                "recall@1": 0.5,
                "recall@10": 1.0,
                "ndcg@10": 0.71234,
            }
        ],
    }
