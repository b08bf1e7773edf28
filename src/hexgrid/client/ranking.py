"""Which documents are nearest to a query: cosines of vectors, and matches in order."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np

from hexgrid.encoding import Vectors


@dataclass(frozen=True)
class Match:
    """A document, by its place in the list that was given, and its cosine with the query."""

    index: int
    similarity: float
    document: str


def is_vectors(given: object) -> TypeGuard[Vectors]:
    """Whether these are vectors already, and not inputs: an array of floats."""
    return isinstance(given, np.ndarray) and given.dtype.kind == "f"


def ranked(
    query: Vectors, documents: Vectors, texts: Sequence[str], top: int | None
) -> list[Match]:
    """Matches of the vector [1, D] with those [N, D] of `texts`, nearest first, equal ones in their order."""
    if not texts:
        return []
    similarities = cosines(query, documents)[0]
    order = (-similarities).argsort(kind="stable")[:top]
    return [Match(int(i), float(similarities[i]), texts[i]) for i in order]


def cosines(left: Vectors, right: Vectors) -> Vectors:
    """[N, M] of vectors [N, D] and [M, D]; 0 with a vector of zeros."""
    found: Vectors = _unit(left) @ _unit(right).T
    return found


def _unit(vectors: Vectors) -> Vectors:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    norms[norms == 0] = 1
    unit: Vectors = vectors / norms
    return unit
