"""Published numbers of the real Qwen3-Embedding models, with sources: what `hexgrid verify` compares."""

from pathlib import Path

import msgspec

_FILE = Path(__file__).with_name("published.json")


class TokenIdsReference(msgspec.Struct, frozen=True):
    """The ids that every size's tokenizer gives a text."""

    text: str
    ids: list[int]
    source: str


class SimilarityReference(msgspec.Struct, frozen=True):
    """Dot products of normalised vectors: `scores[i][j]` of query i (its prompt included) and document j."""

    size: str
    source: str
    queries: list[str]
    documents: list[str]
    scores: list[list[float]]
    tolerance: float | None  # the source's own, where it states a wider one than ours


class VectorReference(msgspec.Struct, frozen=True):
    """A text's normalised vector, or the part of it that begins at `first`."""

    size: str
    source: str
    text: str
    first: int
    values: list[float]


class Published(msgspec.Struct, frozen=True):
    """All published numbers."""

    licence: str
    token_ids: TokenIdsReference
    similarities: list[SimilarityReference]
    vectors: list[VectorReference]


def load_published() -> Published:
    """Read the package's own file."""
    return msgspec.json.decode(_FILE.read_bytes(), type=Published)
