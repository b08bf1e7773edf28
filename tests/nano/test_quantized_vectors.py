"""What 8 bits or 1 bit a number cost in retrieval, with nano on 32 questions: the figures of docs/api.md."""

from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from hexgrid.encoding import Vectors
from hexgrid.engine.served_model import ServedModel
from hexgrid.evaluation.datasets import EvaluationSet, RetrievalSet
from hexgrid.quantized import dequantize, quantize
from hexgrid.wire import QuantizedDtype
from tests.nano.test_quality import vectors

FLOAT_RIGHT_FIRST = 0.94


class Found(NamedTuple):
    """Shares of the ten paragraphs that floats find, and of the questions whose first paragraph is right."""

    recall: float
    right_first: float


class Searched(NamedTuple):
    """A retrieval set and its float vectors."""

    data: RetrievalSet
    questions: Vectors
    paragraphs: Vectors

    def found(self, questions: Vectors, paragraphs: Vectors) -> Found:
        exact = nearest(self.questions, self.paragraphs)
        order = nearest(questions, paragraphs)
        shared = [len(set(a) & set(b)) / 10 for a, b in zip(exact, order, strict=True)]
        return Found(float(np.mean(shared)), float((order[:, 0] == self.data.answers).mean()))


def nearest(questions: Vectors, paragraphs: Vectors) -> NDArray[np.intp]:
    """The ten paragraphs nearest to each question by cosine: [Q, 10]."""
    return np.argsort(-(questions @ paragraphs.T), axis=1, kind="stable")[:, :10]


def there_and_back(vectors: Vectors, dtype: QuantizedDtype) -> Vectors:
    return dequantize(quantize(vectors, dtype), dtype)


@pytest.fixture(scope="module")
def searched(nano_model: ServedModel, sets: list[EvaluationSet]) -> Searched:
    (data,) = (each for each in sets if isinstance(each, RetrievalSet))
    return Searched(data, vectors(nano_model, data.questions), vectors(nano_model, data.paragraphs))


def test_floats_find_what_the_page_says(searched: Searched) -> None:
    found = searched.found(searched.questions, searched.paragraphs)

    assert found.recall == 1
    assert found.right_first == pytest.approx(FLOAT_RIGHT_FIRST, abs=0.01)


@pytest.mark.parametrize(
    ("dtype", "least"),
    [("int8", Found(0.96, 0.9)), ("uint8", Found(0.96, 0.9)), ("binary", Found(0.6, 0.75))],
)
def test_what_floats_find_is_found_with_fewer_bits(
    searched: Searched, dtype: QuantizedDtype, least: Found
) -> None:
    questions, paragraphs = (
        there_and_back(each, dtype) for each in (searched.questions, searched.paragraphs)
    )

    found = searched.found(questions, paragraphs)

    assert found.recall >= least.recall
    assert found.right_first >= least.right_first


def test_float_questions_find_more_among_binary_paragraphs(searched: Searched) -> None:
    paragraphs = there_and_back(searched.paragraphs, "binary")
    both = searched.found(there_and_back(searched.questions, "binary"), paragraphs)

    found = searched.found(searched.questions, paragraphs)

    assert found.recall > both.recall
    assert found.right_first >= 0.87
