"""What vLLM's server has besides OpenAI's paths."""

from typing import Any, Literal

import msgspec

from hexgrid.wire.openai import EmbeddingRequest, Usage
from hexgrid.wire.shared import Asked, Message, Texts


class TokenizeRequest(msgspec.Struct, kw_only=True):
    """Body of POST /tokenize: a text, or one conversation."""

    prompt: str | None = None
    messages: list[Message] | None = None  # in place of `prompt`
    model: str | None = None
    add_special_tokens: bool | None = None  # true for a text, false for a conversation
    return_token_strs: bool | None = None
    add_generation_prompt: bool | None = None  # true, unlike on /v1/embeddings
    continue_final_message: bool | None = None
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class TokenizeResponse(msgspec.Struct, kw_only=True):
    """`token_strs` are the vocabulary's byte-level pieces, where asked for."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class DetokenizeRequest(msgspec.Struct, kw_only=True):
    """Body of POST /detokenize."""

    tokens: list[int]
    model: str | None = None


class DetokenizeResponse(msgspec.Struct, kw_only=True):
    """Special tokens are kept, unknown ids dropped."""

    prompt: str


class Version(msgspec.Struct, kw_only=True):
    """Answer of GET /version."""

    version: str


class ServerLoad(msgspec.Struct, kw_only=True):
    """Answer of GET /load: requests to embed that are being answered."""

    server_load: int


class PoolingRequest(EmbeddingRequest, kw_only=True):
    """Body of POST /pooling: that of /v1/embeddings, but for `dimensions`, and with a real `task`."""

    task: str | None = None  # type: ignore[assignment]


class Pooled(msgspec.Struct, kw_only=True):
    """One vector, as in `Embedding`."""

    index: int
    object: Literal["pooling"] = "pooling"
    data: list[float] | str


class PoolingResponse(msgspec.Struct, kw_only=True):
    """Answer of POST /pooling for the encodings float and base64."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[Pooled]
    usage: Usage


class Scoring(Asked, kw_only=True):
    """What /score and /rerank have in common."""

    instruction: str | None = None  # put before the queries as "Instruct: ...\nQuery:"
    max_tokens_per_query: int | None = None
    max_tokens_per_doc: int | None = None
    truncate_prompt_tokens: int | None = None
    truncation_side: Literal["left", "right"] | None = None
    use_activation: bool | None = None  # a cosine is the same either way
    request_id: str | None = None
    user: str | None = None


class ScoreRequest(Scoring, kw_only=True):
    """Body of POST /score: two sides by one of four pairs of names."""

    queries: Texts | None = None
    documents: Texts | None = None
    items: Texts | None = None
    data_1: Texts | None = None
    data_2: Texts | None = None
    text_1: Texts | None = None
    text_2: Texts | None = None


class Score(msgspec.Struct, kw_only=True):
    """The cosine of one pair."""

    index: int
    object: Literal["score"] = "score"
    score: float


class ScoreResponse(msgspec.Struct, kw_only=True):
    """Answer of POST /score."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[Score]
    usage: Usage


class RerankRequest(Scoring, kw_only=True):
    """Body of POST /rerank; `top_n` 0 means all."""

    query: str
    documents: Texts
    top_n: int | None = None


class RerankDocument(msgspec.Struct, kw_only=True):
    """The document itself."""

    text: str
    multi_modal: None = None


class RerankResult(msgspec.Struct, kw_only=True):
    """One document; `index` is its place in the request."""

    index: int
    document: RerankDocument
    relevance_score: float


class RerankUsage(msgspec.Struct, kw_only=True):
    """Tokens run through the model, the query counted once."""

    prompt_tokens: int
    total_tokens: int


class RerankResponse(msgspec.Struct, kw_only=True):
    """Answer of POST /rerank: best first."""

    id: str
    model: str
    usage: RerankUsage
    results: list[RerankResult]
