"""Ollama's POST /api/embed and /api/embeddings; GET /api/tags and /api/version, asked before those."""

from typing import Any

import msgspec

from hexgrid.wire.shared import Asked


class OllamaOptions(msgspec.Struct, kw_only=True):
    """Of Ollama's many options, the one that says something of an embedding; the others are ignored."""

    num_ctx: int | None = None


class OllamaEmbedRequest(Asked, kw_only=True):
    """Body of POST /api/embed."""

    input: str | list[str] | None = None
    truncate: bool | None = None
    dimensions: int | None = None
    options: OllamaOptions | None = None
    keep_alive: Any = None  # models stay loaded


class OllamaEmbedResponse(msgspec.Struct, kw_only=True):
    """Answer of POST /api/embed; durations are nanoseconds."""

    model: str
    embeddings: list[list[float]]
    total_duration: int
    load_duration: int
    prompt_eval_count: int


class OllamaEmbeddingsRequest(Asked, kw_only=True):
    """Body of POST /api/embeddings, which /api/embed has replaced."""

    prompt: str | None = None
    options: OllamaOptions | None = None
    keep_alive: Any = None


class OllamaEmbeddingsResponse(msgspec.Struct, kw_only=True):
    """Answer of POST /api/embeddings: the hidden state, not normalised, as Ollama gives it."""

    embedding: list[float]


class OllamaModelDetails(msgspec.Struct, kw_only=True):
    """Of what kind a model is."""

    parent_model: str = ""
    format: str = "safetensors"
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class OllamaModel(msgspec.Struct, kw_only=True):
    """One served name. `digest` is of name and shape, not of the weights; `size` counts parameters' bytes."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: OllamaModelDetails


class OllamaModels(msgspec.Struct, kw_only=True):
    """Answer of GET /api/tags."""

    models: list[OllamaModel]
