"""Text Embeddings Inference's POST /embed and /similarity, and GET /info."""

from typing import Literal

import msgspec

from hexgrid.wire.shared import Asked, TokenIds

TeiDirection = Literal["Left", "Right", "left", "right"]


class TeiEmbedRequest(Asked, kw_only=True):
    """Body of POST /embed."""

    inputs: str | list[str | int | TokenIds]
    truncate: bool | None = None
    truncation_direction: TeiDirection | None = None
    prompt_name: str | None = None
    normalize: bool | None = None
    dimensions: int | None = None


class TeiSentences(msgspec.Struct, kw_only=True):
    """What is compared with what."""

    source_sentence: str
    sentences: list[str]


class TeiSimilarityParameters(msgspec.Struct, kw_only=True):
    """How both sides are read."""

    truncate: bool | None = None
    truncation_direction: TeiDirection | None = None
    prompt_name: str | None = None


class TeiSimilarityRequest(Asked, kw_only=True):
    """Body of POST /similarity."""

    inputs: TeiSentences
    parameters: TeiSimilarityParameters | None = None


class TeiEmbeddingModel(msgspec.Struct, kw_only=True):
    """How a vector is read off."""

    pooling: str = "last_token"


class TeiModelType(msgspec.Struct, kw_only=True):
    """What the model is for."""

    embedding: TeiEmbeddingModel


class TeiInfo(msgspec.Struct, kw_only=True):
    """Answer of GET /info: the first model that the client may use."""

    model_id: str
    model_sha: str | None = None
    model_dtype: str
    model_type: TeiModelType
    max_concurrent_requests: int
    max_input_length: int
    max_batch_tokens: int
    max_batch_requests: int | None = None
    max_client_batch_size: int
    auto_truncate: bool = False
    tokenization_workers: int
    version: str
    sha: str | None = None
    docker_label: str | None = None
